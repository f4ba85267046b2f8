"""Forecasts: need is more than rate where requests come in bursts, and what recurs is learnt from the past alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.forecast import SLACK_S, Forecaster, need_rps
from agents.performance.core.regression import MOST_CHANGE
from agents.performance.core.series import Marks, Series
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
