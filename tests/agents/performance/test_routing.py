"""Pools by length are proposed where they need fewer replicas than one pool, and refused by numbers elsewhere."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.routing import plan
from contracts.errors import ConfigError

HALF = [500] * 80 + [10_000] * 20


def mixed(penalty: float) -> dict[tuple[int, float], float]:
    """Short ones at 10, long ones at 1 req/s a replica; together as their work adds up, times a penalty."""
    apart = {(0, 2048): 10.0, (2048, inf): 1.0, (0, 8192): 10.0, (8192, inf): 1.0}
    return apart | {(0, inf): 1 / (0.8 / 10 + 0.2 / 1) * penalty, (2048, 8192): 0.0}


def test_a_split_pays_where_long_prompts_stand_in_the_way_of_short_ones() -> None:
    found = plan(HALF, lambda *ends: mixed(0.7)[ends], 50.0)
    assert found.pays
    assert [(each.least, each.below, each.replicas) for each in found.pools] == [(0, 2048, 4), (2048, inf, 10)]
    assert found.together.replicas == 20
    assert found.saved == 6
    assert "6 replicas fewer" in found.explain()


def test_a_small_fleet_is_not_split_and_the_numbers_say_why() -> None:
    found = plan(HALF, lambda *ends: mixed(0.7)[ends], 2.0)
    assert not found.pays
    assert found.pools == (found.together,)
    assert found.saved == 0
    assert "no split: 2 replicas at best" in found.explain()
    assert "0.16 -> 1" in found.explain()


def test_where_mixing_costs_nothing_no_fleet_is_split() -> None:
    assert not any(plan(HALF, lambda *ends: mixed(1.0)[ends], float(rps)).pays for rps in range(1, 300, 7))


def test_prompts_on_one_side_of_every_edge_have_nothing_to_split() -> None:
    found = plan([500] * 100, lambda *ends: 4.0, 50.0)
    assert not found.pays
    assert "one side of every edge" in found.explain()


def test_pools_that_may_not_be_of_one_replica_are_refused_sooner() -> None:
    at = [plan(HALF, lambda *ends: mixed(0.5)[ends], 4.0, least_replicas=least).pays for least in (1, 3)]
    assert at == [True, False]


def test_a_length_that_cannot_be_served_alone_is_in_no_pool_of_its_own() -> None:
    found = plan(HALF, lambda least, below: 5.0 if least == 0 and below == inf else 0.0, 50.0)
    assert not found.pays
    with pytest.raises(ConfigError, match="Allow more time"):
        plan(HALF, lambda *ends: 0.0, 50.0)
    with pytest.raises(ConfigError, match="no requests"):
        plan([], lambda *ends: 1.0, 50.0)


@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=60),
    st.floats(0.1, 500),
    st.dictionaries(st.tuples(st.sampled_from([0, 2048, 8192])), st.floats(0.1, 20), min_size=3, max_size=3),
)
def test_pools_cover_every_length_once_and_never_need_more_than_one_pool(
    lengths: list[int], demand_rps: float, rates: dict[tuple[int], float]
) -> None:
    found = plan(lengths, lambda least, below: rates[(least,)] / (2 if below == inf else 1), demand_rps)
    assert sum(each.share for each in found.pools) == pytest.approx(1.0)
    assert [each.least for each in found.pools[1:]] == [each.below for each in found.pools[:-1]]
    assert (found.pools[0].least, found.pools[-1].below) == (0, inf)
    assert found.saved >= 0
    assert all(each.replicas * each.capacity_rps >= demand_rps * each.share * 0.999 for each in found.pools)
