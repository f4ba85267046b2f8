"""What follows from readings: how long memory was nearly full, how fast it fills, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agents.resource.core.readings import (
    Reading,
    Readings,
    above_s,
    full_in_s,
    p95,
    reading_of,
    rise_per_s,
    signs_of,
)
from tests.agents.resource.memory_desk import window
from tests.agents.watching_desk import ms


def readings(levels: list[float | None], *, size_s: int = 10, **more: Any) -> list[Reading]:
    return [
        Reading(end_ms=(place + 1) * size_s * 1000, size_s=size_s, cause_ms=0, kv=level, **more)
        for place, level in enumerate(levels)
    ]


def test_a_window_that_tells_nothing_of_memory_is_no_reading() -> None:
    assert reading_of(window(10, kv_cache_usage_ratio=None, preemptions_per_s=None), planned=False) is None


def test_restarts_of_our_own_are_not_counted() -> None:
    told = [reading_of(window(10, restarts=2.0), planned=planned) for planned in (False, True)]
    assert [each.restarts for each in told if each is not None] == [2.0, 0.0]


@given(st.permutations(list(range(30))))
@effort(deadline=None)
def test_the_order_in_which_readings_come_does_not_matter(order: list[int]) -> None:
    told = readings([place / 40 for place in range(30)])
    kept = Readings()
    for place in order:
        kept = kept.heard(told[place])
    assert kept.since(0, 10**9) == tuple(told)


def test_a_reading_that_is_known_changes_nothing_and_old_ones_go() -> None:
    first = readings([0.5])[0]
    kept = Readings().heard(first)
    assert kept.heard(first.model_copy(update={"kv": 0.9})) is kept
    later = first.model_copy(update={"end_ms": first.end_ms + 720_000})
    assert kept.heard(later).since(0, 10**9) == (later,)


def test_minutes_are_read_where_shorter_windows_are_not_told() -> None:
    kept = Readings()
    for each in readings([0.5, 0.6], size_s=60):
        kept = kept.heard(each)
    assert [each.size_s for each in kept.since(0, ms(0))] == [60, 60]
    assert {each.size_s for each in kept.heard(readings([0.5])[0]).since(0, 10_000)} == {10}


def test_the_time_above_four_fifths_ends_with_a_break_a_gap_or_the_unknown() -> None:
    assert above_s(readings([0.5, 0.9, 0.9, 0.9])) == 30
    assert above_s(readings([0.9, 0.5, 0.9])) == 10
    assert above_s(readings([0.9, None, 0.9])) == 10
    assert above_s(readings([0.9, 0.9, 0.5])) == 0
    gap = readings([0.9] * 6)
    assert above_s([gap[0], gap[1], gap[5]]) == 10


def test_a_steady_rise_says_when_the_cache_is_full() -> None:
    rising = readings([0.5 + 0.01 * place for place in range(30)])
    rise = rise_per_s(rising)
    assert rise is not None
    assert rise == pytest.approx((0.001, 0.79))
    assert full_in_s(rise) == pytest.approx(210)


@pytest.mark.parametrize(
    "levels",
    [
        [0.8 - 0.01 * place for place in range(30)],
        [0.7] * 30,
        [0.5, 0.9] * 15,
        [0.5, 0.6, 0.7, 0.8],
        [None] * 30,
        [0.7 + 0.0002 * place for place in range(30)],
    ],
    ids=["falls", "stands", "noise", "too few", "unknown", "hardly rises"],
)
def test_what_does_not_surely_rise_is_not_forecast(levels: list[float | None]) -> None:
    assert rise_per_s(readings(levels)) is None


def test_signs_are_shares_of_all_requests_over_the_minutes() -> None:
    told = readings([0.5, 0.5], preempted=2.0, finished=8.0, truncated=0.25, failures_per_s=0.5)
    signs = signs_of(told)
    assert signs.preempted_ratio == pytest.approx(0.2)
    assert (signs.kv_p95_ratio, signs.truncated_ratio, signs.failures_per_s) == (0.5, 0.25, 0.5)


def test_what_no_reading_tells_is_unknown() -> None:
    signs = signs_of(readings([None], finished=5.0))
    assert (signs.kv_p95_ratio, signs.preempted_ratio, signs.failures_per_s, signs.truncated_ratio) == (None,) * 4


def test_an_idle_workload_pushed_nobody_out() -> None:
    assert signs_of(readings([0.1], preempted=0.0, finished=0.0)).preempted_ratio == 0.0


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=60))
def test_p95_was_seen_and_at_most_a_twentieth_lies_above(values: list[float]) -> None:
    found = p95(values)
    assert found in values
    assert sum(each > found for each in values) <= 0.05 * len(values)


@pytest.mark.parametrize(
    "change", [{"kv_max": 1.0}, {"preempted": 1.0}, {"restarts": 1.0}], ids=["full", "preempted", "restarted"]
)
def test_memory_ran_out_where_it_was_full_somebody_was_pushed_out_or_an_engine_began_anew(
    change: dict[str, Any],
) -> None:
    assert readings([0.5], **change)[0].filled
    assert not readings([0.9], kv_max=0.98, preempted=0.0)[0].filled
