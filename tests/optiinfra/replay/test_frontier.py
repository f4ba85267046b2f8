"""The frontier: the cheapest point that keeps an objective, found with the same effort for everybody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from connectors.traces.shape import Load
from connectors.twin.fluid import Outcome, Span
from contracts.errors import ConfigError
from optiinfra.replay import frontier, oracle, report
from optiinfra.replay.course import Fleet, Race, outages
from optiinfra.replay.frontier import Point, reached
from optiinfra.replay.peers import reactive, static
from optiinfra.replay.policy import DAY_S, Knobs, Policy, grid
from optiinfra.replay.registry import POLICIES
from tests.optiinfra.replay import traffic


def point(cost: float, attainment: float) -> Point:
    return Point("p", 60.0, {}, cost, attainment, 0.0, 0)


def load(seconds: int, *, peak_s: int = 0) -> Load:
    counts = np.full(seconds, 5, dtype=np.int64)
    counts[peak_s : peak_s + 600] += 5
    return Load("chat", counts, "a test")


def test_the_cheapest_point_that_keeps_each_objective_is_named() -> None:
    found = [point(1.5, 0.9995), point(1.1, 0.991), point(1.3, 0.992), point(1.0, 0.98)]
    assert [each and each.cost_vs_oracle for each in reached(found).cheapest] == [1.1, 1.5]
    assert reached([point(1.0, 0.98)]).cheapest == (None, None)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([(1.1, 0.97), (1.3, 0.99)], 0.98),
        ([(1.1, 0.97), (1.15, 0.96), (1.3, 0.99)], 0.98),
        ([(1.0, 0.97), (1.1, 0.99)], 0.99),
        ([(1.2, 0.97), (1.3, 0.99)], 0.97),
        ([(1.3, 0.99)], None),
    ],
)
def test_attainment_at_a_cost_lies_on_lines_between_points_nobody_beats(
    costs: list[tuple[float, float]], expected: float | None
) -> None:
    at_cost = reached([point(*each) for each in costs]).at_cost
    assert at_cost == (None if expected is None else pytest.approx(expected))


def test_between_failing_and_meeting_the_main_knob_is_halved() -> None:
    race, told = traffic.race(), []
    found = frontier.points(race, static.POLICY, 60.0, lambda: told.append(1))
    tried = {each.knobs["peak_ratio"] for each in found}
    assert tried > {knobs["peak_ratio"] for knobs in static.POLICY.grid}
    assert len(told) == len(found) <= frontier.runs(static.POLICY)
    best = reached(found).cheapest[0]
    assert best is not None
    grid_best = reached([each for each in found if each.knobs in static.POLICY.grid]).cheapest[0]
    assert grid_best is not None
    assert best.cost_vs_oracle < grid_best.cost_vs_oracle


def test_the_halving_closes_in_on_the_value_that_just_meets_each_objective() -> None:
    """Attainment rises with the knob: 0.99 is met from 0.70 on and 0.999 from 0.88 on."""

    class Smooth:
        scored = Span(0, DAY_S)

        def plan(self, startup_s: float) -> oracle.Plan:
            return oracle.Plan(np.ones(1, dtype=np.int64), 100)

        def run(self, policy: Policy, knobs: Knobs, startup_s: float) -> Outcome:
            value = float(knobs["peak_ratio"])
            attained = 0.999 if value >= 0.88 else 0.99 if value >= 0.70 else 0.9
            return Outcome(round(1000 * value), attained, 0, (), 0, np.zeros(1))

        def in_outage(self, outcome: Outcome) -> tuple[None, None]:
            return None, None

    smooth: Any = Smooth()
    policy = replace(static.POLICY, grid=grid(peak_ratio=(0.0, 1.0)))
    found = frontier.points(smooth, policy, 60.0)
    assert [point and point.knobs["peak_ratio"] for point in reached(found).cheapest] == [0.75, 0.9062]
    assert [point.knobs["peak_ratio"] for point in found] == [0.0, 1.0, 0.5, 0.75, 0.625, 0.875, 0.9375, 0.9062]


def test_days_8_to_14_are_scored_and_of_shorter_traces_the_second_half() -> None:
    assert Race(load(14 * DAY_S), Fleet()).scored == Span(7 * DAY_S, 14 * DAY_S)
    assert Race(load(20 * DAY_S), Fleet()).scored == Span(7 * DAY_S, 14 * DAY_S)
    assert Race(load(3501), Fleet()).scored == Span(1740, 3501)


def test_capacity_follows_from_the_mean_and_the_instances() -> None:
    race = Race(Load("chat", np.full(600, 30, dtype=np.int64), "a test"), Fleet(instances=15.0))
    assert race.capacity_rps == 2.0


def test_a_policy_that_forgets_starts_late_and_loses_nothing() -> None:
    race = Race(Load("chat", traffic.counts(4 * DAY_S), "a test"), Fleet(6.0))
    knobs = reactive.POLICY.grid[-1]
    begun = race.run(reactive.POLICY, knobs, 60.0)
    assert len(begun.queue) == 3 * DAY_S
    assert begun.attainment_ratio > 0.9


@pytest.mark.parametrize("counts", [np.ones(100, dtype=np.int64), np.zeros(1000, dtype=np.int64)])
def test_a_trace_too_short_or_silent_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(ConfigError):
        Race(Load("chat", counts, "a test"), Fleet())


def test_an_outage_stands_where_it_is_asked_for_or_around_each_peak() -> None:
    trace = load(2 * DAY_S, peak_s=DAY_S + 50_000)
    scored = Race(trace, Fleet()).scored
    assert outages(trace, 100.0, 60.0, scored) == (Span(100, 160),)
    assert outages(trace, None, 1800.0, scored) == (Span(DAY_S + 50_300 - 900, DAY_S + 50_300 + 900),)
    with pytest.raises(ConfigError, match="--outage"):
        outages(trace, 2.0 * DAY_S, 60.0, scored)


def test_every_point_is_a_row_and_every_policy_a_line() -> None:
    race = traffic.race()
    found = [report.oracle_point(race, 60.0), *frontier.points(race, static.POLICY, 60.0)]
    rows = report.results(race, found)
    assert len(rows) == len(found)
    assert rows[0] == {
        "policy": "oracle",
        "workload": "chat",
        "startup_s": 60,
        "cost_vs_oracle": 1.0,
        "attainment": 1.0,
        "knobs": {},
        "direction_changes_per_day": rows[0]["direction_changes_per_day"],
    }
    assert rows[0]["direction_changes_per_day"] > 0
    assert [line[0] for line in report.lines(found)] == ["oracle", "static-peak"]
    assert report.lines([point(1.1, 0.5)])[0][2:] == ("never", "never", "50.00 %", None, "–")


def test_names_of_policies_are_their_own() -> None:
    assert len({policy.name for policy in POLICIES} | {report.ORACLE}) == len(POLICIES) + 1
