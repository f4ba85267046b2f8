"""The saga as a table: one good object, one change, one move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.moves import Call, Draft, Save
from agents.core.saga import after_call, lost, next_move
from agents.core.steps import open_tokens
from contracts.events import EndState, Refusal
from contracts.ledger import Mark, Phase
from contracts.ports import Claim, Observation, StepState
from tests.agents.saga_help import DOWN, NOW, SEEN, UP, check, evidence, look, plan_for, record, reports, told, view

DRAFT_UP, DRAFT_DOWN = Draft(plan_for(UP)), Draft(plan_for(DOWN))
BY_HAND = replace(SEEN, manual_changes=1)
U, IN, A, D = Mark.UNTOUCHED, Mark.INTENDED, Mark.APPLIED, Mark.DONE
UI, UA = Mark.UNDO_INTENDED, Mark.UNDO_APPLIED
UNKNOWN, RUNNING, DONE, FAILED = StepState.UNKNOWN, StepState.RUNNING, StepState.DONE, StepState.FAILED
LATE_UP, LATE_DOWN = NOW + 120_000, NOW + 240_000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "planned u"),
        ({"now_ms": NOW + 60_000}, "planned u"),
        ({"now_ms": NOW + 60_001}, "refused stale_evidence"),
        ({"now_ms": NOW + 60_001, "draft": None}, "refused stale_evidence controller_away"),
        ({"claim": Claim(refusal=Refusal.KILL_SWITCH)}, "refused kill_switch"),
        ({"claim": Claim(refusal=Refusal.LEDGER_LOST)}, "refused ledger_lost"),
        ({"claim": Claim(refusal=Refusal.ADVISORY_MODE)}, "refused advisory_mode"),
        ({"claim": Claim(refusal=Refusal.FLEET_LIMIT)}, "wait"),
        ({"claim": Claim(refusal=Refusal.RATE_LIMIT)}, "wait"),
        ({"claim": Claim(refusal=Refusal.IN_FLIGHT)}, "wait"),
        ({"claim": Claim(refusal=Refusal.IN_FLIGHT), "now_ms": NOW + 60_001}, "refused in_flight"),
        ({"claim": Claim(refusal=Refusal.FLEET_LIMIT), "now_ms": NOW + 60_001}, "refused fleet_limit"),
        ({"behind": "another"}, "wait"),
        ({"behind": "another", "now_ms": NOW + 60_001}, "refused stale_evidence"),
        ({"stop": "another goes first"}, "refused preempted"),
        ({"draft": None}, "wait"),
        ({"draft": Draft(doubt="no capacity")}, "refused dry_run_failed"),
        ({"draft": DRAFT_DOWN}, "refused dry_run_failed"),
    ],
)
def test_a_recorded_action_is_planned_refused_or_waits(changes: dict[str, Any], expected: str) -> None:
    check(record(), look({"draft": DRAFT_UP} | changes), expected)


def test_a_plan_is_kept_with_the_values_that_its_effect_speaks_of() -> None:
    move = check(record(), view(draft=DRAFT_UP), "planned u")
    assert isinstance(move, Save)
    assert move.record.plan == DRAFT_UP.plan
    assert move.record.before == {"replicas_up": 3.0, "ttft_burn_rate@10s": 0.5, "load_per_replica": 2.0}


@pytest.mark.parametrize(
    ("spec", "changes", "expected"),
    [
        (UP, {}, "call 0"),
        (UP, {"evidence": {}}, "call 0"),
        (UP, {"seen": None}, "wait"),
        (UP, {"seen": BY_HAND}, "refused manual_change"),
        (UP, {"barred": Refusal.KILL_SWITCH}, "refused kill_switch"),
        (UP, {"stop": "another"}, "refused preempted"),
        (UP, {"now_ms": NOW + 60_001}, "refused stale_evidence"),
        (DOWN, {}, "call 0"),
        (DOWN, {"evidence": {}}, "wait"),
        (DOWN, {"evidence": evidence(NOW - 29_500)}, "wait"),
        (DOWN, {"evidence": evidence(NOW, load=None)}, "wait"),
        (DOWN, {"evidence": evidence(NOW, replicas=None)}, "wait"),
        (DOWN, {"evidence": evidence(NOW, load=9)}, "refused guard_broken"),
        (DOWN, {"evidence": {}, "now_ms": NOW + 60_001}, "refused stale_evidence"),
    ],
)
def test_a_planned_action_looks_again_before_its_first_order(spec: Any, changes: dict[str, Any], expected: str) -> None:
    move = check(record(spec, Phase.PLANNED), look(changes), expected)
    if isinstance(move, Call):
        assert (move.record.phase, move.record.marks[0]) == (Phase.APPLYING, Mark.INTENDED)
        assert move.record.began_ms == NOW + 1000


TWO_UP = UP.model_copy(update={"replicas": 2})


@pytest.mark.parametrize(
    ("spec", "marks", "states", "changes", "expected"),
    [
        # an intent that is found means that nobody knows: the controller is asked
        (UP, (IN,), (None,), {}, "wait"),
        (UP, (IN,), (UNKNOWN,), {}, "call 0"),
        (UP, (IN,), (UNKNOWN,), {"honours_tokens": False}, "held_unverified unverified"),
        (UP, (IN,), (RUNNING,), {}, "applying a"),
        (UP, (IN,), (DONE,), {}, "applying d"),
        (UP, (IN,), (FAILED,), {}, "undoing step_failed"),
        # orders go out one after the other, then all are waited for
        (TWO_UP, (A, U), (RUNNING, None), {}, "call 1"),
        (TWO_UP, (A, U), (RUNNING, None), {"seen": None}, "wait"),
        (TWO_UP, (A, A), (RUNNING, RUNNING), {}, "wait"),
        (TWO_UP, (A, A), (DONE, RUNNING), {}, "applying d a"),
        (TWO_UP, (A, A), (DONE, DONE), {}, "applying d d"),
        (TWO_UP, (D, D), (), {}, "verifying d d"),
        (TWO_UP, (A, A), (RUNNING, FAILED), {}, "undoing step_failed"),
        # stopped: added capacity stays, taken capacity is given back
        (UP, (A,), (RUNNING,), {"barred": Refusal.KILL_SWITCH}, "held_unverified kill_switch"),
        (UP, (A,), (RUNNING,), {"stop": "another"}, "held_unverified preempted"),
        (UP, (A,), (RUNNING,), {"seen": BY_HAND}, "held_unverified manual_change"),
        (DOWN, (A,), (RUNNING,), {"barred": Refusal.KILL_SWITCH}, "undoing kill_switch"),
        (DOWN, (A,), (RUNNING,), {"stop": "another"}, "undoing preempted"),
        (DOWN, (A,), (RUNNING,), {"seen": BY_HAND}, "undoing manual_change"),
        (DOWN, (IN,), (UNKNOWN,), {"barred": Refusal.KILL_SWITCH}, "undoing kill_switch"),
        # capacity is taken on fresh evidence only
        (DOWN, (IN,), (UNKNOWN,), {}, "call 0"),
        (DOWN, (IN,), (UNKNOWN,), {"evidence": {}}, "wait"),
        (DOWN, (IN,), (UNKNOWN,), {"evidence": evidence(NOW, load=9)}, "undoing guard_broken"),
        (DOWN, (A,), (DONE,), {}, "applying d u"),
        (DOWN, (D,), (), {}, "trial d u"),
        # late
        (DOWN, (A,), (RUNNING,), {"now_ms": LATE_DOWN}, "undoing unverified"),
        (DOWN, (A,), (None,), {"now_ms": LATE_DOWN, "seen": None}, "undoing controller_away"),
        (UP, (A,), (RUNNING,), {"now_ms": LATE_UP}, "undoing unverified"),
        (UP, (A,), (RUNNING,), {"now_ms": LATE_UP, "evidence": {}}, "held_unverified unverified no_evidence"),
        (
            UP,
            (A,),
            (RUNNING,),
            {"now_ms": LATE_UP, "evidence": evidence(LATE_UP, load=9)},
            "held_unverified unverified",
        ),
        # as many answer as it expects: others may have started beside it, and its own still does not serve
        (UP, (A,), (RUNNING,), {"now_ms": LATE_UP, "evidence": evidence(LATE_UP, 4)}, "held_unverified unverified"),
        (
            UP,
            (A,),
            (None,),
            {"now_ms": LATE_UP, "seen": None, "evidence": {}},
            "held_unverified controller_away no_evidence",
        ),
    ],
)
def test_steps_are_applied_once_and_looked_after(
    spec: Any, marks: tuple[Mark, ...], states: tuple[Any, ...], changes: dict[str, Any], expected: str
) -> None:
    before = record(spec, Phase.APPLYING, *marks)
    changes = {"reports": reports(before, *states)} | changes
    check(before, look(changes), expected)


@pytest.mark.parametrize(
    ("held_since_ms", "changes", "expected"),
    [
        (None, {}, "trial d u"),
        (None, {"evidence": evidence(NOW - 500)}, "wait"),
        (NOW + 1000, {"now_ms": NOW + 20_000}, "wait"),
        (NOW + 1000, {"now_ms": NOW + 31_000}, "call 1"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "seen": None}, "wait"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "evidence": evidence(NOW + 500)}, "trial d u"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "evidence": {}}, "trial d u"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "evidence": evidence(NOW + 31_000, load=7)}, "undoing guard_broken"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "seen": BY_HAND}, "undoing manual_change"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "barred": Refusal.KILL_SWITCH}, "undoing kill_switch"),
        (NOW + 1000, {"now_ms": NOW + 31_000, "stop": "another"}, "undoing preempted"),
        (None, {"now_ms": LATE_DOWN, "evidence": {}}, "undoing no_evidence"),
        (None, {"now_ms": LATE_DOWN}, "undoing unverified"),
        (None, {"now_ms": LATE_DOWN, "seen": None}, "undoing controller_away"),
    ],
)
def test_in_the_trial_the_guards_must_hold_without_a_break(
    held_since_ms: int | None, changes: dict[str, Any], expected: str
) -> None:
    before = record(DOWN, Phase.TRIAL, D, held_since_ms=held_since_ms)
    move = check(before, look(changes), expected)
    if expected == "trial d u":
        assert isinstance(move, Save)
        assert move.record.held_since_ms == (NOW + 1000 if held_since_ms is None else None)


def test_a_capacity_taking_action_without_guards_still_needs_to_see_its_fleet() -> None:
    blind = DOWN.model_copy(update={"effect": DOWN.effect.model_copy(update={"guards": (), "settle_s": 0.0})})
    before = record(blind, Phase.TRIAL, D)
    check(before, view(evidence={}), "wait")
    check(before, view(), "call 1")


@pytest.mark.parametrize(
    ("marks", "states", "changes", "expected"),
    [
        ((D, IN), (None, UNKNOWN), {}, "call 1"),
        ((D, IN), (None, UNKNOWN), {"evidence": {}}, "wait"),
        ((D, IN), (None, UNKNOWN), {"evidence": evidence(NOW, load=9)}, "undoing guard_broken"),
        ((D, IN), (None, DONE), {}, "finishing d d"),
        ((D, IN), (None, FAILED), {}, "held_unverified step_failed"),
        ((D, A), (None, RUNNING), {"barred": Refusal.KILL_SWITCH}, "held_unverified kill_switch"),
        ((D, A), (None, RUNNING), {"seen": BY_HAND}, "held_unverified manual_change"),
        ((D, A), (None, RUNNING), {"now_ms": LATE_DOWN}, "held_unverified unverified"),
        ((D, D), (), {"barred": Refusal.KILL_SWITCH}, "verifying d d"),
        ((D, U), (), {"barred": Refusal.KILL_SWITCH}, "undoing kill_switch"),
        ((D, U), (), {"seen": BY_HAND}, "undoing manual_change"),
    ],
)
def test_from_the_first_final_order_on_there_is_no_way_back(
    marks: tuple[Mark, ...], states: tuple[Any, ...], changes: dict[str, Any], expected: str
) -> None:
    before = record(DOWN, Phase.FINISHING, *marks)
    changes = {"reports": reports(before, *states)} | changes
    check(before, look(changes), expected)


@pytest.mark.parametrize(
    ("spec", "replicas", "changes", "expected"),
    [
        (UP, 4, {"now_ms": NOW + 10_000}, "verified expect_met"),
        (UP, 3, {}, "wait"),
        (UP, 4, {"barred": Refusal.KILL_SWITCH, "now_ms": NOW + 10_000}, "verified expect_met"),
        (UP, 3, {"barred": Refusal.KILL_SWITCH}, "held_unverified kill_switch"),
        (UP, 3, {"stop": "another"}, "held_unverified preempted"),
        (UP, 3, {"seen": BY_HAND}, "held_unverified manual_change"),
        (UP, 4, {"evidence": evidence(NOW, 4)}, "wait"),
        (UP, 4, {"evidence": evidence(NOW + 500, 4, burn=3)}, "wait"),
        (UP, 4, {"evidence": evidence(LATE_UP, 4, burn=3), "now_ms": LATE_UP}, "verified expect_met goal_not_met"),
        (UP, 4, {"evidence": evidence(LATE_UP, 4, burn=None), "now_ms": LATE_UP}, "verified expect_met goal_not_met"),
        (UP, 4, {"evidence": {}, "now_ms": LATE_UP}, "held_unverified no_evidence"),
        (UP, 3, {"now_ms": LATE_UP}, "undoing lied"),
        (UP, 3, {"evidence": evidence(LATE_UP, 3, load=9), "now_ms": LATE_UP}, "held_unverified lied"),
        (UP, 3, {"evidence": evidence(LATE_UP, 3, load=None), "now_ms": LATE_UP}, "held_unverified lied"),
        (UP.model_copy(update={"undo_guards": ()}), 3, {"now_ms": LATE_UP}, "held_unverified lied"),
        (DOWN, 2, {}, "verified expect_met"),
        (DOWN, 3, {}, "wait"),
        (DOWN, 3, {"stop": "another"}, "held_unverified preempted"),
        (DOWN, 3, {"now_ms": LATE_DOWN}, "held_unverified lied"),
        (DOWN, 3, {"evidence": {}, "now_ms": LATE_DOWN}, "held_unverified no_evidence"),
    ],
)
def test_the_effect_is_verified_on_what_is_measured(
    spec: Any, replicas: float, changes: dict[str, Any], expected: str
) -> None:
    before = record(spec, Phase.VERIFYING, *(D for _ in plan_for(spec).steps))
    move = check(before, look({"evidence": evidence(changes.get("now_ms", NOW + 1000), replicas)} | changes), expected)
    if expected.startswith("verified"):
        assert isinstance(move, Save)
        assert move.record.expect_met is True
        assert move.record.after["replicas_up"] == replicas


def test_an_end_tells_what_was_met_and_when() -> None:
    move = check(
        record(UP, Phase.VERIFYING, D),
        view(LATE_UP, evidence=evidence(LATE_UP, 4, burn=3)),
        "verified expect_met goal_not_met",
    )
    assert isinstance(move, Save)
    end = move.record
    assert (end.expect_met, end.goal_met, end.ended_ms) == (True, False, LATE_UP)
    assert end.after == {"replicas_up": 4.0, "ttft_burn_rate@10s": 3.0, "load_per_replica": 2.0}
    assert end.detail == "replicas_up ≥ 4: 4; ttft_burn_rate over 10 s ≤ 1: 3"


def test_an_ended_action_only_waits() -> None:
    check(record(UP, Phase.ENDED, D, end_state=EndState.VERIFIED), view(), "wait")


def call_of(spec: Any, phase: Phase, step: int, *marks: Mark, undo: bool = False) -> Call:
    return Call(record(spec, phase, *marks), step, undo)


@pytest.mark.parametrize(
    ("call", "refusal", "expected"),
    [
        (call_of(UP, Phase.APPLYING, 0, IN), "", "applying a"),
        (call_of(UP, Phase.APPLYING, 0, IN), "no quota", "undoing step_failed"),
        (call_of(DOWN, Phase.FINISHING, 1, D, IN), "", "finishing d a"),
        (call_of(DOWN, Phase.FINISHING, 1, D, IN), "not drained", "undoing step_failed"),
        (call_of(UP, Phase.UNDOING, 0, UI, undo=True), "last one", "held_unverified undo_failed"),
    ],
)
def test_what_the_controller_answers_is_kept(call: Call, refusal: str, expected: str) -> None:
    after = after_call(call, view(), refusal)
    assert told(Save(after)) == expected
    assert after.version == call.record.version + 1
    assert refusal in after.detail
    if not call.undo and not refusal:
        assert after.applied_ms == NOW + 1000
    elif not call.undo:
        assert after.marks[call.step] is Mark.UNTOUCHED


def test_an_undo_that_was_taken_is_kept_as_such() -> None:
    now = view()
    after = after_call(call_of(UP, Phase.UNDOING, 0, UI, undo=True), now)
    assert (after.phase, after.marks, after.applied_ms) == (Phase.UNDOING, (UA,), now.at_ms)


def test_an_action_that_the_ledger_forgot_is_left_as_it_is() -> None:
    end = lost(record(), view())
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("ledger_lost",))


def test_before_an_undo_is_ordered_again_both_of_its_tokens_are_inspected() -> None:
    undoing = record(UP, Phase.UNDOING, UI)
    assert open_tokens(undoing) == (undoing.token(0, undo=True), undoing.token(0))


def test_only_open_steps_are_inspected() -> None:
    applying = record(TWO_UP, Phase.APPLYING, D, A)
    assert open_tokens(applying) == (applying.token(1),)
    undoing = record(TWO_UP, Phase.UNDOING, D, UA)
    assert open_tokens(undoing) == (undoing.token(0), undoing.token(1, undo=True))
    assert open_tokens(record(UP, Phase.VERIFYING, D)) == ()


def test_a_look_dates_what_is_done_by_the_clock_and_deadlines_by_the_data() -> None:
    sight = view(NOW + 1000, stamp_ms=NOW + 1500, seen=Observation(at_ms=NOW, serving=("chat-0",)))
    move = next_move(record(UP, Phase.PLANNED), sight)
    assert isinstance(move, Call)
    assert move.record.began_ms == NOW + 1500
