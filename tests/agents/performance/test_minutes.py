"""Minutes of single replicas: who is in time, and that order and repeats make no difference."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.minutes import CLOSED_AFTER_MS, Minute, Minutes, minute_of
from contracts.laws.attainment import Attainment
from tests.agents.performance.steering_desk import NAMES, minute
from tests.agents.watching_desk import ms


def made(**changes: object) -> Minute:
    found = minute_of(minute(60), 0.95)
    assert found is not None
    return found.model_copy(update=changes)


def test_requests_late_with_further_tokens_count_beside_those_late_with_the_first() -> None:
    both = made(ttft=Attainment(good=90, total=100), itl=Attainment(good=19_000, total=20_000))
    assert both.in_time == (100, 85)
    assert made(ttft=Attainment(good=2, total=100), itl=Attainment(good=0, total=9)).in_time == (100, 0)
    assert made(ttft=Attainment(good=7, total=9), itl=Attainment(good=0, total=0)).in_time == (9, 7)


def test_a_minute_of_which_a_tenth_and_more_was_not_observed_is_none() -> None:
    assert minute_of(minute(60).model_copy(update={"coverage_ratio": 0.89}), 0.95) is None
    assert minute_of(minute(60, requests_per_s=None), 0.95) is None


def test_nobody_waited_where_the_longest_queue_was_none() -> None:
    found = minute_of(minute(60, requests_waiting=0.4, requests_waiting_max=0.0), 0.95)
    assert found is not None
    assert found.waiting_max == 0.0


def test_what_is_not_told_is_not_nothing_and_nothing_asked_for_is() -> None:
    found = minute_of(minute(60, external_hit_ratio=None, looked=0, error_ratio=0.1), 0.95)
    untold = minute_of(minute(60, prefix_cache_hit_ratio=None), 0.95)
    assert found is not None
    assert untold is not None
    assert (found.tier_hits, found.device_hits, found.failed) == (0.0, None, 0.1 * found.finished)
    assert (untold.tier_hits, untold.device_hits, untold.failed) == (None, None, None)


@given(st.integers(min_value=0, max_value=2**32))
def test_in_whatever_order_minutes_are_told_they_close_alike_and_once(seed: int) -> None:
    rng = random.Random(seed)
    told = [(name, ms(60 * n)) for n in (1, 2, 3) for name in NAMES if rng.random() < 0.8]
    shuffled = rng.sample(told, len(told)) + rng.choices(told, k=3) if told else []
    first, second = Minutes(), Minutes()
    for name, end_ms in told:
        first = first.heard(name, end_ms, made())
    for name, end_ms in shuffled:
        second = second.heard(name, end_ms, made())
    at_ms = ms(120) + CLOSED_AFTER_MS
    rest, closed = first.closed(at_ms)
    other, same = second.closed(at_ms)
    assert closed == same
    assert rest == other
    assert [end_ms for end_ms, _ in closed] == sorted({end_ms for _, end_ms in told if end_ms <= ms(120)})
    for name, end_ms in told:
        rest = rest.heard(name, end_ms, made())
    assert rest == other, "what came too late, and what is known, changes nothing"
