"""What the ledger keeps under one field of Redis: a record with its writer, a switch with its rank; words on them."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from contracts.events import ActionKind, Control, ControlKind, Mode, Refusal
from contracts.ledger import ActionRecord, Mark, Switches

LEDGER_LOST: Final = Refusal.LEDGER_LOST.value
"""Why the fleet is stopped after a loss: `Switches.killed_why`, until a person resumes the fleet."""

GATEWAY_PARTS: Final = frozenset(kind.part for kind in ActionKind if kind.gateway_setting)
"""Ends of the targets of what is done at gateways."""
NARROW: Final = {Mode.AUTONOMOUS: 0, Mode.SEMI_AUTONOMOUS: 1, Mode.ADVISORY: 2}
"""How narrow each mode is: the higher, the less is done without people."""

_STRICT: Final = {ControlKind.RESUME: 0, ControlKind.KILL: 1}
_LOSS_RANK: Final = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KeptRecord(_Part):
    """A record with its writer, so that a write whose answer was lost is known from another's."""

    by: str = ""
    record: ActionRecord


class KeptSwitch(_Part):
    """What stands in one field of the switches. Of two set at the same moment the higher `rank` stands."""

    killed: bool = False
    lost: bool = False
    mode: Mode | None = None
    why: str
    rank: int
    at_wall_ms: int

    @classmethod
    def of(cls, control: Control) -> Self:
        """What a person sets."""
        why = f"{control.actor}: {control.reason}" if control.reason else control.actor
        return cls(
            killed=control.kind is ControlKind.KILL,
            mode=control.mode,
            why=f"mode {control.mode.value} was set by {why}" if control.mode else why,
            rank=NARROW[control.mode] if control.mode else _STRICT[control.kind],
            at_wall_ms=control.at_wall_ms,
        )

    @classmethod
    def of_loss(cls, at_wall_ms: int) -> Self:
        """The fleet's kill switch, thrown since the ledger was lost."""
        return cls(killed=True, lost=True, why=LEDGER_LOST, rank=_LOSS_RANK, at_wall_ms=at_wall_ms)


def fields_of(workload: str) -> tuple[str, str, str]:
    """Where the fleet's kill switch stands, the workload's, and its mode."""
    return "fleet", f"kill:{workload}", f"mode:{workload}"


def switches_of(workload: str, fleet: KeptSwitch | None, kill: KeptSwitch | None, mode: KeptSwitch | None) -> Switches:
    """The three together, the fleet's kill switch first."""
    why = ""
    if fleet and fleet.killed:
        why = LEDGER_LOST if fleet.lost else f"for the whole fleet, by {fleet.why}"
    elif kill and kill.killed:
        why = f"for {workload}, by {kill.why}"
    return Switches(
        killed=bool(why),
        killed_why=why,
        mode=mode.mode if mode else None,
        mode_at_wall_ms=mode.at_wall_ms if mode else 0,
    )


def told(record: ActionRecord) -> str:
    """What the audit line of a change says: why, how far each step has come, and whether the target is free again."""
    steps = [f"step {n} {mark.value}" for n, mark in enumerate(record.marks, 1) if mark is not Mark.UNTOUCHED]
    free = "its target is free" if record.followed else ""
    return "; ".join(part for part in (", ".join(record.reasons), record.detail, ", ".join(steps), free) if part)
