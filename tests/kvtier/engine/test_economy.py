"""What a read costs is learnt from reads; what is written a day has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.engine.economy import Choice, Meter, Wear


def test_reads_of_two_sizes_tell_the_fixed_part_from_the_bandwidth() -> None:
    meter = Meter()
    for turn in range(200):
        size = 1_000_000 if turn % 2 else 9_000_000
        meter.saw(size, 0.002 + size / 5e9)
    assert meter.expected_s(20_000_000) == pytest.approx(0.002 + 20_000_000 / 5e9, rel=0.02)


def test_reads_of_one_size_tell_the_time_of_that_size() -> None:
    meter = Meter()
    for _ in range(50):
        meter.saw(4096, 0.001)
    assert meter.expected_s(4096) == pytest.approx(0.001)


def test_a_disk_that_became_slow_is_known_after_some_tens_of_reads() -> None:
    meter = Meter()
    for _ in range(500):
        meter.saw(1 << 20, 0.001)
    for _ in range(100):
        meter.saw(1 << 20, 0.050)
    assert meter.expected_s(1 << 20) == pytest.approx(0.050, rel=0.1)


@given(
    st.lists(st.tuples(st.integers(1, 1 << 30), st.floats(0, 100)), min_size=1, max_size=60), st.integers(1, 1 << 30)
)
def test_an_expectation_is_never_below_zero(reads: list[tuple[int, float]], size: int) -> None:
    meter = Meter()
    for read in reads:
        meter.saw(*read)
    expected_s = meter.expected_s(size)
    assert expected_s is not None
    assert expected_s >= 0


def test_late_blocks_are_loaded_and_early_ones_computed_where_the_disk_lies_between() -> None:
    choice = Choice(lambda position, tokens: 0.018 + 0.00017 * position / 512)
    choice.meter.saw(160 << 20, 0.024)
    assert not choice.load(0, 512, 160 << 20)
    assert choice.load(100 * 512, 512, 160 << 20)
    assert choice.worth_s(0, 512, 160 << 20) == 0
    assert choice.worth_s(100 * 512, 512, 160 << 20) == pytest.approx(0.011)


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(-100, 10_000)), max_size=100))
def test_no_more_is_spent_than_an_hour_in_hand_and_what_time_brought(spends: list[tuple[int, float]]) -> None:
    wear, now_s, most_s, spent = Wear(24 * 36_000, 0.0), 0.0, 0.0, 0
    for size, step_s in spends:
        now_s += step_s
        forward_s = max(now_s, most_s) - most_s
        most_s += forward_s
        spent += size if wear.spend(size, now_s) else 0
    walked_s = sum(max(0.0, step_s) for _, step_s in spends)
    assert spent <= 36_000 + 10.0 * walked_s + 1e-6


def test_without_a_budget_all_may_be_written() -> None:
    assert Wear(None, 0.0).spend(1 << 60, 0.0)
