"""What is ordered: counted from what is said while anything is under way, and from those that answer otherwise."""

from __future__ import annotations

import pytest

from agents.performance.core.underway import IDS_LIMIT, LOST_S, STARTUPS_LIMIT, Underway, answered, ended, overdue, said
from contracts.events import EndState
from tests.agents.performance.sizing_desk import action
from tests.agents.saga_help import ROUTE, TUNE
from tests.agents.saga_help import action as saga_action
from tests.agents.watching_desk import ms, outcome

ADD = action(2, 0)


def test_what_is_ordered_starts_until_it_answers() -> None:
    state = said(Underway(), ADD, 4)
    assert [state.counts(up) for up in (4, 5, 6)] == [(4, 2), (5, 1), (6, 0)]


def test_what_was_ordered_before_anybody_was_seen_to_answer_is_counted_from_those_who_answer_first() -> None:
    both = said(said(Underway(), ADD, None), action(-1, 5, "two"), None)
    assert both.counts(4) == (4, 0)
    seen = answered(both, 4, ms(20))
    assert seen.counts(4) == (4, 1)
    assert [flight.goal for flight in seen.flights] == [6, None]
    assert ended(ended(seen, outcome(ADD, 60)), outcome(action(-1, 5, "two"), 60)).counts(5) == (5, 0)


def test_shares_leave_the_count_as_it_is() -> None:
    state = said(Underway(), ADD, 4)
    other = saga_action(ROUTE)
    assert said(state, other, 4) is state
    assert ended(state, outcome(other, 60)).counts(5) == state.counts(5)


def test_the_replica_that_restarts_for_its_settings_is_starting_and_no_second_one_is() -> None:
    tune = saga_action(TUNE)
    state = said(Underway(), tune, 4)
    assert [state.counts(up) for up in (4, 3, 2)] == [(4, 0), (3, 1), (2, 1)]
    more = said(state, ADD, 3)
    assert [more.counts(up) for up in (3, 4, 5, 6)] == [(3, 3), (4, 2), (5, 1), (6, 0)]
    for end_state in (EndState.VERIFIED, EndState.UNDONE, EndState.HELD_UNVERIFIED):
        assert ended(state, outcome(tune, 60, end_state)).counts(3) == (3, 0)
        assert ended(more, outcome(tune, 60, end_state)).counts(5) == (5, 1)
    assert overdue(state, state.flights[0].until_ms + 1).counts(3) == (3, 0)


def test_what_drains_is_neither_ready_nor_starting() -> None:
    assert said(Underway(), action(-1, 0), 4).counts(4) == (3, 0)


def test_an_action_said_twice_counts_once_and_one_that_is_over_not_at_all() -> None:
    state = said(Underway(), ADD, 4)
    assert said(state, ADD, 4) is state
    over = ended(state, outcome(ADD, 60))
    assert said(over, ADD, 4) is over
    assert ended(over, outcome(ADD, 60)) is over


@pytest.mark.parametrize("state", [EndState.UNDONE, EndState.FAILED, EndState.REFUSED])
def test_what_was_taken_back_is_not_ordered_while_another_goes_on(state: EndState) -> None:
    both = said(said(Underway(), ADD, 4), action(1, 5, "two"), 4)
    assert both.counts(4) == (4, 3)
    assert ended(both, outcome(ADD, 60, state)).counts(4) == (4, 1)


def test_several_orders_count_together_and_each_is_there_when_all_before_it_are() -> None:
    state = Underway()
    for number, replicas in enumerate((2, 1, 3)):
        state = said(state, action(replicas, 15 * number, f"number {number}"), 4)
    assert [state.counts(up) for up in (4, 6, 10)] == [(4, 6), (6, 4), (10, 0)]
    assert [flight.goal for flight in state.flights] == [6, 7, 10]
    there = answered(state, 7, ms(200))
    assert [flight.reached_ms for flight in there.flights] == [ms(200), ms(200), None]
    over = ended(there, outcome(action(2, 0, "number 0"), 201, began_s=0))
    assert over.counts(7) == (7, 3)


