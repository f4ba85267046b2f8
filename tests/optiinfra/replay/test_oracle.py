"""The oracle: everything in time, nobody cheaper, and dips kept where a restart costs more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.fluid import DRAIN_S, Span
from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay import oracle
from optiinfra.replay.registry import POLICIES
from tests.optiinfra.replay import traffic

minutes = st.lists(
    st.one_of(st.integers(0, 12).map(lambda n: [n] * 60), st.lists(st.integers(0, 12), min_size=60, max_size=60)),
    min_size=2,
    max_size=7,
)


class Above:
    """Has what the oracle's requests ask for and a little more, a little longer: never late, never cleverer."""

    def __init__(self, needed: list[int], extra: list[int], startup_s: int) -> None:
        self._wanted = [
            max(needed[slot : slot + startup_s // 60 + 1]) + extra[slot % len(extra)] for slot in range(len(needed))
        ]

    def decide(self, seen: LoadSeen) -> int:
        return self._wanted[seen.now_s // 60]


@settings(max_examples=60, deadline=None)
@given(minutes, st.floats(0.5, 7.0), st.sampled_from([0, 60, 120]))
def test_its_plan_serves_every_request_in_time_and_costs_what_it_says(
    arrived: list[list[int]], capacity_rps: float, startup_s: int
) -> None:
    counts = np.array([[0] * 60] * 3 + arrived).reshape(-1)
    needed = oracle.needs(counts, capacity_rps)
    plan = oracle.plan(needed, Span(180, len(counts)), startup_s)
    facts = FleetFacts(capacity_rps, 1.0, startup_s, 60)
    outcome = traffic.served(counts, oracle.Follow(plan.ready, startup_s), facts, int(plan.ready[0]), 180)
    assert outcome.attainment_ratio == pytest.approx(1.0, abs=1e-9)
    assert outcome.billed_s == plan.billed_s


@settings(max_examples=60, deadline=None)
@given(minutes, st.floats(0.5, 7.0))
def test_one_replica_less_in_any_minute_is_late(arrived: list[list[int]], capacity_rps: float) -> None:
    counts = np.array(arrived).reshape(-1)
    needed = oracle.floor_needs(counts, capacity_rps)
    for slot in np.flatnonzero(needed > 1):
        fewer = needed.copy() + 50
        fewer[slot] = needed[slot] - 1
        facts = FleetFacts(capacity_rps, 1.0, 0.0, 60)
        outcome = traffic.served(counts, oracle.Follow(fewer, 0.0), facts, int(fewer[0]))
        assert outcome.attainment_ratio < 1.0


@settings(max_examples=80, deadline=None)
@given(minutes, st.floats(0.5, 7.0), st.sampled_from([0, 60, 120]), st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_no_scaler_that_is_never_late_costs_less(
    arrived: list[list[int]], capacity_rps: float, startup_s: int, extra: list[int]
) -> None:
    counts = np.array(arrived).reshape(-1)
    needed = oracle.needs(counts, capacity_rps)
    scaler = Above(needed.tolist(), extra, startup_s)
    initial = int(needed[: startup_s // 60 + 1].max()) + max(extra)
    outcome = traffic.served(counts, scaler, FleetFacts(capacity_rps, 1.0, startup_s, 60), initial)
    assert outcome.attainment_ratio == pytest.approx(1.0, abs=1e-9)
    floor = oracle.plan(oracle.floor_needs(counts, capacity_rps), Span(0, len(counts)), startup_s)
    assert outcome.billed_s >= floor.billed_s
    assert outcome.billed_s >= oracle.plan(needed, Span(0, len(counts)), startup_s).billed_s


@pytest.mark.parametrize("startup_s", [60, 180])
def test_no_policy_that_is_never_late_costs_less(startup_s: int) -> None:
    race, never_late = traffic.race(), 0
    for policy in POLICIES:
        for knobs in policy.grid[:: max(1, len(policy.grid) // 6)]:
            outcome = race.run(policy, knobs, startup_s)
            if outcome.attainment_ratio == 1.0:
                never_late += 1
                assert outcome.billed_s >= race.plan(startup_s).billed_s
    assert never_late > 5


def test_what_is_needed_at_least_is_hardly_less_than_what_the_oracle_has() -> None:
    counts = traffic.counts(24 * 3600)
    needed, floor = (each(counts, 4.0) for each in (oracle.needs, oracle.floor_needs))
    assert (floor <= needed).all()
    assert needed.sum() <= 1.03 * floor.sum()


def test_a_burst_of_one_second_may_be_served_in_two() -> None:
    counts = np.zeros(60, dtype=np.int64)
    counts[30] = 10
    assert oracle.needs(counts, 1.0).tolist() == [5]


def test_a_burst_at_the_end_of_a_minute_is_the_next_minutes_too() -> None:
    counts = np.zeros(120, dtype=np.int64)
    counts[59] = 10
    assert oracle.needs(counts, 1.0).tolist() == [1, 9]


@pytest.mark.parametrize(("dip", "kept"), [(1, True), (2, True), (3, True), (4, False)])
def test_a_dip_is_kept_while_a_restart_costs_as_much(dip: int, kept: bool) -> None:
    needed = np.array([3] + [1] * dip + [3])
    size = 60 * len(needed)
    plan = oracle.plan(needed, Span(0, size), 180 - DRAIN_S)
    assert (plan.ready[1:-1] == (3 if kept else 1)).all()
    assert plan.billed_s == (3 * size if kept else size + 2 * (60 + DRAIN_S + 150 + 60))


def test_only_what_lies_in_the_scored_span_is_billed() -> None:
    needed = np.array([1, 1, 2, 1, 1, 1])
    assert oracle.plan(needed, Span(0, 360), 60).billed_s == 360 + 60 + 60 + DRAIN_S
    assert oracle.plan(needed, Span(120, 360), 60).billed_s == 240 + 60 + DRAIN_S
    assert oracle.plan(needed, Span(190, 360), 60).billed_s == 170 + DRAIN_S - 10
