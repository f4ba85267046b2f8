"""Settings changed by rolling restart, and shares of requests: one at a time, tried, verified, and taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.moves import Call, Draft, Save
from agents.core.saga import after_call, next_move
from agents.core.steps import deadline_ms
from contracts.events import ActionSpec, Refusal
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import Observation, StepState
from tests.agents.saga_help import (
    NOW,
    ROUTE,
    SEEN,
    TUNE,
    action,
    check,
    evidence,
    plan_for,
    record,
    reports,
    told,
    view,
)

DONE, RUNNING, FAILED, UNKNOWN = StepState.DONE, StepState.RUNNING, StepState.FAILED, StepState.UNKNOWN
U, A, D = Mark.UNTOUCHED, Mark.APPLIED, Mark.DONE
BROKEN: dict[str, Any] = {"evidence": evidence(NOW + 1000, load=9)}


def one_away(name: str) -> Observation:
    return Observation(at_ms=NOW, serving=tuple(each for each in SEEN.serving if each != name), starting=(name,))


def test_the_first_replica_is_ordered_alone() -> None:
    move = check(record(TUNE, Phase.PLANNED), view(), "call 0")
    assert isinstance(move, Call)
    taken = after_call(move, view())
    assert taken.marks == (A, U)
    for now_ms in (NOW + 1000, NOW + 60_000):  # all is well, and it is not done
        check(taken, view(now_ms, reports=reports(taken, RUNNING), seen=one_away("chat-0")), "wait")


@pytest.mark.parametrize(
    ("changes", "seen", "expected"),
    [
        ({}, {"starting": ("chat-9",)}, "refused in_flight"),
        ({"restores": True}, {"starting": ("chat-9",)}, "planned u"),
        ({"restores": True}, {"draining": ("chat-9",)}, "refused in_flight"),
        ({"restores": True}, {"starting": ("chat-9",), "serving": ("chat-0",)}, "refused at_minimum"),
    ],
)
def test_a_bad_setting_is_taken_back_though_a_replica_hangs_in_its_start(
    changes: dict[str, Any], seen: dict[str, Any], expected: str
) -> None:
    one = TUNE.model_copy(update={"replicas": 1, "by_replica": {"chat-0": 1.0}} | changes)
    fleet = replace(SEEN, **seen)
    check(record(one, action=action(one)), view(draft=Draft(plan_for(one), fleet)), expected)


@pytest.mark.parametrize(
    ("starting_s", "expected"),
    [({"chat-9": 601.0}, "planned u u"), ({"chat-9": 600.0}, "refused in_flight"), ({}, "refused in_flight")],
)
def test_a_replica_that_hangs_in_its_start_is_not_waited_for_and_is_told_of(
    starting_s: dict[str, float], expected: str
) -> None:
    spec = TUNE.model_copy(update={"effect": TUNE.effect.model_copy(update={"by_s": 600.0})})
    fleet = replace(SEEN, starting=("chat-9",), starting_s=starting_s)
    begun = record(spec, action=action(spec))
    move = check(begun, view(draft=Draft(plan_for(spec), fleet)), expected)
    assert isinstance(move, Save)
    if expected == "planned u u":
        assert move.record.detail == "not waited for, starting longer than 600 s: chat-9 for 601 s"
        check(move.record, view(seen=fleet), "call 0")


def test_what_was_not_waited_for_is_told_though_it_is_taken_back() -> None:
    told_of = "not waited for, starting longer than 600 s: chat-9 for 601 s"
    trial = record(TUNE, Phase.TRIAL, D, D, applied_ms=NOW, detail=told_of)
    move = check(trial, view(**BROKEN), "undoing guard_broken")
    assert isinstance(move, Save)
    assert move.record.detail == f"{told_of}; load_per_replica ≤ 6: 9"


def test_who_waits_for_none_that_starts_tells_of_none() -> None:
    change = {"restores": True, "replicas": 1, "by_replica": {"chat-0": 1.0}}
    one = TUNE.model_copy(update=change)
    fleet = replace(SEEN, starting=("chat-9",), starting_s={"chat-9": 601.0})
    move = check(record(one, action=action(one)), view(draft=Draft(plan_for(one), fleet)), "planned u")
    assert isinstance(move, Save)
    assert not move.record.detail


def test_where_people_act_themselves_from_now_on_no_further_replica_restarts_and_none_is_set_back() -> None:
    one_done = record(TUNE, Phase.APPLYING, D)
    advisory: dict[str, Any] = {"barred": Refusal.ADVISORY_MODE, "barred_why": "mode advisory was set by ann"}
    move = check(one_done, view(NOW + 3000, **advisory), "held_unverified advisory_mode")
    assert isinstance(move, Save)
    assert move.record.marks == (D, U)
    assert "by ann" in move.record.detail


def test_the_next_is_ordered_when_the_one_before_serves_and_the_guards_hold_on_what_came_after() -> None:
    running = record(TUNE, Phase.APPLYING, A)
    serves = check(running, view(reports=reports(running, DONE)), "applying d u")
    assert isinstance(serves, Save)
    assert serves.record.applied_ms == NOW + 1000
    check(serves.record, view(NOW + 1000), "wait")  # the evidence is from before it served again
    check(serves.record, view(NOW + 3000), "call 1")


@pytest.mark.parametrize(
    ("evidence_", "expected"),
    [
        (evidence(NOW + 3000, load=9), "undoing guard_broken"),
        (evidence(NOW + 3000, load=None), "wait"),
        (evidence(NOW + 3000, replicas=None), "wait"),
    ],
)
def test_guards_that_broke_after_the_first_take_it_back_and_no_other_is_touched(
    evidence_: dict[int, Any], expected: str
) -> None:
    check(record(TUNE, Phase.APPLYING, D, applied_ms=NOW + 1000), view(NOW + 3000, evidence=evidence_), expected)


def test_without_evidence_it_is_taken_back_when_its_time_is_over() -> None:
    first = record(TUNE, Phase.APPLYING, D)
    late = view(deadline_ms(first), evidence={})
    check(first, late, "undoing unverified")


def test_the_next_is_not_ordered_while_another_replica_is_away_for_other_reasons() -> None:
    least = record(TUNE, Phase.APPLYING, D, action=action(TUNE, least_replicas=2), applied_ms=NOW)
    check(least, view(seen=one_away("chat-2")), "wait")
    check(least, view(), "call 1")


def test_after_the_last_the_guards_hold_for_their_time_and_then_the_effect_verifies() -> None:
    both = record(TUNE, Phase.APPLYING, D, D, applied_ms=NOW)
    trial = check(both, view(), "trial d d")
    assert isinstance(trial, Save)
    held = check(trial.record, view(NOW + 2000), "trial d d")
    assert isinstance(held, Save)
    check(held.record, view(NOW + 20_000), "wait")
    verifying = check(held.record, view(NOW + 33_000), "verifying d d")
    assert isinstance(verifying, Save)
    check(verifying.record, view(NOW + 34_000), "verified expect_met")


@pytest.mark.parametrize("spec", [TUNE, ROUTE], ids=["tune", "route"])
def test_what_was_tried_and_breaks_a_guard_is_taken_back(spec: ActionSpec) -> None:
    tried = record(spec, Phase.TRIAL, *(D for _ in plan_for(spec).steps), applied_ms=NOW)
    check(tried, view(**BROKEN), "undoing guard_broken")


@pytest.mark.parametrize("spec", [TUNE, ROUTE], ids=["tune", "route"])
def test_what_was_tried_and_does_not_show_its_effect_in_time_is_taken_back(spec: ActionSpec) -> None:
    tried = record(spec, Phase.VERIFYING, *(D for _ in plan_for(spec).steps), phase_since_ms=NOW + 100_000)
    short = {"evidence": evidence(deadline_ms(tried), replicas=2)}
    assert deadline_ms(tried) == NOW + 100_000 + spec.effect.by_s * 1000
    check(tried, view(deadline_ms(tried), **short), "undoing unverified")
    check(tried, view(deadline_ms(tried), evidence={}), "held_unverified no_evidence")


def test_it_is_taken_back_in_reverse_order_one_at_a_time_whatever_the_guards_say() -> None:
    back: ActionRecord = record(TUNE, Phase.UNDOING, D, D, reasons=("guard_broken",))
    sight = {**BROKEN, "reports": reports(back, DONE, DONE)}
    move = check(back, view(**sight), "undo 1")
    assert isinstance(move, Call)
    ordered = after_call(move, view())
    away = {"seen": one_away("chat-1"), "reports": reports(ordered, None, RUNNING, undo=True) | sight["reports"]}
    check(ordered, view(**away), "wait")
    serves = check(ordered, view(reports=reports(ordered, None, DONE, undo=True)), "undoing guard_broken")
    assert isinstance(serves, Save)
    check(serves.record, view(reports=reports(back, DONE)), "undo 0")


def test_the_last_replica_in_service_is_not_restarted_to_set_it_back() -> None:
    back = record(TUNE, Phase.UNDOING, D, reasons=("guard_broken",))
    alone = Observation(at_ms=NOW, serving=("chat-0",), failed=("chat-1", "chat-2"))
    sight: dict[str, Any] = {"seen": alone, "reports": reports(back, DONE)}
    check(back, view(**sight), "wait")
    late = view(deadline_ms(back), **sight)
    check(back, late, "held_unverified guard_broken undo_failed")


@pytest.mark.parametrize("mark", [Mark.INTENDED, A], ids=["intended", "applied"])
@pytest.mark.parametrize("state", [RUNNING, FAILED])
def test_one_that_is_on_its_way_or_failed_is_set_back_at_once_since_it_serves_nobody(
    mark: Mark, state: StepState
) -> None:
    back = record(TUNE, Phase.UNDOING, mark, reasons=("kill_switch",))
    sight: dict[str, Any] = {"seen": one_away("chat-0"), "reports": reports(back, state), "barred": Refusal.KILL_SWITCH}
    if mark is Mark.INTENDED and state is RUNNING:
        begun = check(back, view(**sight), "undoing kill_switch")
        assert isinstance(begun, Save)
        back = begun.record
    check(back, view(**sight), "undo 0")


def test_an_order_that_never_came_is_called_off_though_all_action_is_stopped() -> None:
    back = record(TUNE, Phase.UNDOING, Mark.INTENDED, reasons=("kill_switch",))
    check(back, view(reports=reports(back, UNKNOWN), barred=Refusal.KILL_SWITCH), "undo 0")


def test_one_that_serves_keeps_its_settings_when_all_action_is_stopped() -> None:
    trial = record(TUNE, Phase.TRIAL, D, D)
    stopped = check(trial, view(barred=Refusal.KILL_SWITCH), "undoing kill_switch")
    assert isinstance(stopped, Save)
    sight = view(barred=Refusal.KILL_SWITCH, reports=reports(trial, DONE, DONE))
    end = check(stopped.record, sight, "held_unverified kill_switch")
    assert isinstance(end, Save)
    assert "chat-1 keeps its new settings" in end.record.detail


def test_one_that_goes_before_it_has_it_taken_back_whole() -> None:
    back = record(TUNE, Phase.UNDOING, D, reasons=("preempted",))
    check(back, view(stop="action x goes before it", reports=reports(back, DONE)), "undo 0")


def test_a_step_that_fails_is_taken_back_with_those_before_it() -> None:
    second = record(TUNE, Phase.APPLYING, D, A)
    move = next_move(second, view(reports=reports(second, None, FAILED)))
    assert told(move) == "undoing step_failed"


def test_shares_are_set_in_one_step_and_set_back_though_people_stop_it() -> None:
    move = check(record(ROUTE, Phase.PLANNED), view(**BROKEN), "call 0")
    assert isinstance(move, Call)
    trial = record(ROUTE, Phase.TRIAL, D)
    stopped = check(trial, view(barred=Refusal.KILL_SWITCH), "undoing kill_switch")
    assert isinstance(stopped, Save)
    check(stopped.record, view(barred=Refusal.KILL_SWITCH, reports=reports(trial, DONE)), "undo 0")
