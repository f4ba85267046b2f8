"""Uneven load is told from even load, and shares move towards capacity, a bounded step at a time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.performance.core.balance import ACT_ABOVE, Limits, Replica, balance, imbalance
from contracts.errors import ConfigError

FLEET = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 50), st.floats(0.01, 10)), min_size=1, max_size=9)
SLOW = [Replica("fast", 10.0, 4.0), Replica("slow", 30.0, 1.0)]


@example([3.8e-157, 3.8e-157], 0.1)
@given(st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=2, max_size=9), st.floats(0.1, 10))
def test_imbalance_is_from_0_to_1_whatever_the_scale_and_the_order(loads: list[float], scale: float) -> None:
    score = imbalance(loads)
    assert 0 <= score <= 1
    assert imbalance([each * scale for each in reversed(loads)]) == pytest.approx(score, abs=1e-9)


def test_it_is_0_for_equal_loads_and_1_when_one_has_everything() -> None:
    assert imbalance([5.0] * 7) == pytest.approx(0.0)
    assert imbalance([0.0, 0.0, 3.0]) == pytest.approx(1.0)
    assert imbalance([0.0, 0.0]) == 0.0
    assert imbalance([9.0]) == 0.0


@given(FLEET, st.floats(0.01, 0.9), st.floats(0, 1))
def test_weights_sum_to_one_move_no_further_than_a_step_and_keep_the_least_share(
    rows: list[tuple[float, float, float]], step: float, least: float
) -> None:
    fleet = [Replica(f"r{n}", outstanding, capacity) for n, (outstanding, capacity, _) in enumerate(rows)]
    before = {f"r{n}": weight for n, (*_, weight) in enumerate(rows)}
    total = sum(before.values())
    found = balance(fleet, before, limits=Limits(step, least))
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert sum(found.goal.values()) == pytest.approx(1.0)
    assert min(found.goal.values()) >= least / len(fleet) - 1e-9
    for name, share in found.weights.items():
        assert abs(share - before[name] / total) <= step * max(before[name] / total, least / len(fleet)) + 1e-9


@pytest.mark.parametrize("least_share", [0.0, 0.1])
def test_a_replica_that_had_nothing_comes_to_its_share_in_bounded_steps(least_share: float) -> None:
    weights, limits = {"fast": 1.0, "slow": 0.0}, Limits(least_share=least_share)
    first = balance(SLOW, weights, limits=limits).weights
    assert 0 < first["slow"] <= 0.25 * 0.2 + 1e-9
    for _ in range(40):
        weights = dict(balance(SLOW, weights, limits=limits).weights)
    assert weights == pytest.approx({"fast": 0.8, "slow": 0.2})


def test_step_by_step_it_comes_to_the_shares_of_capacity() -> None:
    weights = {"fast": 0.5, "slow": 0.5}
    for _ in range(12):
        weights = dict(balance(SLOW, weights).weights)
    assert weights == pytest.approx({"fast": 0.8, "slow": 0.2})


def test_an_even_load_changes_nothing() -> None:
    even = balance([Replica("a", 8.0, 4.0), Replica("b", 2.0, 1.0)], {"a": 3.0, "b": 1.0})
    assert not even.act
    assert even.weights == pytest.approx({"a": 0.75, "b": 0.25})


def test_a_replica_without_a_weight_gets_a_mean_one() -> None:
    found = balance([Replica("a", 1.0, 1.0), Replica("new", 1.0, 1.0)], {"a": 2.0})
    assert found.weights == pytest.approx({"a": 0.5, "new": 0.5})


def test_the_fewest_outstanding_is_recommended_where_requests_wait_and_durations_vary() -> None:
    queued = [*SLOW, Replica("full", 40.0, 4.0, waiting=10.0)]
    assert balance(queued, {}, 1.2).least_outstanding
    assert not balance(queued, {}, 0.2).least_outstanding
    assert not balance(queued, {}, None).least_outstanding
    assert not balance(SLOW, {}, 1.2).least_outstanding


def test_it_says_every_number_that_decided() -> None:
    found = balance(SLOW, {}, 0.9)
    assert found.act
    for word in (f"imbalance {found.imbalance:.2f} > {ACT_ABOVE}", "slow has 1.8 times", "0.9", "80.0%", "20.0%"):
        assert word in found.explain()


def test_a_replica_without_capacity_is_refused() -> None:
    with pytest.raises(ConfigError, match="Leave out"):
        Replica("a", 1.0, 0.0)
    with pytest.raises(ConfigError, match="wait"):
        Replica("a", 1.0, 1.0, waiting=2.0)
    with pytest.raises(ConfigError, match="no replicas"):
        balance([], {})