@pytest.mark.parametrize("state", [EndState.UNDONE, EndState.FAILED, EndState.REFUSED])
def test_orders_after_one_that_came_to_nothing_are_there_without_it(state: EndState) -> None:
    first, second = action(2, 0, "first"), action(1, 15, "second")
    both = said(said(Underway(), first, 4), second, 4)
    left = ended(both, outcome(first, 60, state))
    assert [flight.goal for flight in left.flights] == [5]
    over = ended(answered(left, 5, ms(195)), outcome(second, 200, began_s=15))
    assert over.startups_s == (180.0,)


def test_one_left_unverified_keeps_its_place_among_the_orders() -> None:
    first, second = action(2, 0, "first"), action(1, 15, "second")
    both = said(said(Underway(), first, 4), second, 4)
    held = ended(both, outcome(first, 60, EndState.HELD_UNVERIFIED))
    assert [flight.goal for flight in held.flights] == [6, 7]
    gone = overdue(held, held.flights[0].until_ms + 1)
    assert [flight.goal for flight in gone.flights] == [5]


def test_several_orders_of_which_nothing_is_heard_are_given_up_at_once() -> None:
    state = said(said(Underway(), ADD, 4), action(1, 5, "two"), 4)
    state = said(state, action(-1, 10, "three"), 4)
    assert overdue(state, state.flights[-1].until_ms + 1).counts(4) == (4, 0)


def test_replicas_that_are_lost_are_not_taken_for_starting_ones() -> None:
    """Where orders follow one another there may be no moment without one for hours."""
    state = said(Underway(), ADD, 4)
    assert state.counts(1) == (1, 2)
    assert said(state, action(1, 15, "two"), 1).counts(1) == (1, 3)


def test_when_the_last_has_ended_those_that_answer_are_the_count_again() -> None:
    assert ended(said(Underway(), ADD, 4), outcome(ADD, 60)).counts(5) == (5, 0)


def test_an_order_left_unverified_is_waited_for_until_it_answers() -> None:
    held = ended(said(Underway(), ADD, 4), outcome(ADD, 60, EndState.HELD_UNVERIFIED))
    assert held.counts(4) == (4, 2)
    there = answered(held, 6, ms(200))
    assert (there.flights, there.startups_s) == ((), (200.0,))
    assert overdue(held, ms(61 + LOST_S)).counts(4) == (4, 0)


def test_a_withdrawal_left_unverified_is_not_waited_for() -> None:
    less = action(-1, 0)
    assert ended(said(Underway(), less, 4), outcome(less, 60, EndState.HELD_UNVERIFIED)).flights == ()


def test_the_start_up_lasts_from_the_first_step_until_all_that_was_ordered_answers() -> None:
    state = answered(answered(said(Underway(), ADD, 4), 5, ms(40)), 6, ms(70))
    assert ended(answered(state, 6, ms(80)), outcome(ADD, 90, began_s=10)).startups_s == (60.0,)


def test_what_never_answered_teaches_no_start_up() -> None:
    assert ended(said(Underway(), ADD, 4), outcome(ADD, 60)).startups_s == ()


def test_the_start_up_to_reckon_with_is_the_ninetieth_percentile_of_the_last_ones() -> None:
    assert Underway().startup_s(120)[0] == 120
    seen = Underway(startups_s=tuple(float(each) for each in range(1, 21)))
    assert seen.startup_s(120) == (18.0, "a start-up of 18 s (p90 of 20 seen, 1 to 20 s)")


def test_an_action_of_which_nothing_is_heard_any_more_is_let_go() -> None:
    state = said(Underway(), ADD, 4)
    assert overdue(state, ms(30 + 6 * 120 + LOST_S)) is state
    assert overdue(state, ms(31 + 6 * 120 + LOST_S)).flights == ()


def test_what_is_remembered_is_bounded() -> None:
    state = Underway()
    for n in range(3 * IDS_LIMIT):
        each = action(1, n, f"number {n}")
        state = ended(answered(said(state, each, 4), 5, ms(n + 60)), outcome(each, n + 61))
    assert (len(state.ended), len(state.startups_s), len(state.flights)) == (IDS_LIMIT, STARTUPS_LIMIT, 0)


def test_an_order_that_never_came_is_not_counted_on_while_another_flies() -> None:
    state = said(said(Underway(), action(3, 0, "lost"), 4), action(1, 5000, "flies"), 4)
    lost = next(flight for flight in state.flights if flight.change == 3)
    state = overdue(state, lost.until_ms + 1)
    assert [flight.change for flight in state.flights] == [1]
    assert state.counts(4) == (4, 1)
