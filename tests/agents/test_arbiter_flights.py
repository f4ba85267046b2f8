"""What is under way: an action takes its target, another may push it aside, its outcome frees it, or never comes."""

from __future__ import annotations

from typing import Any

import pytest

from agents.core.arbiter_settings import Limits
from agents.core.arbiter_state import FLIGHTS_LIMIT
from contracts.events import Answer, Candidate, EndState, Refusal, Severity
from tests.agents.arbiter_desk import Desk, answer, down, ended, found, judged, limited, settings, tick, up

R = Refusal


def test_a_higher_priority_that_does_the_opposite_pushes_an_action_aside() -> None:
    desk = Desk()
    lower = desk.begin(down())
    higher = desk.begin(up(), at_s=20)
    assert higher.preempts == lower.id
    third = desk.decide(judged(found(down(rule="urgent", priority=999), at_s=21)))
    assert third.reasons == (R.IN_FLIGHT,), "one that is being pushed aside has to end first"
    desk.send(ended(lower, EndState.UNDONE, at_s=25))
    assert [flight.action_id for flight in desk.state.flights] == [higher.id]


def stacking(**change: Any) -> Candidate:
    return up(**change).model_copy(update={"spec": up(**change).spec.model_copy(update={"stacks": True})})


def test_a_scale_up_that_stacks_begins_beside_others_and_names_them() -> None:
    desk = Desk(limited(max_replicas=20))
    first = desk.begin(up())
    second = desk.begin(stacking(rule="forecast"), at_s=15)
    third = desk.begin(stacking(rule="forecast"), at_s=30)
    assert [each.beside for each in (first, second, third)] == [(), (first.id,), (first.id, second.id)]
    assert not any(each.preempts for each in (first, second, third))
    desk.send(ended(first, at_s=40))
    fourth = desk.begin(stacking(rule="forecast"), at_s=45)
    assert fourth.beside == (second.id, third.id), "and it rests by its rule's own cooldown alone"
    desk.send(*(ended(each, at_s=50) for each in (second, third, fourth)))
    assert desk.decide(judged(found(stacking(), at_s=60))).reasons == (R.COOLDOWN,), "one alone rests as any other"


@pytest.mark.parametrize("other", [up(rule="burn", priority=999), down()])
def test_what_does_not_stack_waits_until_all_scale_ups_have_ended(other: Candidate) -> None:
    desk = Desk(limited(max_replicas=20, up_cooldown_s=0.0, down_cooldown_s=0.0))
    both = [desk.begin(up()), desk.begin(stacking(rule="forecast"), at_s=15)]
    for number, each in enumerate(both):
        assert desk.decide(judged(found(other, at_s=20 + number))).reasons == (R.IN_FLIGHT,)
        if number == 0:
            desk.send(ended(each, at_s=20 + number))
    desk.send(ended(both[1], at_s=30))
    assert desk.decide(judged(found(other, at_s=31))).answer is Answer.APPROVED


def test_several_scale_ups_are_not_pushed_aside() -> None:
    desk = Desk(limited(max_replicas=20, down_cooldown_s=0.0))
    first, second = desk.begin(up()), desk.begin(stacking(rule="forecast"), at_s=15)
    urgent = down(rule="urgent", priority=999)
    assert desk.decide(judged(found(urgent, at_s=20))).reasons == (R.IN_FLIGHT,)
    desk.send(ended(first, at_s=25))
    assert desk.begin(urgent, at_s=30).preempts == second.id, "the last one is, as ever"


def test_nothing_stacks_on_a_scale_down() -> None:
    desk = Desk()
    desk.begin(down(priority=950))
    assert desk.decide(judged(found(stacking(), at_s=15))).reasons == (R.IN_FLIGHT,)


def test_nothing_stacks_on_an_action_that_is_overdue() -> None:
    desk = Desk(limited(max_replicas=20))
    desk.begin(up())
    late_s = 30 + 6 * 120 + 301
    desk.send(tick(late_s))
    assert desk.decide(judged(found(stacking(), at_s=late_s + 1))).reasons == (R.IN_FLIGHT,)


def test_so_many_scale_ups_may_be_under_way_at_once() -> None:
    desk = Desk(limited(max_replicas=100))
    for number in range(FLIGHTS_LIMIT):
        desk.begin(stacking(rule="forecast", seen=50), at_s=number, replicas=50)
    decision = desk.decide(judged(found(stacking(rule="forecast", seen=50), at_s=FLIGHTS_LIMIT, replicas=50)))
    assert decision.reasons == (R.IN_FLIGHT,)


def test_orders_under_way_together_go_no_further_than_the_limit() -> None:
    desk = Desk(limited(max_replicas=100, max_step_up_ratio=1.0))  # four answer
    first = desk.begin(stacking(asks=3))
    second = desk.begin(stacking(asks=3, rule="forecast"), at_s=15)
    assert second.spec.replicas == 1
    decision = desk.decide(judged(found(stacking(rule="forecast"), at_s=30)))
    assert (decision.reasons, decision.detail[0]) == (
        (R.AT_MAXIMUM,),
        "0 of 1 granted: 4 replicas answer, 4 start, at most 8 by orders under way, maximum 100",
    )
    desk.send(ended(first, at_s=40, after={"replicas_up": 7.0}))
    third = desk.begin(stacking(asks=9, seen=7, rule="forecast"), at_s=45, replicas=7)
    assert third.spec.replicas == 6, "seven answer now, and one still starts"
    assert third.beside == (second.id,)


