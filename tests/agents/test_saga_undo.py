"""Taking back, as a table: one good object, one change, one move; and the plans that are never begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.plans import flaw
from contracts.events import Plan, PlanStep, Refusal, StepKind
from contracts.ledger import Mark, Phase
from contracts.ports import StepState
from tests.agents.saga_help import DOWN, NOW, SEEN, UP, check, evidence, look, record, reports, view

BY_HAND = replace(SEEN, manual_changes=1)
U, IN, A, D = Mark.UNTOUCHED, Mark.INTENDED, Mark.APPLIED, Mark.DONE
UNKNOWN, RUNNING, DONE, FAILED = StepState.UNKNOWN, StepState.RUNNING, StepState.DONE, StepState.FAILED
TWO_UP = UP.model_copy(update={"replicas": 2})
UI, UA, UX = Mark.UNDO_INTENDED, Mark.UNDO_APPLIED, Mark.UNDONE
LATE_UNDO_UP, LATE_UNDO_DOWN = NOW + 240_000, NOW + 480_000
LATE_BUT_SEEN = {"now_ms": LATE_UNDO_UP, "evidence": evidence(LATE_UNDO_UP)}


@pytest.mark.parametrize(
    ("spec", "marks", "did", "undid", "changes", "expected"),
    [
        (DOWN, (D,), (DONE,), (), {}, "undo 0"),
        (DOWN, (A,), (RUNNING,), (), {"evidence": {}, "seen": None, "barred": Refusal.KILL_SWITCH}, "undo 0"),
        (DOWN, (D,), (), (), {}, "wait"),
        (DOWN, (IN,), (RUNNING,), (), {}, "undoing preempted"),
        (DOWN, (IN,), (UNKNOWN,), (), {}, "undo 0"),
        (DOWN, (IN,), (UNKNOWN,), (), {"honours_tokens": False}, "undoing preempted"),
        (DOWN, (U,), (), (), {}, "undone preempted"),
        (DOWN, (UX,), (), (), {}, "undone preempted"),
        (DOWN, (UI,), (), (UNKNOWN,), {}, "undo 0"),
        (DOWN, (UI,), (), (UNKNOWN,), {"honours_tokens": False}, "held_unverified preempted undo_failed"),
        (DOWN, (UI,), (), (), {}, "wait"),
        (DOWN, (UI,), (), (RUNNING,), {}, "undoing preempted"),
        (DOWN, (UA,), (), (RUNNING,), {}, "wait"),
        (DOWN, (UA,), (), (DONE,), {}, "undoing preempted"),
        (DOWN, (UA,), (), (DONE,), {"now_ms": LATE_UNDO_DOWN}, "undoing preempted"),
        (DOWN, (UA,), (), (FAILED,), {}, "held_unverified preempted undo_failed"),
        (DOWN, (UA,), (), (RUNNING,), {"now_ms": LATE_UNDO_DOWN}, "held_unverified preempted undo_failed"),
        (DOWN, (UA,), (), (), {"now_ms": LATE_UNDO_DOWN}, "held_unverified preempted controller_away"),
        (DOWN, (D,), (), (), {"now_ms": LATE_UNDO_DOWN}, "held_unverified preempted controller_away"),
        (UP, (D,), (DONE,), (), {}, "undo 0"),
        (UP, (D,), (DONE,), (), {"evidence": {}}, "wait"),
        (UP, (D,), (DONE,), (), {"evidence": {}, "now_ms": LATE_UNDO_UP}, "held_unverified preempted no_evidence"),
        (UP, (D,), (DONE,), (), LATE_BUT_SEEN, "undo 0"),  # never ordered: late or not, it is
        (UP, (UI,), (DONE,), (UNKNOWN,), LATE_BUT_SEEN, "held_unverified preempted undo_failed"),
        (DOWN, (D,), (DONE,), (), {"now_ms": LATE_UNDO_DOWN}, "undo 0"),
        (UP, (D,), (DONE,), (), {"evidence": evidence(NOW, load=9)}, "held_unverified preempted guard_broken"),
        (UP, (D,), (DONE,), (), {"seen": None}, "wait"),
        (UP, (D,), (DONE,), (), {"barred": Refusal.KILL_SWITCH}, "held_unverified preempted kill_switch"),
        (UP, (D,), (DONE,), (), {"seen": BY_HAND}, "held_unverified preempted manual_change"),
        (UP, (A,), (FAILED,), (), {"evidence": {}}, "undo 0"),
        (UP, (IN,), (UNKNOWN,), (), {"evidence": {}}, "undo 0"),
        (UP, (IN,), (UNKNOWN,), (), {"honours_tokens": False}, "undoing preempted"),
        (UP, (UI,), (DONE,), (UNKNOWN,), {"evidence": {}}, "wait"),
        (UP, (UI,), (UNKNOWN,), (UNKNOWN,), {"evidence": {}}, "undo 0"),
        (TWO_UP, (D, D), (DONE, DONE), (), {}, "undo 1"),
        (TWO_UP, (D, UA), (DONE, DONE), (None, RUNNING), {}, "wait"),
        (TWO_UP, (D, UX), (DONE, None), (), {}, "undo 0"),
    ],
)
def test_an_action_is_taken_back_step_by_step_from_the_last(
    spec: Any, marks: tuple[Mark, ...], did: Any, undid: Any, changes: dict[str, Any], expected: str
) -> None:
    before = record(spec, Phase.UNDOING, *marks, reasons=("preempted",))
    changes = {"reports": reports(before, *did) | reports(before, *undid, undo=True)} | changes
    check(before, look(changes), expected)


def test_an_action_of_which_a_step_failed_and_nothing_is_left_has_failed() -> None:
    check(record(UP, Phase.UNDOING, UX, reasons=("step_failed",)), view(), "failed step_failed")


ADD, DRAIN_0, DRAIN_1 = (
    PlanStep(kind=StepKind.ADD),
    PlanStep(kind=StepKind.DRAIN, subject="chat-0"),
    PlanStep(kind=StepKind.DRAIN, subject="chat-1"),
)
REMOVE_0 = PlanStep(kind=StepKind.REMOVE, subject="chat-0", final=True)


@pytest.mark.parametrize(
    ("spec", "steps", "says"),
    [
        (UP, (ADD,), ""),
        (UP, (ADD, ADD), "adds 2 replicas, granted were 1"),
        (UP, (DRAIN_0,), "adds replicas, and nothing else"),
        (UP, (ADD.model_copy(update={"final": True}),), "adds replicas, and nothing else"),
        (DOWN, (DRAIN_0, REMOVE_0), ""),
        (DOWN, (REMOVE_0,), "only a drained one is removed"),
        (DOWN, (REMOVE_0, DRAIN_0), "final steps do not come last"),
        (DOWN, (DRAIN_0, DRAIN_0), "drained once"),
        (DOWN, (DRAIN_0, DRAIN_1), "drains 2 of 3 replicas, granted were 1"),
        (DOWN, (ADD,), "named replicas"),
        (DOWN, (DRAIN_0.model_copy(update={"subject": ""}),), "named replicas"),
        (DOWN, (DRAIN_0, REMOVE_0.model_copy(update={"final": False})), "a removal is final"),
    ],
)
def test_a_plan_that_does_more_than_was_granted_is_not_carried_out(spec: Any, steps: Any, says: str) -> None:
    found = flaw(Plan(steps=steps, replicas_before=3, manual_changes=0), record(spec).action)
    assert says in found
    assert bool(says) == bool(found)


def test_a_plan_that_would_leave_no_replica_is_not_carried_out() -> None:
    plan = Plan(steps=(DRAIN_0, REMOVE_0), replicas_before=1, manual_changes=0)
    assert "drains 1 of 1" in flaw(plan, record(DOWN).action)
