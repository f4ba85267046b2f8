"""Forecasts: need is more than rate where requests come in bursts, and what recurs is learnt from the past alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.forecast import SLACK_S, Forecaster, need_rps
from agents.performance.core.regression import MOST_CHANGE, Guesser, Manner
from agents.performance.core.series import Fading, Marks, Series
from tests.agents.performance.fleet_help import poisson

counts = st.lists(st.integers(0, 500), min_size=1, max_size=30)


def test_one_second_of_arrivals_may_be_spread_over_its_slack() -> None:
    assert need_rps(np.array([0.0, 0.0, 60.0, 0.0])) == pytest.approx(60 / (1 + SLACK_S))


@given(counts)
def test_a_fleet_of_the_needed_rate_keeps_no_request_waiting_beyond_the_slack(seconds: list[int]) -> None:
    rate = need_rps(np.array(seconds, dtype=float))
    queue = 0.0
    for arrived in seconds:
        queue = max(queue + arrived - rate, 0.0)
        assert queue <= rate * SLACK_S + 1e-6


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200), st.integers(1, 50), st.integers(5, 60))
def test_a_series_that_forgets_answers_as_one_that_does_not(values: list[float], slots: int, keep: int) -> None:
    series = Series(keep)
    for each in values:
        series.push(each)
    if slots <= keep:
        assert series.mean(slots) == pytest.approx(np.mean(values[-slots:]), abs=1e-6)
        assert series.means([slots, 1]) == pytest.approx([np.mean(values[-slots:]), values[-1]], abs=1e-6)


@given(st.integers(1, 9), st.integers(0, 400), st.integers(0, 200), st.integers(0, 60))
def test_marks_know_the_rise_of_a_straight_line_and_no_rise_beyond_what_they_keep(
    width: int, count: int, back: int, slots: int
) -> None:
    marks, keep = Marks(40, width), 40
    for number in range(count):
        marks.push(3.0 * number)
    known = slots + width <= back < count and back <= (keep - 1) * width
    if known:
        assert marks.rise(back, slots) == pytest.approx(3.0 * slots)
    if back >= count:
        assert marks.rise(back, slots) == 0.0


@given(st.integers(0, 90), st.lists(st.tuples(st.booleans(), st.floats(0, 9)), min_size=1, max_size=120))
def test_copies_that_go_different_ways_know_nothing_of_each_other(before: int, told: list[tuple[bool, float]]) -> None:
    def known(values: list[float]) -> tuple[Series, Marks]:
        series, marks = Series(20), Marks(20, 1)
        for each in values:
            series.push(each)
            marks.push(each)
        return series, marks

    def asked(series: Series, marks: Marks) -> list[object]:
        rises = [marks.rise(back, 2) for back in (3, 5, 19)]
        return [len(series), series.mean(5), series.mean(5, 2), *(series.means([1, 5]) if len(series) else []), *rises]

    past = [float(each) for each in range(before)]
    one = known(past)
    other = one[0].copy(), one[1].copy()
    for first, value in told:
        for each in one if first else other:
            each.push(value)
    for which, found in ((True, one), (False, other)):
        alone = known([*past, *(value for first, value in told if first is which)])
        assert [each.state().tolist() for each in found] == [each.state().tolist() for each in alone]
        assert asked(*found) == asked(*alone)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_what_fades_is_the_mean_until_its_span_is_over_and_then_counts_the_newest_most(values: list[float]) -> None:
    fading = Fading([0.5, 4.0, 60.0])
    for each in values:
        fading = fading.seen([each] * 3)
    last, near, far = fading.means
    assert last == pytest.approx(values[-1], abs=1e-9)
    assert far == pytest.approx(np.mean(values), abs=1e-9)
    expected = float(np.mean(values[:4]))
    for each in values[4:]:
        expected = 0.75 * expected + 0.25 * each
    assert near == pytest.approx(expected, abs=1e-9)
    assert Fading([0.5, 4.0, 60.0]).restored(fading.state()).means == fading.means


def test_what_fades_knows_nothing_at_first_and_what_learns_more_is_another() -> None:
    first = Fading([4.0])
    second = first.seen([1.0])
    assert (first.means, second.means) == ([0.0], [1.0])


def test_a_guess_is_trusted_less_where_the_load_was_restless_within_hours_though_not_in_the_last_half_hour() -> None:
    second = np.arange(48 * 3600)
    steps = np.repeat(np.random.default_rng(3).normal(0, 0.25, 48 * 60), 60)
    # Four hours calm, four of which the first twenty minutes of each hour are restless, and so on.
    wild = (second // 14_400 % 2 == 1) & (second % 3600 < 1200)
    load = poisson(200 * np.exp(np.where(wild, steps, 0.0)))
    forecaster = Forecaster(180, 15)
    spreads = [forecaster.see(load[begin : begin + 15]).ahead.spread for begin in range(0, len(load), 15)]
    ends = np.array(spreads).reshape(48, 240)[:, -20:].mean(axis=1)
    assert ends[45:48].mean() > 1.5 * ends[41:44].mean()


def test_a_slope_amid_bursts_is_carried_on_less_far_than_one_in_a_calm() -> None:
    second = np.arange(36 * 3600)
    calm = second // 3600 % 2 == 0
    ramps = 0.5 * np.abs(second / 1800 % 2 - 1)  # up and down again within the hour
    noise = np.repeat(np.random.default_rng(5).normal(0, 0.3, 36 * 120), 30)
    load = poisson(400 * np.exp(np.where(calm, ramps, 0.25 + noise)))
    forecaster, changes, slopes, quiet = Forecaster(180, 15), [], [], []
    for begin in range(0, len(load), 15):
        ahead = forecaster.see(load[begin : begin + 15]).ahead
        slope = np.log(np.mean(load[max(0, begin - 15) : begin + 15]) / np.mean(load[max(0, begin - 75) : begin + 15]))
        changes.append(ahead.log_rps - np.log(np.mean(load[max(0, begin - 45) : begin + 15]) + 1 / 30))
        slopes.append(slope)
        quiet.append(bool(calm[begin]) and begin % 3600 > 600)
    late = np.arange(len(slopes)) > 24 * 240
    inside = np.array([begin % 3600 > 600 for begin in range(0, len(load), 15)]) & late
    told = [
        float(np.polyfit(np.array(slopes)[chosen], np.array(changes)[chosen], 1)[0])
        for chosen in (inside & np.array(quiet), inside & ~np.array(quiet))
    ]
    assert told[0] > told[1] + 0.5, told


def test_the_last_errors_are_known_over_each_span_and_widen_the_next_spread() -> None:
    guesser = Guesser(240, 3 * 5760, 1, 2, (4.0, 240.0))
    for _ in range(240):
        guesser.judge(0.0, 0.1)
    assert guesser.recent == pytest.approx([0.1, 0.1])
    for _ in range(4):
        guesser.judge(0.0, 0.9)
    short, long = guesser.recent
    assert 0.6 < short < 0.9
    assert 0.1 < long < 0.15
    felt = np.column_stack([np.ones(400), np.tile([0.1, 0.6], 200)])
    came = np.tile([0.1, 0.6], 200)  # as far off as it was just before
    guesser.learn(
        np.ones((400, 1)), felt, np.zeros(400), np.zeros(400), came, Manner(0.5, 0.5, slice(None), slice(None))
    )
    calm, wild = (guesser.guess(np.ones(1), np.array([1.0, each]), 0.0, 0.5).spread for each in (0.1, 0.6))
    assert wild > calm + 0.2


def test_in_the_first_day_nothing_is_made_of_what_a_few_hours_teach_too_little_of() -> None:
    load = poisson(100 + 50 * np.sin(np.arange(25 * 3600) / 900))
    forecaster = Forecaster(180, 15)
    ahead = forecaster._guessers[0]
    used: list[int] = []  # slopes by unrest, the unrest of hours, and the last errors
    for begin in range(0, len(load), 15):
        forecaster.see(load[begin : begin + 15])
        used.append(int(np.count_nonzero(ahead._level.weights[:7]) + np.count_nonzero(ahead._error.weights[9:])))
    assert set(used[:5759]) == {0}
    assert used[-1] == 7 + 10


def test_a_steady_load_is_expected_to_stay() -> None:
    forecaster = Forecaster(180, 15)
    load = poisson(np.full(4 * 3600, 100.0))
    for begin in range(0, len(load), 15):
        outlook = forecaster.see(load[begin : begin + 15])
    assert math.exp(outlook.ahead.log_rps) == pytest.approx(100, rel=0.1)
    assert outlook.peak.log_rps >= outlook.ahead.log_rps - 0.02
    assert outlook.ahead.spread < 0.1


def test_a_job_of_every_hour_is_foreseen_once_it_has_been_seen() -> None:
    second = np.arange(30 * 3600)
    load = poisson(np.where(second % 3600 < 1200, 160.0, 80.0))
    forecaster = Forecaster(180, 15)
    off = []
    for begin in range(0, len(load) - 300, 15):
        outlook = forecaster.see(load[begin : begin + 15])
        due = load[begin + 195 : begin + 255]
        off.append(abs(outlook.ahead.log_rps - math.log(np.mean(due))))
    early, late = np.array(off[240:960]), np.array(off[-960:])
    assert late.mean() < 0.75 * early.mean()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300))
def test_no_guess_leaves_the_last_minute_by_more_than_it_may(rates: list[int]) -> None:
    forecaster = Forecaster(60, 15)
    for index, rate in enumerate(rates):
        outlook = forecaster.see([rate] * 15)
        minute = np.mean(rates[max(index - 3, 0) : index + 1]) + 0.5 / 15
        assert abs(outlook.ahead.log_rps - math.log(minute)) <= MOST_CHANGE + 1e-6
        assert outlook.ahead.spread > 0
