"""What people say to the arbiter, and what they do to a fleet without asking it."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from contracts.events.base import Message, Name
from contracts.events.kinds import Mode
from contracts.laws.ids import cause_id

MANUAL_CHANGE = "manual_change"
"""The name of the event that tells of a change by hand."""
GATEWAY_CHANGE = "gateway_change"
"""The name of the event that tells what a gateway lets through now."""


class Approval(Message):
    """A person's yes or no to a decision. Topic `optiinfra.approvals.v1`, key workload; read by stage `arbiter`.

    Written by the CLI and the console; `at_wall_ms` is wall time, in which approvals expire.
    """

    TYPE: ClassVar[str] = "optiinfra.approvals.v1"

    workload: Name
    decision_id: Name
    approve: bool
    actor: Name
    reason: str = Field(default="", max_length=1000)
    at_wall_ms: int
    at_ms: int

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("approval", self.decision_id, self.actor, self.at_wall_ms, int(self.approve))


class ControlKind(StrEnum):
    """What a person can set."""

    MODE = "mode"
    KILL = "kill"
    RESUME = "resume"


class Control(Message):
    """A person sets the mode of a workload, or stops and resumes all action on it.

    Topic `optiinfra.controls.v1`, key workload; read by stage `arbiter`. The ledger holds the same, and is what the
    executor asks before each step: a switch that was thrown holds even while the broker is away. `at_wall_ms` orders
    them: an older one changes nothing.
    """

    TYPE: ClassVar[str] = "optiinfra.controls.v1"

    workload: Name
    kind: ControlKind
    mode: Mode | None = None
    actor: Name
    reason: str = Field(default="", max_length=1000)
    at_wall_ms: int
    at_ms: int

    @model_validator(mode="after")
    def _mode_with_mode(self) -> Self:
        if (self.kind is ControlKind.MODE) != (self.mode is not None):
            raise ValueError("a mode belongs to `kind: mode`, and to no other")
        return self

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("control", self.workload, self.kind, self.mode or "", self.actor, self.at_wall_ms)


class FleetEvent(Message):
    """Something happened to a fleet: a change by hand, or by whomever at its gateway, which now has these `limits`.

    Topic `optiinfra.events.v1`, key workload. Written by connectors, read by stage `arbiter`, which yields to a person,
    and by stage `resource`. `number` counts the workload's changes, so that a repeat is known as one.
    """

    TYPE: ClassVar[str] = "optiinfra.events.v1"

    workload: Name
    name: Name = Field(description="stable, as `MANUAL_CHANGE`")
    number: int = Field(ge=0)
    at_ms: int
    summary: str = Field(default="", max_length=2000)
    limits: dict[Name, int] = Field(default={}, max_length=50)

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("event", self.workload, self.name, self.number, self.at_ms)
