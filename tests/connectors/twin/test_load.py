"""The load is what its sources say, and the same for the same seed."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean, median, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.load import CODE_IN, CONVERSATION_IN, CONVERSATION_OUT, Gaps, Lengths, Load, LoadSpec, curve
from connectors.twin.request import Request
from contracts.errors import ConfigError

FLAT = LoadSpec(1.0, day_s=1e9, phase=0.0)
"""A day so long that the rate stays at its night value while a test runs."""


def test_the_daily_curve_has_the_published_mean_peak_and_night() -> None:
    values = [curve(i / 1440) for i in range(1440)]
    assert mean(values) == pytest.approx(1.0, abs=1e-3)
    assert max(values) == pytest.approx(2.98, abs=0.02)
    assert min(values) == pytest.approx(0.42, abs=0.01)


def test_a_day_brings_as_many_requests_as_its_mean_rate_says() -> None:
    load = Load(LoadSpec(4.0, day_s=2000, phase=0.0), "1/x", 0)
    arrived = [r.arrival_ms for r in load.arrivals(2_000_000)]
    assert len(arrived) == pytest.approx(8000, rel=0.05)
    peak = sum(900_000 <= at < 1_100_000 for at in arrived)
    night = sum(at < 100_000 or at >= 1_900_000 for at in arrived)
    assert peak / night > 4


@pytest.mark.parametrize(("gaps", "cv"), [(Gaps.GAMMA, 1.19), (Gaps.WEIBULL, 2.2)])
def test_gaps_have_the_published_variation(gaps: Gaps, cv: float) -> None:
    load = Load(LoadSpec(10.0, gaps=gaps, cv=cv, day_s=1e9, phase=0.0), "1/x", 0)
    times = [r.arrival_ms for r in load.arrivals(5_000_000)]
    between = [b - a for a, b in pairwise(times)]
    assert mean(between) == pytest.approx(1000 / 4.2, rel=0.06)
    assert pstdev(between) / mean(between) == pytest.approx(cv, rel=0.1)


@pytest.mark.parametrize("lengths", [CONVERSATION_IN, CONVERSATION_OUT, CODE_IN])
def test_lengths_have_the_published_mean(lengths: Lengths) -> None:
    spec = LoadSpec(10.0, prompt=lengths, output=CONVERSATION_OUT, day_s=1e9)
    drawn = [r.prompt_tokens for r in Load(spec, "2/x", 0).arrivals(2_000_000)]
    published = spec.prompt
    assert mean(drawn) == pytest.approx(published.mean, rel=0.12)
    assert median(drawn) == pytest.approx(published.p50, rel=0.2)
    assert max(drawn) <= published.longest


@given(cuts=st.lists(st.floats(0, 60_000), max_size=30), factor_at_ms=st.integers(0, 60_000), factor=st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_same_seed_gives_the_same_requests_however_time_is_cut(
    cuts: list[float], factor_at_ms: int, factor: float
) -> None:
    def draw(moments: list[float]) -> list[Request]:
        load = Load(LoadSpec(3.0, day_s=60), "7/chat", 0)
        found: list[Request] = []
        for to_ms in sorted(m for m in moments if m <= factor_at_ms):
            found += load.arrivals(to_ms)
        found += load.arrivals(factor_at_ms)
        load.set_factor(factor, factor_at_ms)
        for to_ms in sorted(m for m in moments if m > factor_at_ms):
            found += load.arrivals(to_ms)
        return [*found, *load.arrivals(60_000)]

    assert draw(cuts) == draw([])


def test_arrivals_come_in_order_and_within_the_time_asked_for() -> None:
    load = Load(LoadSpec(20.0, day_s=100), "3/x", 5_000)
    first = [r.arrival_ms for r in load.arrivals(30_000)]
    second = [r.arrival_ms for r in load.arrivals(60_000)]
    assert first + second == sorted(first + second)
    assert first[0] >= 5_000
    assert first[-1] <= 30_000 < second[0]


def test_a_factor_of_zero_stops_the_load_and_one_starts_it_again() -> None:
    load = Load(FLAT, "1/x", 0)
    assert list(load.arrivals(100_000))
    load.set_factor(0.0, 100_000)
    assert not list(load.arrivals(300_000))
    load.set_factor(1.0, 300_000)
    assert list(load.arrivals(400_000))


def test_a_load_that_starts_later_keeps_the_time_of_day() -> None:
    spec = LoadSpec(3.0, day_s=100, phase=0.0)
    at_noon = Load(spec, "1/x", 50_000, origin_ms=0)
    assert at_noon.rate_per_s(50_000) == Load(spec, "1/x", 0).rate_per_s(50_000) == pytest.approx(3.0 * curve(0.5))
    assert next(at_noon.arrivals(60_000)).arrival_ms >= 50_000


def test_different_seeds_give_different_loads() -> None:
    a, b = (list(Load(FLAT, seed, 0).arrivals(60_000)) for seed in ("1/x", "2/x"))
    assert a != b


@pytest.mark.parametrize(("rate", "cv", "day_s"), [(0.0, 1.0, 600.0), (1.0, -1.0, 600.0), (1.0, 1.0, 0.5)])
def test_a_load_that_cannot_be_is_refused(rate: float, cv: float, day_s: float) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        LoadSpec(rate, cv=cv, day_s=day_s)
