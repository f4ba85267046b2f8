"""Rates that scrapes tell become requests of each second: none lost, none twice, whenever scrapes and looks fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.demand import LONGEST_MS, MOST_S, Demand, has_news, heard, taken
from tests.agents.performance.sizing_desk import latest
from tests.agents.watching_desk import ms


def told(*slis: tuple[float, float | None]) -> Demand:
    demand = Demand()
    for at_s, rps in slis:
        demand = heard(demand, latest(at_s, rps))
    return demand


def test_a_rate_is_spread_evenly_over_the_seconds_since_the_scrape_before() -> None:
    _, arrived, partial = taken(told((0, None), (2, 3.0), (4, 5.0)), ms(5))
    assert (arrived, partial) == ([3, 3, 5, 5], False)


def test_parts_of_requests_are_owed_and_not_lost() -> None:
    _, arrived, _ = taken(told((0, None), (6, 0.5)), ms(6))
    assert arrived == [0, 1, 0, 1, 0, 1]


def test_a_second_that_has_only_begun_is_handed_on_when_it_is_over() -> None:
    rest, arrived, _ = taken(told((0, None), (1.5, 4.0)), ms(2))
    assert arrived == [4]
    assert taken(heard(rest, latest(3, 2.0)), ms(3))[1] == [3, 2]


def test_of_messages_that_end_together_the_last_counts() -> None:
    assert taken(told((0, None), (2, 3.0), (2, 7.0)), ms(2))[1] == [7, 7]


def test_what_is_not_newer_changes_nothing() -> None:
    demand = taken(told((0, None), (2, 3.0)), ms(2))[0]
    assert heard(demand, latest(2, 9.0)) is demand
    assert heard(demand, latest(1, 9.0)) is demand


def test_one_unknown_rate_makes_all_since_the_last_look_unknown_and_the_next_look_sees_again() -> None:
    rest, arrived, _ = taken(told((0, None), (2, 3.0), (4, None), (6, 3.0)), ms(15))
    assert arrived is None
    assert taken(heard(rest, latest(17, 4.0)), ms(30))[1] == [4, 4]


def test_a_time_too_long_was_not_measured() -> None:
    far_s = LONGEST_MS / 1000 + 1
    assert taken(told((0, None), (far_s, 3.0)), ms(far_s))[1] is None
    assert taken(told((0, None), (far_s - 1, 3.0)), ms(far_s))[1] is not None


def test_instances_that_do_not_tell_are_supposed_to_have_had_as_many_as_the_others() -> None:
    demand = heard(told((0, None)), latest(1, 6.0, samples=3, instances=4))
    assert taken(demand, ms(1)) == (Demand(until_ms=ms(1)), [8], True)


def test_where_most_instances_do_not_tell_nothing_is_known() -> None:
    demand = heard(told((0, None)), latest(1, 6.0, samples=1, instances=4))
    assert taken(demand, ms(1))[1] is None


def test_where_nobody_looks_for_an_hour_what_came_is_unknown_and_is_not_kept() -> None:
    demand = told((0, None), *((30.0 * n, 3.0) for n in range(1, MOST_S // 30)))
    assert taken(demand, ms(MOST_S))[1] == [3] * (MOST_S - 30)
    for at_s in range(MOST_S, 3 * MOST_S, 30):
        demand = heard(demand, latest(at_s, 3.0))
        assert len(demand.requests) <= MOST_S
    rest, arrived, _ = taken(demand, ms(3 * MOST_S))
    assert arrived is None
    assert taken(heard(rest, latest(3 * MOST_S + 2, 4.0)), ms(3 * MOST_S + 2))[1] == [4, 4]


def test_there_is_news_once_a_second_is_over() -> None:
    assert not has_news(told((0.2, None), (0.9, 3.0)))
    assert has_news(told((0.2, None), (1.0, 3.0)))
    assert has_news(taken(told((0, None), (1.5, 4.0)), ms(2))[0]) is False


@given(
    gaps=st.lists(st.integers(1, 40_000), min_size=1, max_size=40),
    rates=st.lists(st.floats(0, 50), min_size=40, max_size=40),
    looks=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_every_request_is_handed_on_once_whenever_looks_fall(
    gaps: list[int], rates: list[float], looks: list[bool]
) -> None:
    demand, at_ms, came, handed, seconds = told((0, None)), ms(0), 0.0, 0, 0
    for gap, rate, look in zip(gaps, rates, looks, strict=False):
        at_ms += gap
        demand = heard(demand, latest((at_ms - ms(0)) / 1000, rate))
        came += rate * gap / 1000
        if look:
            demand, arrived, _ = taken(demand, at_ms)
            handed, seconds = handed + sum(arrived or ()), seconds + len(arrived or ())
    demand, arrived, _ = taken(demand, at_ms)
    handed, seconds = handed + sum(arrived or ()), seconds + len(arrived or ())
    assert seconds == (at_ms - ms(0)) // 1000
    assert handed + demand.owed + sum(demand.requests) == pytest.approx(came, abs=1e-6)


def test_a_target_that_does_not_answer_brings_no_demand() -> None:
    """It may be starting, or gone: what the others tell is all that came, and yet not sure enough to lower anything."""
    told = latest(5.0, 40.0, samples=10, instances=20).model_copy(update={"instances_up": 10})
    begun = heard(Demand(), latest(0.0))
    _, counts, partial = taken(heard(begun, told), ms(5))
    assert (sum(counts or []), partial) == (200, True)
