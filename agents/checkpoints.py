"""The points in an action's life at which a crash matters: tests stop a process at each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contracts.events import EndState
from contracts.ledger import ActionRecord, Mark, Phase

Checkpoint = Callable[[str], None]
"""Told the name of each point that is passed."""

CHECKPOINTS: Final = (
    "recorded",
    "claimed",
    "planned_saved",
    *("intent_saved", "applied", "applied_saved", "done_saved"),
    *("trial_saved", "hold_saved"),
    *("final_intent_saved", "final_applied", "final_applied_saved", "final_done_saved"),
    "verifying_saved",
    *("undoing_saved", "undo_intent_saved", "undo_applied", "undo_applied_saved", "step_undone_saved"),
    *(f"{state}_saved" for state in EndState),
    *("outcome_published", "outcome_told", "audit_published"),
)
"""Every name, in the order in which an action can pass them."""

_AFTER_MARK: Final = {
    Mark.INTENDED: "intent_saved",
    Mark.APPLIED: "applied_saved",
    Mark.DONE: "done_saved",
    Mark.UNDO_INTENDED: "undo_intent_saved",
    Mark.UNDO_APPLIED: "undo_applied_saved",
    Mark.UNDONE: "step_undone_saved",
}


def nothing(name: str) -> None:
    """A checkpoint that heeds no name."""


def passed(old: ActionRecord, new: ActionRecord) -> str:
    """The point that is passed when `new` was written in place of `old`; empty where a crash changes nothing."""
    if new.phase is Phase.ENDED:
        return f"{new.end_state}_saved"
    for number, mark in enumerate(new.marks if new.phase is not Phase.PLANNED else ()):
        before = old.marks[number] if old.marks else Mark.UNTOUCHED
        if mark is not before and mark in _AFTER_MARK:
            final = new.plan is not None and new.plan.steps[number].final
            return ("final_" if final else "") + _AFTER_MARK[mark]
    if new.phase is not old.phase:
        return f"{new.phase}_saved"
    return "hold_saved" if new.held_since_ms != old.held_since_ms else ""
