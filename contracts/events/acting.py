"""What the executor is told to do, how far it has come, and how it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.events.base import Message, Name
from contracts.events.deciding import ActionSpec
from contracts.events.kinds import ActionKind, Mode
from contracts.laws.ids import cause_id


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Action(Message):
    """An approved action. Topic `optiinfra.actions.v1`, key workload. Written by stage `arbiter`, read by the executor.

    `target` is what it changes (`chat/replicas`, see `target_of`): one action at a time gives orders to it. `preempts`
    names an action of the same target that must be stopped and compensated first, `beside` earlier scale-ups of it that
    were under way. `cause_ms` is the event time of the scrape behind it. One that is not begun by `start_by_ms` is
    refused as stale. The arbiter may say it again, unchanged, when no outcome comes.

    `least_replicas` and `most_replicas` (None: no limit) are the workload's limits, for whoever sees the fleet itself:
    what takes replicas leaves at least the one, what adds some makes no more than the other, those that start counted.
    """

    TYPE: ClassVar[str] = "optiinfra.actions.v1"

    workload: Name
    target: Name
    candidate_id: Name
    decision_id: Name
    rule: Name
    priority: int = Field(ge=0, le=65_535)
    spec: ActionSpec
    mode: Mode
    approved_by: Name = Field(description="`mode:autonomous`, or the person who approved")
    preempts: str = ""
    beside: tuple[Name, ...] = Field(default=(), max_length=100)
    least_replicas: int = Field(default=0, ge=0)
    most_replicas: int | None = None
    at_ms: int
    cause_ms: int
    start_by_ms: int

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return action_id(self.candidate_id, self.target)

    @property
    def gateway_limits(self) -> dict[str, float]:
        """What it sets at a gateway, as that is told it: a breaker is open until a time, counted from the decision."""
        limits = dict(self.spec.settings) if self.spec.kind.gateway_setting else {}
        if (for_s := limits.pop("breaker_s", None)) is not None:
            limits["breaker_until_ms"] = self.at_ms + for_s * 1000 if for_s else 0.0
        return limits


def action_id(candidate_id: str, target: str) -> str:
    """An action's id derives from its candidate and target: whoever decides twice decides the same action."""
    return cause_id("action", candidate_id, target)


def target_of(workload: str, kind: ActionKind) -> str:
    """What an action changes: `chat/replicas`, `chat/engine` or `chat/router`. A name that leaves no room for more is
    cut, and told apart by its hash."""
    room = 200 - len("/replicas")
    name = workload if len(workload) <= room else f"{workload[:150]}~{cause_id(workload)}"
    return f"{name}/{kind.part}"


class EndState(StrEnum):
    """How an action ended. `verified`: its effect was seen. `undone`: taken back. `held_unverified`: left as it is,
    and people are told. `refused`: nothing was done. `failed`: it could not be done, and nothing of it is left."""

    VERIFIED = "verified"
    UNDONE = "undone"
    HELD_UNVERIFIED = "held_unverified"
    REFUSED = "refused"
    FAILED = "failed"


class StepKind(StrEnum):
    """What a controller can do in one step. Its undo is the way back: add → retire, drain → restore.

    `retune` drains a replica, restarts it with other engine settings, and is done when it serves again; its undo
    restarts it with those that it had before. `weigh` sets the shares of requests; its undo sets those before. `limit`
    sets what a gateway lets through; its undo sets what it let through before.
    """

    ADD = "add"
    DRAIN = "drain"
    REMOVE = "remove"
    RETUNE = "retune"
    WEIGH = "weigh"
    LIMIT = "limit"

    @property
    def part(self) -> str:
        """The part of a workload that it changes, as of the actions that it is a step of; `limit` is one of several."""
        parts = {StepKind.RETUNE: "engine", StepKind.WEIGH: "router", StepKind.LIMIT: "gateway"}
        return parts.get(self, "replicas")


class PlanStep(_Part):
    """One step of a plan. `subject` is the replica it is about, empty where the controller is to choose (add), all are
    meant (weigh), or those to be launched (retune). A `final` step cannot be taken back: it comes after the trial, when
    the guards have held. `settings` are those of a retune (flags not named stay as they are) or of a limit, which has
    in `before` what it found; `by_replica` are the shares of a weigh."""

    kind: StepKind
    subject: str = ""
    final: bool = False
    settings: dict[Name, float] = Field(default={}, max_length=50)
    by_replica: dict[Name, float] = Field(default={}, max_length=1000)
    before: dict[Name, float] = Field(default={}, max_length=50)

    @model_validator(mode="after")
    def _what_its_kind_needs(self) -> Self:
        if bool(self.settings) != (self.kind in (StepKind.RETUNE, StepKind.LIMIT)):
            raise ValueError(f"a retune has settings, and a {self.kind} came with {self.settings or 'none'}")
        if self.before.keys() != (self.settings.keys() if self.kind is StepKind.LIMIT else set()):
            raise ValueError(f"a limit says what it found, and a {self.kind} came with {self.before or 'none'}")
        if bool(self.by_replica) != (self.kind is StepKind.WEIGH):
            raise ValueError(f"a weigh has shares, and a {self.kind} came with {self.by_replica or 'none'}")
        return self


class Plan(_Part):
    """Steps in order, made once from what was observed, stored before anything is done, and never made anew."""

    steps: tuple[PlanStep, ...] = Field(min_length=1, max_length=100)
    replicas_before: int = Field(ge=0, description="replicas in service when it was made")
    manual_changes: int = Field(ge=0, description="changes by hand that the controller had counted by then")


class Outcome(Message):
    """How an action ended. Topic `optiinfra.outcomes.v1`, key workload, public. Written by the executor.

    `began_ms` is when its first step was applied (None: none was), `at_ms` when it ended. `expect_met` and `goal_met`
    are None where nothing fresh could be seen. `before` and `after` hold the SLIs that its effect speaks of.
    """

    TYPE: ClassVar[str] = "optiinfra.outcomes.v1"

    action: Action
    end_state: EndState
    reasons: tuple[str, ...] = Field(default=(), max_length=30, description="codes of contracts, the first decided")
    detail: str = Field(default="", max_length=2000)
    began_ms: int | None = None
    at_ms: int
    steps_applied: int = Field(default=0, ge=0)
    steps_undone: int = Field(default=0, ge=0)
    expect_met: bool | None = None
    goal_met: bool | None = None
    before: dict[str, float] = {}
    after: dict[str, float] = {}

    @property
    def key(self) -> str:
        return self.action.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("outcome", self.action.id)


class AuditEntry(Message):
    """One line of the audit log. Topic `optiinfra.audit.v1`, key workload; written from the ledger, where the line was
    made in one step with the change it tells of.

    `hash` is SHA-256 over `previous` and the line, so that a line changed, dropped or put in breaks the chain.
    """

    TYPE: ClassVar[str] = "optiinfra.audit.v1"

    number: int = Field(ge=1)
    workload: Name
    subject: Name = Field(description="an action id, or what a person set")
    what: Name = Field(description="the phase that an action came to, or the kind of control")
    actor: Name
    detail: str = Field(default="", max_length=2000)
    at_ms: int
    at_wall_ms: int
    previous: str = ""
    hash: str = ""

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("audit", self.number, self.hash)
