"""The bill: parts of a saving add up to the whole, prices name their source, tiers change what a replica serves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.prices.listed import Listed
from contracts.errors import ConfigError
from optiinfra.replay.bill import WHOLE, Cost, savings
from optiinfra.replay.cloud import Cloud
from optiinfra.replay.kv_tiers import NoTiers, StationaryTier, capacity_ratio, with_tier
from optiinfra.replay.pipeline import Surroundings
from optiinfra.replay.prices import CatalogueBook, Prices
from optiinfra.replay.replicas import PRESENT, Phase
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import NEVER_S, RecordedZone, SteadyZone, Zone
from optiinfra.replay.strategy import FixedShare
from tests.optiinfra.replay.loads import options, played, steady, steps

H100 = Listed("p5.48xlarge", "us-east-1", "h100", 8, 55.04, 26.4, "aws.csv")
H200 = Listed("h200_8", "eu-north1", "H200", 8, 28.0, 11.6, "clouds.csv")


class Dearer:
    """Everything doubles after a while, and one zone is cheaper than the other."""

    source = "a test"

    def __init__(self, at_s: int) -> None:
        self._at_s = at_s

    def usd_per_h(self, *, spot: bool, zone: str, at_s: int) -> float:
        price = {"": 10.0, "a": 4.0, "b": 3.0}[zone]
        return price * 2 if at_s >= self._at_s else price

    def until_s(self, at_s: int) -> int:
        return self._at_s if at_s < self._at_s else NEVER_S


class Moving:
    """A price for each stretch of time: it changes at these seconds, spot another way than on demand."""

    source = "a test"

    def __init__(self, prices: list[tuple[int, float]]) -> None:
        self._from_s = [0, *sorted({at_s for at_s, _ in prices})]
        self._usd = [1.0, *(usd for _, usd in sorted(dict(prices).items()))]

    def usd_per_h(self, *, spot: bool, zone: str, at_s: int) -> float:
        usd = self._usd[bisect_right(self._from_s, at_s) - 1]
        return usd * usd / 50 if spot else usd

    def until_s(self, at_s: int) -> int:
        return next((each for each in self._from_s if each > at_s), NEVER_S)


def cost(replica_s: int, spot_s: int, usd: float) -> Cost:
    return Cost(
        replica_s=replica_s, spot_s=spot_s, usd=usd, attainment_ratio=1.0, requests=1, late=0.0, interrupted=0.0
    )


def parts_of(found: Mapping[str, object]) -> set[str]:
    return set(found) - {WHOLE}


amounts = st.tuples(st.integers(0, 10**7), st.floats(0, 1), st.floats(1, 1e5))
"""Replica-seconds, the share of them that is spot, and a bill in US dollars."""


@given(bare=amounts, static=amounts, policy=amounts, own_usd=st.floats(0, 1e4))
def test_the_parts_of_a_saving_add_up_to_the_whole(
    bare: tuple[int, float, float], static: tuple[int, float, float], policy: tuple[int, float, float], own_usd: float
) -> None:
    costs = [cost(replica_s, int(spot * replica_s), usd) for replica_s, spot, usd in (bare, static, policy)]
    found = savings(costs[0], costs[1], costs[2], Dearer(50), home="a", at_s=10, own_usd=own_usd)
    assert parts_of(found) == {"kv_tiers", "autoscaling", "spot", "prices", "own_cost"}
    assert sum(found[name].usd for name in parts_of(found)) == pytest.approx(found[WHOLE].usd, abs=1e-4)
    assert sum(found[name].share for name in parts_of(found)) == pytest.approx(found[WHOLE].share, abs=1e-4)
    assert sum(found[name].replica_s for name in parts_of(found)) == found[WHOLE].replica_s
    assert found[WHOLE].usd == pytest.approx(costs[0].usd - costs[2].usd - own_usd)


def test_each_part_is_what_it_says() -> None:
    """Static 100 replica-hours; ours 60, half of them spot at 6 less, in zones that were 1 cheaper than the first."""
    held, spot = 30 * 3600, 30 * 3600
    found = savings(
        cost(100 * 3600, 0, 1000.0),
        cost(100 * 3600, 0, 1000.0),
        cost(held + spot, spot, 30 * 10.0 + 30 * 3.0),
        Dearer(10**9),
        home="a",
        at_s=0,
        own_usd=5.0,
    )
    told = {name: each.usd for name, each in found.items()}
    assert told == pytest.approx(
        {"kv_tiers": 0, "autoscaling": 400, "spot": 30 * 6, "prices": 30, "own_cost": -5, WHOLE: 605}
    )
    assert found["autoscaling"].share == pytest.approx(0.4)


def test_a_replay_accounts_for_all_of_it() -> None:
    zones: dict[str, Zone] = {"a": RecordedZone(400, (1, 0, 1)), "b": SteadyZone()}
    around = Surroundings(zones=zones, prices=Dearer(900), kv_tier=StationaryTier(hit_ratio=0.5))
    values = {"spot_ratio": 0.6, "spot_replaces": True, "own_usd_per_h": 3.0, "initial_replicas": 10, "scrape_s": 5}
    result, _ = played(steps((4, 1200), (28, 300)), around, **values)
    found = result.savings
    assert all(found[name].usd for name in found)
    assert found["own_cost"].usd == pytest.approx(-3.0 * 1500 / 3600)
    assert sum(found[name].usd for name in parts_of(found)) == pytest.approx(found[WHOLE].usd)
    moved_usd = found["kv_tiers"].replica_s / 1500 * 600 * 10.0 / 3600
    assert found[WHOLE].usd - found["own_cost"].usd - found["kv_tiers"].usd == pytest.approx(
        result.static_p99.cost.usd - result.cost.usd + moved_usd
    ), "the replicas that tiers saved are counted at the first price, and were dearer in the last ten minutes"
    assert result.prices == "a test"
    assert "assumed" in result.kv_tier


@settings(max_examples=30)
@given(
    prices=st.lists(st.tuples(st.integers(1, 700), st.floats(0.5, 90)), max_size=12),
    orders=st.lists(st.tuples(st.integers(1, 599), st.sampled_from([-1, 1, 2])), max_size=6),
    lost_s=st.sampled_from([0, 90, 250]),
    scored_from_s=st.sampled_from([0, 77]),
)
def test_a_bill_is_the_sum_over_all_seconds_of_what_each_replica_costs_then(
    prices: list[tuple[int, float]], orders: list[tuple[int, int]], lost_s: int, scored_from_s: int
) -> None:
    book, zone = Moving(prices), RecordedZone(lost_s, (1, 0)) if lost_s else SteadyZone()
    told = options(startup_s=45, scored_from_s=scored_from_s)
    scene = Scene([1] * 600, told, Cloud({"a": zone}, FixedShare(0.5), book, 120), 3)
    for at_s, by in sorted(orders):
        scene.advance(at_s)
        for _ in range(by):
            scene.add()
        if by < 0 and len(scene.names(Phase.SERVING)) > 1:
            scene.retire(scene.last_to_stay()[-1])
    scene.advance(600)
    usd = 0.0
    for each in scene.known.values():
        end_s = 600 if each.phase in PRESENT else each.since_s
        usd += sum(
            book.usd_per_h(spot=each.spot, zone=each.zone, at_s=at_s) / 3600
            for at_s in range(max(scored_from_s, each.ordered_s), end_s)
        )
    assert scene.bill.usd == pytest.approx(usd)


def test_list_prices_are_of_the_part_of_an_instance_and_say_where_they_stand() -> None:
    book = CatalogueBook(H100, 4, {"eu": H200})
    assert book.usd_per_h(spot=False, zone="", at_s=0) == 27.52
    assert book.usd_per_h(spot=True, zone="us-east-1a", at_s=0) == 13.2
    assert book.usd_per_h(spot=True, zone="eu", at_s=0) == 5.8
    assert (
        book.source == "4 of 8 h100 of p5.48xlarge, us-east-1 (aws.csv); 4 of 8 H200 of h200_8, eu-north1 (clouds.csv)"
    )
    result, _ = played(steady(8, 300), Surroundings(prices=book))
    assert result.prices == book.source
    assert result.cost.usd == pytest.approx(result.cost.replica_s / 3600 * 27.52)


@pytest.mark.parametrize(
    ("listed", "gpus", "words"),
    [
        (Listed("cpu", "x", "", 0, 1.0, 0.5, "f.csv"), 4, "which has 0"),
        (H100, 0, "0 GPUs"),
        (Listed("p5.4xlarge", "x", "h100", 1, 6.88, None, "f.csv"), 1, "no spot price"),
    ],
)
def test_an_instance_that_cannot_be_priced_is_refused(listed: Listed, gpus: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CatalogueBook(listed, gpus, {})


def test_the_table_in_the_options_holds_in_any_zone() -> None:
    prices = Prices(on_demand_usd_per_h=2.0, spot_usd_per_h=1.0, source="here")
    assert {prices.usd_per_h(spot=True, zone=zone, at_s=0) for zone in "ab"} == {1.0}


@given(hit=st.floats(0, 0.99), cost_ratio=st.floats(0, 1), prompts=st.floats(0, 0.99))
def test_a_tier_never_makes_a_replica_slower_and_a_hit_that_costs_all_it_saves_changes_nothing(
    hit: float, cost_ratio: float, prompts: float
) -> None:
    tier = StationaryTier(hit_ratio=hit, hit_cost_ratio=cost_ratio, prompt_ratio=prompts)
    assert capacity_ratio(tier) >= 1.0
    assert capacity_ratio(tier.model_copy(update={"hit_cost_ratio": 1.0})) == 1.0
    assert capacity_ratio(NoTiers()) == 1.0


def test_with_a_tier_replicas_serve_more_and_the_result_says_that_it_is_assumed() -> None:
    tier = StationaryTier(hit_ratio=0.5, hit_cost_ratio=0.0, prompt_ratio=0.5)
    assert with_tier(options(), tier).capacity_rps == pytest.approx(4.0 * 4 / 3)
    busy = steady(19, 900)
    with_it, _ = played(busy, Surroundings(kv_tier=tier), rules_off={"scale-up-on-queue", "scale-up-on-burn"})
    without, _ = played(busy, rules_off={"scale-up-on-queue", "scale-up-on-burn"})
    assert with_it.cost.attainment_ratio > without.cost.attainment_ratio
    assert with_it.kv_tier.startswith("assumed")
    assert without.kv_tier == "no tiers"
    assert without.savings["kv_tiers"].usd == 0
