"""What the executor knows when it looks at an action, what it can do next, and in which words an action ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from contracts.events import EndState, Plan, Refusal
from contracts.laws.bounds import Bound, Evidence, value_of
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import Claim, Observation, StepReport


class Why(StrEnum):
    """Why an action ended as it did, beside the codes of `Refusal`. Codes are stable."""

    EXPECT_MET = "expect_met"
    GOAL_NOT_MET = "goal_not_met"
    GUARD_BROKEN = "guard_broken"
    UNVERIFIED = "unverified"
    NO_EVIDENCE = "no_evidence"
    STEP_FAILED = "step_failed"
    UNDO_FAILED = "undo_failed"
    CONTROLLER_AWAY = "controller_away"
    LIED = "lied"
    FORGOTTEN = "forgotten"


Code = Why | Refusal


@dataclass(frozen=True)
class Draft:
    """A plan that the controller made and dry-ran for the fleet that was seen, or the words in which it cannot be
    done."""

    plan: Plan | None = None
    seen: Observation | None = None
    doubt: str = ""


@dataclass(frozen=True)
class View:
    """All that is known at one look; the saga knows nothing else.

    `now_ms` is the time of the data, on which deadlines run; `stamp_ms` the clock's, which is ahead of it and dates
    what was done. `seen` and `draft` are None while the controller is away, and a token that could not be inspected has
    no entry in `reports`. `barred` is what people have set against it once it has begun, `barred_why` in whose words.
    `stop` says why something else wants it stopped, `behind` whom it waits for; `gone` is how many replicas of the
    actions beside it were taken back, or are being.
    """

    now_ms: int
    max_age_s: float
    stamp_ms: int = 0
    evidence: Evidence = field(default_factory=dict)
    seen: Observation | None = None
    reports: Mapping[str, StepReport] = field(default_factory=dict)
    claim: Claim = field(default_factory=Claim)
    draft: Draft | None = None
    barred: Refusal | None = None
    barred_why: str = ""
    stop: str = ""
    behind: str = ""
    gone: int = 0
    honours_tokens: bool = True

    @property
    def at_ms(self) -> int:
        """When what is done now is done."""
        return max(self.now_ms, self.stamp_ms)


@dataclass(frozen=True)
class Save:
    """Write the record, then look again."""

    record: ActionRecord


@dataclass(frozen=True)
class Call:
    """Write the record, which holds the intent, then give the order for `step` or for its undo."""

    record: ActionRecord
    step: int
    undo: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing can be done until something else happens."""

    why: str


Move = Save | Call | Wait


def changed(record: ActionRecord, view: View, **values: Any) -> ActionRecord:
    """The next version of a record; a new phase is dated, and forgets the hold of the one before."""
    if values.get("phase", record.phase) is not record.phase:
        values = {"phase_since_ms": view.at_ms, "held_since_ms": None} | values
    return record.model_copy(update=values | {"version": record.version + 1})


def marked(record: ActionRecord, marks: Mapping[int, Mark]) -> tuple[Mark, ...]:
    """The record's marks with some of them set anew."""
    return tuple(marks.get(number, mark) for number, mark in enumerate(record.marks))


def worded(record: ActionRecord, detail: str) -> str:
    """The words of the record with these after them, each once."""
    return "; ".join(dict.fromkeys(part for part in (record.detail, detail) if part))[:2000]


def ended(record: ActionRecord, view: View, state: EndState, *codes: Code, detail: str = "", **values: Any) -> Save:
    """End it. `codes` come after the reasons that stand in the record, each once; `detail` likewise."""
    reasons = tuple(dict.fromkeys((*record.reasons, *(code.value for code in codes))))
    values = {"after": effect_values(record, view)} | values
    return Save(
        changed(
            record,
            view,
            phase=Phase.ENDED,
            end_state=state,
            reasons=reasons,
            detail=worded(record, detail),
            ended_ms=view.at_ms,
            **values,
        )
    )


def refused(record: ActionRecord, view: View, *codes: Code, detail: str = "") -> Save:
    """End it before anything was done."""
    return ended(record, view, EndState.REFUSED, *codes, detail=detail)


def held(record: ActionRecord, view: View, *codes: Code, detail: str = "", **values: Any) -> Save:
    """End it as it is: people are told."""
    return ended(record, view, EndState.HELD_UNVERIFIED, *codes, detail=detail, **values)


_BARS: Final = {
    Refusal.KILL_SWITCH: "the kill switch was thrown",
    Refusal.LEDGER_LOST: "the ledger was lost, and the fleet is stopped",
    Refusal.ADVISORY_MODE: "it acts no more by itself:",
}


def halted(record: ActionRecord, view: View) -> tuple[Refusal, str] | None:
    """Why it must not go on, with words: people stopped it, changed the fleet by hand, or something goes before it."""
    if view.barred is not None:
        return view.barred, f"{_BARS.get(view.barred, view.barred.value)} {view.barred_why}".strip()
    if record.plan is not None and view.seen is not None:
        by_hand = view.seen.manual_changes - record.plan.manual_changes
        if by_hand > 0:
            return Refusal.MANUAL_CHANGE, f"{by_hand} changes by hand since the plan was made"
        if by_hand < 0:  # who forgot its count may have forgotten a change with it
            counts = f"from {record.plan.manual_changes} to {view.seen.manual_changes}"
            return Refusal.MANUAL_CHANGE, f"the controller's count of changes by hand went back {counts}"
    if view.stop:
        return Refusal.PREEMPTED, view.stop
    return None


def newer(evidence: Evidence, than_ms: int) -> Evidence:
    """The readings of what came after `than_ms` alone: windows that begin then or later, latest values after it."""
    return {
        size_s: reading
        for size_s, reading in evidence.items()
        if (reading.end_ms - size_s * 1000 >= than_ms if size_s else reading.end_ms > than_ms)
    }


def told(view: View, bounds: tuple[Bound, ...]) -> str:
    """The bounds with what they are held against, in words."""
    return "; ".join(f"{bound}: {_seen(view, bound)}" for bound in bounds)


def _seen(view: View, bound: Bound) -> str:
    value = value_of(view.evidence, bound, view.now_ms, view.max_age_s)
    return "not known" if value is None else f"{value:g}"


def effect_values(record: ActionRecord, view: View) -> dict[str, float]:
    """The SLIs that the action's effect speaks of, as they are now: `name`, or `name@60s` over a window."""
    effect = record.action.spec.effect
    goal = (effect.goal,) if effect.goal is not None else ()
    found: dict[str, float] = {}
    for bound in (effect.expect, *goal, *effect.guards, *record.action.spec.undo_guards):
        value = value_of(view.evidence, bound, view.now_ms, view.max_age_s)
        if value is not None:
            found[f"{bound.sli}@{bound.size_s}s" if bound.size_s else bound.sli] = value
    return found