def test_together_they_triple_the_fleet_unless_told_otherwise() -> None:
    desk = Desk(limited(max_replicas=100))
    desk.begin(stacking(asks=3))
    assert desk.begin(stacking(asks=9, rule="forecast"), at_s=15).spec.replicas == 5


def test_a_single_order_that_a_person_approves_may_go_further() -> None:
    desk = Desk(limited(max_replicas=100))
    assert desk.begin(stacking(asks=9)).spec.replicas == 9


def test_the_smallest_fleet_may_have_two_start_at_once() -> None:
    desk = Desk(limited(max_replicas=100, max_step_up_ratio=1.0))
    desk.begin(stacking(seen=1), replicas=1)
    assert desk.begin(stacking(asks=5, seen=1, rule="forecast"), at_s=15, replicas=1).spec.replicas == 1


def test_replicas_that_start_count_for_the_maximum() -> None:
    desk = Desk()  # four answer, eight are the maximum
    first = desk.begin(stacking(asks=3))
    second = desk.begin(stacking(asks=3, rule="forecast"), at_s=15)
    assert second.spec.replicas == 1, "seven are ordered"
    decision = desk.decide(judged(found(stacking(), at_s=30)))
    assert (decision.reasons, decision.detail[0]) == (
        (R.AT_MAXIMUM,),
        "0 of 1 granted: 4 replicas answer, 4 start, at most 12 by orders under way, maximum 8",
    )
    desk.send(ended(first, EndState.FAILED, at_s=40))
    assert desk.begin(stacking(asks=9), at_s=45).spec.replicas == 3


def test_replicas_that_were_lost_meanwhile_are_not_taken_for_starting_ones() -> None:
    desk = Desk()
    desk.begin(stacking(asks=2))
    decision = desk.decide(judged(asked := found(stacking(asks=9, seen=1, rule="forecast"), at_s=15, replicas=1)))
    assert asked.replicas == 1
    assert decision.replicas == 5, "one answers, two start, eight are the maximum"


def test_an_order_that_was_left_unverified_still_counts_since_its_replicas_may_come() -> None:
    desk = Desk(limited(max_replicas=100))  # four answer
    first = desk.begin(stacking(asks=8))
    desk.send(ended(first, EndState.HELD_UNVERIFIED, at_s=40, after={"replicas_up": 4.0}))
    again = desk.decide(judged(found(stacking(asks=8, rule="forecast"), at_s=140)))
    assert (again.reasons, again.detail[0]) == (
        (R.AT_MAXIMUM,),
        "0 of 8 granted: 4 replicas answer, 8 start, at most 12 by orders under way, maximum 100",
    )
    desk.send(tick(939))
    assert desk.decide(judged(found(stacking(asks=8, rule="other"), at_s=939))).reasons == (R.AT_MAXIMUM,)
    desk.send(tick(940))
    assert desk.begin(stacking(asks=8, rule="third"), at_s=941).spec.replicas == 8, "so late none of them comes"


def test_an_order_that_was_left_unverified_is_forgotten_when_its_replicas_answer() -> None:
    desk = Desk(limited(max_replicas=100))
    first = desk.begin(stacking(asks=8))
    desk.send(ended(first, EndState.HELD_UNVERIFIED, at_s=40, after={"replicas_up": 4.0}))
    some = desk.decide(judged(found(stacking(asks=30, seen=9, rule="forecast"), at_s=140, replicas=9)))
    assert some.replicas == 15, "nine answer, three start, and nine may become twenty-seven"
    desk.send(ended(desk.actions[-1], EndState.REFUSED, at_s=150))
    desk.decide(judged(found(stacking(seen=12, rule="none"), at_s=160, replicas=12)))
    assert desk.state.awaited == ()


def test_what_is_given_back_is_not_taken_for_what_was_ordered_and_still_starts() -> None:
    desk = Desk(limited(max_replicas=100, up_cooldown_s=0.0, down_cooldown_s=0.0))
    first = desk.begin(stacking(asks=2))
    desk.send(ended(first, EndState.HELD_UNVERIFIED, at_s=40, after={"replicas_up": 5.0}))
    less = desk.begin(down(), at_s=141, replicas=5)
    desk.send(ended(less, at_s=150, after={"replicas_up": 4.0}))
    assert (desk.state.ordered, desk.state.starting) == (5, 1)


def test_the_same_priority_pushes_nothing_aside() -> None:
    desk = Desk()
    desk.begin(down(priority=900))
    assert desk.decide(judged(found(up(), at_s=20))).reasons == (R.IN_FLIGHT,)


