"""What is under way: an action takes its target, another may push it aside, its outcome frees it, or never comes."""

from __future__ import annotations

from typing import Any

import pytest

from agents.core.arbiter_settings import Limits
from contracts.events import Answer, EndState, Refusal, Severity
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
