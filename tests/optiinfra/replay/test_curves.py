"""Curves of a fleet: they add up to what the replay of it counted, and no peak of them is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay import curves
from optiinfra.replay.frontier import Point
from optiinfra.replay.registry import POLICIES
from tests.optiinfra.replay import loads
from tests.optiinfra.replay.traffic import race, served


@dataclass
class Whim:
    """Wants whatever comes next."""

    wanted: list[int]

    def decide(self, seen: LoadSeen) -> int:
        return self.wanted.pop(0) if self.wanted else 2


@settings(max_examples=60, deadline=None)
@given(
    arrived=st.lists(st.integers(0, 9), min_size=120, max_size=200),
    wanted=st.lists(st.integers(1, 6), max_size=14),
    startup_s=st.integers(0, 50),
)
def test_replicas_and_late_requests_add_up_to_what_the_replay_counted(
    arrived: list[int], wanted: list[int], startup_s: int
) -> None:
    facts = FleetFacts(2.0, 4.0, float(startup_s), 15)
    came = np.array(arrived)
    outcome = served(came, Whim(list(wanted)), facts)
    ready, billed = curves.replicas(outcome, 3, float(startup_s))
    assert billed.sum() == outcome.billed_s
    late = curves.late_requests(came.astype(float), outcome.queue)
    missed = (1.0 - outcome.attainment_ratio) * came.sum()
    assert late.sum() == pytest.approx(missed, abs=1e-6)
    waiting, queue = 0.0, []
    for second, capacity in zip(arrived, ready * 2.0, strict=True):
        waiting = max(0.0, waiting + second - capacity)
        queue.append(waiting)
    assert np.allclose(queue, outcome.queue)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), most=st.integers(2, 60))
def test_a_thinned_line_is_short_and_ordered_and_keeps_its_peaks(values: list[float], most: int) -> None:
    line = curves.thinned(np.arange(len(values), dtype=float), np.array(values), most)
    assert len(line.at_s) == len(line.value) <= most
    assert (np.diff(line.at_s) > 0).all()
    assert (line.value.min(), line.value.max()) == (min(values), max(values))
    assert all(values[int(at)] == value for at, value in zip(line.at_s, line.value, strict=True))


def test_a_scaler_is_drawn_in_the_scored_span_at_the_knobs_that_were_asked_for() -> None:
    run = race(1800)
    hpa = next(each for each in POLICIES if each.name == "hpa")
    curve = curves.of_scaler(run, hpa, Point("hpa", 60.0, {"target_ratio": 0.5, "metric": "rate"}, 1.0, 1.0, 0.0, 0))
    assert curve.note == "target_ratio=0.5, metric=rate"
    assert curve.billed is not None
    assert (curve.ready.at_s[0], curve.ready.at_s[-1]) == (900, 1799)
    assert curve.billed.value.min() >= 1
    assert curve.waiting is not None
    outcome = run.run(hpa, {"target_ratio": 0.5, "metric": "rate"}, 60.0)
    assert curve.waiting.value.max() == outcome.queue[-900:].max()
    assert len(curve.waiting.at_s) == curves.MOST_STRETCHES
    assert curves.of_oracle(run, 60.0).ready.value.tolist() == run.plan(60.0).ready[15:30].tolist()


def test_the_curve_of_the_whole_policy_is_that_of_its_moments() -> None:
    result, _ = loads.played(loads.steps((6, 600), (40, 600)), scored_from_s=600)
    curve = curves.of_account(result, "rules")
    kept = [each for each in result.timeline if each.at_s >= 600]
    assert len(kept) < len(result.timeline)
    assert curve.ready.value.tolist() == [each.serving for each in kept]
    assert curve.late_ratio is not None
    assert curve.late_ratio.value.max() == max(each.late_ratio for each in kept) > 0


def test_demand_is_the_load_of_minutes_in_replicas() -> None:
    run = race(1800)
    line = curves.demand(run)
    minute = run.load.per_second[900:960].mean() / run.capacity_rps
    assert line.at_s[0] == 900
    assert line.value[0] == pytest.approx(minute)
    assert len(line.value) == 15