@pytest.mark.parametrize(
    ("first", "then", "after_s", "expected"),
    [
        (up(), up(), 59, (R.COOLDOWN,)),
        (up(), up(), 60, ()),
        (up(), down(), 299, (R.COOLDOWN,)),
        (up(), down(), 300, ()),
        (down(), down(), 299, (R.COOLDOWN,)),
        (down(), down(), 300, ()),
        (down(), up(), 0, ()),
    ],
)
def test_a_target_rests_after_an_action(first: Any, then: Any, after_s: float, expected: tuple[R, ...]) -> None:
    desk = Desk()
    action = desk.begin(first)
    desk.send(ended(action, at_s=30))
    assert desk.decide(judged(found(then, at_s=30 + after_s))).reasons == expected


@pytest.mark.parametrize(
    ("state", "rests"),
    [
        (EndState.VERIFIED, True),
        (EndState.UNDONE, True),
        (EndState.HELD_UNVERIFIED, True),
        (EndState.REFUSED, False),
        (EndState.FAILED, False),
    ],
)
def test_a_target_is_free_after_any_outcome_and_rests_when_something_was_done(state: EndState, rests: bool) -> None:
    desk = Desk()
    action = desk.begin(up())
    assert desk.send(ended(action, state, at_s=30), ended(action, state, at_s=30)) == []
    assert desk.state.flights == ()
    decision = desk.decide(judged(found(at_s=31)))
    assert decision.reasons == ((R.COOLDOWN,) if rests else ())


def test_what_an_outcome_saw_counts_for_the_limits() -> None:
    desk = Desk(limited(up_cooldown_s=0.0))
    waiting = found(up(rule="queue"), at_s=1)
    action = desk.begin(up())
    desk.send(ended(action, at_s=5, after={"replicas_up": 8.0}))
    decision = desk.decide(judged(waiting))
    assert decision.reasons == (R.AT_MAXIMUM,), "the set saw four, eight are known by now"


def test_an_action_whose_outcome_came_first_takes_no_target() -> None:
    """After a crash a review is read again, and the outcome of what it led to may be read before it."""
    desk, again = Desk(limited(up_cooldown_s=0.0)), Desk(limited(up_cooldown_s=0.0))
    action = desk.begin(up())
    again.send(ended(action, EndState.REFUSED, at_s=1))
    assert again.decide(judged(found())).action_id == action.id
    assert again.state.flights == ()


def test_an_action_that_is_overdue_is_said_again_then_told_of_and_keeps_its_target() -> None:
    desk = Desk()
    action = desk.begin(up())
    due_s = 30 + 6 * 120 + 300  # it may use its time in each phase, and twice in an undo
    assert desk.send(tick(due_s)) == []
    assert desk.send(tick(due_s + 1)) == [action], "the same, to the last field: the executor knows it by its id"
    assert desk.send(tick(due_s + 301)) == []
    (alert,) = desk.send(tick(due_s + 302))
    assert (alert.model_dump()["name"], alert.model_dump()["severity"]) == ("action_overdue", Severity.CRITICAL)
    assert alert.model_dump()["subject"] == action.id
    assert desk.send(tick(due_s + 303), tick(due_s + 10_000)) == []
    assert desk.decide(judged(found(at_s=due_s + 10_001))).reasons == (R.IN_FLIGHT,)
    desk.send(ended(action, EndState.FAILED, at_s=due_s + 10_002))
    assert desk.decide(judged(found(at_s=due_s + 10_003))).answer is Answer.APPROVED


def test_a_trial_takes_its_settling_time_as_well() -> None:
    desk = Desk()
    action = desk.begin(down())
    due_s = 30 + 30 + 6 * 240 + 300
    assert desk.send(tick(due_s)) == []
    assert desk.send(tick(due_s + 1)) == [action]


def test_an_outcome_that_comes_for_an_action_said_again_frees_the_target() -> None:
    desk = Desk()
    action = desk.begin(up())
    assert desk.send(tick(1_051)) == [action]
    desk.send(ended(action, EndState.REFUSED, at_s=1_052))
    assert desk.send(tick(3_000)) == []
    assert desk.decide(judged(found(at_s=3_001))).answer is Answer.APPROVED


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(Limits(min_replicas=2, max_replicas=8), (2, 8)), (Limits(), (1, None)), (Limits(min_replicas=0), (1, None))],
)
def test_an_action_carries_the_limits_that_hold_when_it_is_done(
    limits: Limits, expected: tuple[int, int | None]
) -> None:
    desk = Desk(settings(default_limits=limits))
    desk.send(answer(desk.ask(up())))
    (action,) = desk.actions
    assert (action.least_replicas, action.most_replicas) == expected


def test_a_hand_that_the_executor_saw_is_yielded_to_at_once() -> None:
    """The fleet's own notice of it comes through the stream, and may come later than the next proposal."""
    desk = Desk(settings(manual_hold_s=600))
    action = desk.begin(up())
    seen = ended(action, EndState.REFUSED, at_s=30).model_copy(update={"reasons": (R.MANUAL_CHANGE.value,)})
    desk.send(seen)
    assert R.MANUAL_CHANGE in desk.decide(judged(found(down(), at_s=40))).reasons
