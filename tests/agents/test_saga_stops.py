"""What stops an action on its way: late orders, people, limits; and what of a scale-down is given back then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.moves import Draft, Save, newer
from agents.core.plans import counted
from agents.core.steps import deadline_ms
from contracts.events import ActionKind, Candidate, Plan, PlanStep, Refusal, StepKind
from contracts.laws.bounds import Bound, Comparator
from contracts.ledger import Mark, Phase
from contracts.ports import Observation, StepState
from tests.agents.arbiter_desk import Desk, down, up
from tests.agents.saga_help import (
    DOWN,
    NOW,
    SEEN,
    UP,
    action,
    check,
    evidence,
    look,
    plan_for,
    record,
    reports,
    sli,
    view,
)

U, IN, A, D, UX = Mark.UNTOUCHED, Mark.INTENDED, Mark.APPLIED, Mark.DONE, Mark.UNDONE
UNKNOWN, RUNNING, DONE, FAILED = StepState.UNKNOWN, StepState.RUNNING, StepState.DONE, StepState.FAILED
TWO_DOWN = DOWN.model_copy(update={"replicas": 2})
LATE = NOW + 240_000


def test_a_final_order_that_never_came_waits_for_evidence() -> None:
    before = record(DOWN, Phase.FINISHING, D, IN)
    check(before, look({"reports": reports(before, None, UNKNOWN), "evidence": {}}), "wait")


@pytest.mark.parametrize("phase", [Phase.RECORDED, Phase.PLANNED])
def test_an_action_is_too_late_by_the_clock_though_the_time_of_the_data_stands_still(phase: Phase) -> None:
    late = view(NOW, stamp_ms=NOW + 60_001, draft=Draft(plan_for(UP)))
    check(record(UP, phase), late, "refused stale_evidence")


@pytest.mark.parametrize(
    ("spec", "limits", "seen", "expected"),
    [
        (DOWN, {"least_replicas": 2}, {}, "planned u u"),
        (DOWN, {"least_replicas": 3}, {}, "refused at_minimum"),
        (DOWN, {"least_replicas": 2}, {"serving": ("chat-0", "chat-1"), "draining": ("c",)}, "refused at_minimum"),
        (UP, {"most_replicas": 4}, {}, "planned u"),
        (UP, {"most_replicas": 4}, {"starting": ("chat-3",)}, "refused at_maximum"),
        (UP, {"most_replicas": 3}, {}, "refused at_maximum"),
        (UP, {}, {"starting": ("chat-3",) * 50}, "planned u"),
    ],
)
def test_the_fleets_limits_are_held_against_what_serves_and_starts(
    spec: Any, limits: dict[str, int], seen: dict[str, Any], expected: str
) -> None:
    before, fleet = record(spec, action=action(spec, **limits)), replace(SEEN, **seen)
    check(before, view(draft=Draft(plan_for(spec), fleet)), expected)
    planned = record(spec, Phase.PLANNED, action=action(spec, **limits))
    again = "call 0" if expected.startswith("planned") else expected
    move = check(planned, view(seen=fleet), again)
    assert isinstance(move, Save) == expected.startswith("refused")
    if isinstance(move, Save):
        assert "serve" in move.record.detail
        assert str(max(limits.values())) in move.record.detail


@pytest.mark.parametrize("barred", [Refusal.KILL_SWITCH, Refusal.LEDGER_LOST, Refusal.ADVISORY_MODE])
def test_an_end_says_what_people_had_set(barred: Refusal) -> None:
    move = check(record(UP, Phase.PLANNED), view(barred=barred, barred_why="by ann"), f"refused {barred}")
    assert isinstance(move, Save)
    assert "by ann" in move.record.detail


@pytest.mark.parametrize("counted", [4, 2])
def test_a_controller_that_counts_otherwise_has_been_changed_by_hand(counted: int) -> None:
    before = record(DOWN, Phase.TRIAL, D)
    assert before.plan is not None
    before = before.model_copy(update={"plan": before.plan.model_copy(update={"manual_changes": 3})})
    check(before, view(seen=replace(SEEN, manual_changes=counted)), "undoing manual_change")


def test_a_window_speaks_of_what_came_after_an_order_only_when_it_begins_then() -> None:
    readings = {0: sli(NOW + 1), 10: sli(NOW + 10_000, 10), 60: sli(NOW + 59_999, 60)}
    assert set(newer(readings, NOW)) == {0, 10}
    assert set(newer({0: sli(NOW), 10: sli(NOW + 9_999, 10)}, NOW)) == set()


def test_a_trial_counts_no_window_from_before_its_drain() -> None:
    guard = Bound(sli="load_per_replica", size_s=60, comparator=Comparator.LE, value=6)
    spec = DOWN.model_copy(update={"effect": DOWN.effect.model_copy(update={"guards": (guard,)})})
    seen = {0: sli(NOW + 2000, replicas_up=3), 60: sli(NOW + 1, 60, load_per_replica=2)}
    check(record(spec, Phase.TRIAL, D), view(NOW + 2000, evidence=seen), "wait")


def test_a_trial_has_its_time_though_draining_took_long() -> None:
    trial = record(DOWN, Phase.TRIAL, D, phase_since_ms=NOW + 215_000)
    assert deadline_ms(trial) == NOW + 215_000 + 240_000
    check(trial, view(LATE), "trial d u")


@pytest.mark.parametrize(
    ("marks", "states", "changes", "expected"),
    [
        # two drains, then two removals
        ((D, D, A, U), (None, None, RUNNING), {"barred": Refusal.KILL_SWITCH}, "undoing kill_switch"),
        ((D, D, A, U), (None, None, RUNNING), {"now_ms": LATE}, "undoing unverified"),
        ((D, D, A, U), (None, None, FAILED), {}, "undoing step_failed"),
        ((D, D, IN, U), (None, None, UNKNOWN), {"stop": "another"}, "undoing preempted"),
        ((D, D, D, IN), (None, None, None, UNKNOWN), {"stop": "another"}, "undoing preempted"),
        (
            (D, D, D, IN),
            (None, None, None, UNKNOWN),
            {"stop": "a", "honours_tokens": False},
            "held_unverified unverified",
        ),
        ((D, D, D, IN), (), {"stop": "another"}, "held_unverified preempted"),
        ((D, D, D, A), (None, None, None, RUNNING), {"stop": "another"}, "held_unverified preempted"),
        ((D, D, A, A), (None, None, RUNNING, FAILED), {}, "held_unverified step_failed"),
    ],
)
def test_a_scale_down_that_is_stopped_between_its_removals_gives_back_what_still_serves(
    marks: tuple[Mark, ...], states: tuple[Any, ...], changes: dict[str, Any], expected: str
) -> None:
    before = record(TWO_DOWN, Phase.FINISHING, *marks)
    check(before, look({"reports": reports(before, *states)} | changes), expected)


@pytest.mark.parametrize(
    ("marks", "states", "changes", "expected"),
    [
        ((D, D, D, U), (DONE, DONE, DONE), {}, "undo 1"),
        ((D, D, A, U), (DONE, DONE, RUNNING), {}, "undo 1"),
        ((D, UX, D, U), (DONE, None, DONE), {}, "held_unverified preempted"),
        ((D, D, IN, U), (DONE, DONE, UNKNOWN), {}, "undoing preempted"),
        ((D, D, IN, U), (DONE, DONE, RUNNING), {}, "undoing preempted"),
        ((D, D, IN, U), (DONE, DONE), {}, "wait"),
        ((UX, UX, U, U), (), {}, "undone preempted"),
    ],
)
def test_a_removal_that_was_ordered_is_not_taken_back_nor_is_its_drain(
    marks: tuple[Mark, ...], states: tuple[Any, ...], changes: dict[str, Any], expected: str
) -> None:
    before = record(TWO_DOWN, Phase.UNDOING, *marks, reasons=("preempted",))
    move = check(before, look({"reports": reports(before, *states), "evidence": evidence(NOW)} | changes), expected)
    if marks[2] is IN and len(states) == 3:
        assert isinstance(move, Save)
        assert move.record.marks[2] is (U if states[2] is UNKNOWN else A)


@pytest.mark.parametrize(
    ("asked", "serving", "draining", "expected"),
    [
        (up(), ("a", "b", "c"), (), 4),
        (up(), ("a", "b", "c"), ("d",), 4),
        (down(), ("a", "b", "c", "d", "e"), (), 4),
    ],
)
def test_an_action_that_stopped_another_counts_the_fleet_anew(
    asked: Candidate, serving: tuple[str, ...], draining: tuple[str, ...], expected: int
) -> None:
    """Four replicas answered when it was proposed; the action that it stopped may have been past its way back."""
    action = Desk().begin(asked)
    kinds = [StepKind.ADD] if asked.spec.kind is ActionKind.SCALE_UP else [StepKind.DRAIN, StepKind.REMOVE]
    steps = tuple(PlanStep(kind=kind, subject="a", final=kind is StepKind.REMOVE) for kind in kinds)
    plan = Plan(steps=steps, replicas_before=len(serving), manual_changes=0)
    seen = Observation(at_ms=action.at_ms, serving=serving, draining=draining)
    stopped = counted(plan, action.model_copy(update={"preempts": "another"}), seen)
    assert stopped.spec.effect.expect.value == expected
    assert stopped.id == action.id
    assert counted(plan, action, seen) == action, "a controller's word must not make its own test easier"
