"""What is told of an action that has ended: its outcome for the platform, and an alert where people should look."""

from __future__ import annotations

from typing import Final

from contracts.events import Alert, EndState, Outcome, Severity
from contracts.ledger import ActionRecord, Mark

_APPLIED: Final = frozenset((Mark.APPLIED, Mark.DONE, Mark.UNDO_INTENDED, Mark.UNDO_APPLIED, Mark.UNDONE))

_ALERTS: Final = {
    EndState.HELD_UNVERIFIED: (
        "action_held",
        Severity.CRITICAL,
        "Nothing more is done to it. Look at the fleet, set it right by hand; `optiinfra explain {id}` has each step.",
    ),
    EndState.UNDONE: (
        "action_undone",
        Severity.WARNING,
        "It was taken back, the fleet is as before. `optiinfra explain {id}` says why; is the rule's effect realistic?",
    ),
    EndState.FAILED: (
        "action_failed",
        Severity.WARNING,
        "Nothing of it is left. Look at what the controller says (quota, capacity, rights) before it is tried again.",
    ),
}


def outcome_of(record: ActionRecord) -> Outcome:
    """The outcome of an ended record: the same for the same record."""
    if record.end_state is None or record.ended_ms is None:
        raise ValueError(f"action {record.action.id} has not ended")
    return Outcome(
        action=record.action,
        end_state=record.end_state,
        reasons=record.reasons[:30],
        detail=record.detail,
        began_ms=record.began_ms,
        at_ms=record.ended_ms,
        steps_applied=sum(mark in _APPLIED for mark in record.marks),
        steps_undone=sum(mark is Mark.UNDONE for mark in record.marks),
        expect_met=record.expect_met,
        goal_met=record.goal_met,
        before=record.before,
        after=record.after,
    )


def alert_of(outcome: Outcome) -> Alert | None:
    """What people should know of it; None for an action that went as it should."""
    if outcome.end_state not in _ALERTS:
        return None
    name, severity, fix = _ALERTS[outcome.end_state]
    action = outcome.action
    reasons = ", ".join(outcome.reasons) or "no reason given"
    summary = f"{action.spec.kind} of {action.workload} by {action.spec.replicas} ended {outcome.end_state} ({reasons})"
    return Alert(
        workload=action.workload,
        name=name,
        severity=severity,
        subject=action.id,
        at_ms=outcome.at_ms,
        summary=f"{summary}: {outcome.detail}"[:2000],
        fix=fix.format(id=action.id),
    )
