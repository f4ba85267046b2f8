"""Spot strategies and the cloud they order from: shares, floors, zones, notices, and who is given up first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.events import FleetEvent
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.cloud import Cloud, cloud_of
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.pipeline import Surroundings
from optiinfra.replay.prices import Prices
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import NEVER_S, RecordedZone, SteadyZone, Zone
from optiinfra.replay.strategy import ON_DEMAND, FixedShare, Market, NoSpot, SpotStrategy
from tests.optiinfra.replay.loads import options, played, steady


def market(spot: dict[str, int], on_demand: int, *, load_rps: float = 0.0) -> Market:
    return Market(0, ("a", "b"), spot, on_demand, load_rps, 4.0)


def ordered(strategy: SpotStrategy, many: int, load_rps: float = 0.0) -> list[str]:
    """The zones of so many replicas, ordered one after the other."""
    spot: dict[str, int] = {}
    placed: list[str] = []
    for _ in range(many):
        zone = strategy.place(market(spot, placed.count(ON_DEMAND), load_rps=load_rps))
        placed.append(zone)
        if zone != ON_DEMAND:
            spot[zone] = spot.get(zone, 0) + 1
    return placed


def test_without_a_strategy_everything_is_on_demand() -> None:
    assert ordered(NoSpot(), 5) == [ON_DEMAND] * 5
    assert cloud_of(options(), {}, None, None).strategy == NoSpot()


@given(share=st.floats(0, 1), many=st.integers(1, 60))
def test_the_share_is_kept_at_every_size_and_spread_evenly(share: float, many: int) -> None:
    placed = ordered(FixedShare(share), many)
    spots = many - placed.count(ON_DEMAND)
    assert spots <= share * many + 1e-6
    assert spots >= share * many - 1 - 1e-6
    assert abs(placed.count("a") - placed.count("b")) <= 1


def test_the_floor_is_served_on_demand_before_anything_is_spot() -> None:
    placed = ordered(FixedShare(0.8, floor_ratio=0.5), 10, load_rps=24.0)
    assert placed[:3] == [ON_DEMAND] * 3, "half of 24 req/s is 3 replicas of 4"
    assert placed[3:] == ["a", "b", "a", "b", "a", "b", "a"]


def test_where_no_zone_has_any_the_replica_is_on_demand() -> None:
    assert FixedShare(1.0).place(Market(0, (), {}, 0, 0.0, 4.0)) == ON_DEMAND


@given(share=st.floats(0, 1), spot=st.integers(0, 20), on_demand=st.integers(0, 20), floor_rps=st.floats(0, 40))
def test_giving_up_never_takes_on_demand_replicas_below_the_floor_while_there_is_spot(
    share: float, spot: int, on_demand: int, floor_rps: float
) -> None:
    zone = FixedShare(share, floor_ratio=1.0).gives_up(
        market({"a": spot} if spot else {}, on_demand, load_rps=floor_rps)
    )
    if zone == ON_DEMAND and spot:
        assert (on_demand - 1) * 4.0 >= floor_rps - 4.0
        assert spot <= share * (spot + on_demand - 1) + 1e-6
    assert zone == ON_DEMAND or spot


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a share of 1\.2"):
        FixedShare(1.2)


def test_a_cloud_announces_each_loss_and_closes_the_zone_until_it_has_capacity_again() -> None:
    zones: dict[str, Zone] = {"a": RecordedZone(300, (1, 0, 1)), "b": SteadyZone()}
    cloud = Cloud(zones, FixedShare(0.5), Prices(), 60)
    assert [cloud.doomed("a", at_s) for at_s in (0, 239, 240, 299, 300)] == [False, False, True, True, False]
    assert not cloud.doomed(ON_DEMAND, 240)
    seen = {at_s: cloud.market(at_s, {"a": 2, "": 3}, 0.0, 4.0) for at_s in (0, 240, 300, 600)}
    assert {at_s: each.open for at_s, each in seen.items()} == {
        0: ("a", "b"),
        240: ("b",),
        300: ("b",),
        600: ("a", "b"),
    }
    assert (seen[0].spot, seen[240].spot, seen[0].on_demand) == ({"a": 2}, {}, 3)
    assert [cloud.next_s(at_s) for at_s in (0, 240, 300)] == [240, 300, NEVER_S]
    assert cloud.usd_per_h({"a": 2, "": 3}, 0) == pytest.approx(2 * 13.21 + 3 * 27.52)


def test_doomed_replicas_are_given_up_first_and_then_the_kind_there_is_too_much_of() -> None:
    zones: dict[str, Zone] = {"a": RecordedZone(300, (1, 0, 1)), "b": SteadyZone()}
    cloud = Cloud(zones, FixedShare(0.5), Prices(), 60)
    serving = [("n0", ""), ("n1", "a"), ("n2", ""), ("n3", "b"), ("n4", ""), ("n5", "b")]
    order = cloud.last_to_stay(serving, cloud.market(250, {"": 3, "a": 1, "b": 2}, 0.0, 4.0))
    assert order[-1] == "n1"
    assert sorted(order) == [name for name, _ in serving]
    assert order[-2:-4:-1] == ("n4", "n5"), "3 on demand and 2 spot of 5; of 4, two each; of 3, one may be spot"


def scene(zones: dict[str, RecordedZone], told: PipelineOptions, initial: int) -> Scene:
    return Scene([0] * 2000, told, cloud_of(told, zones, None, None), initial)


@pytest.mark.parametrize("replaces", [True, False])
def test_what_is_announced_is_ordered_anew_at_the_notice_where_the_strategy_says_so(replaces: bool) -> None:
    told = options(spot_ratio=0.5, spot_replaces=replaces, startup_s=180)
    fleet = scene({"a": RecordedZone(600, (1, 0, 1))}, told, 6)
    fleet.advance(480)
    assert len(fleet.names(Phase.STARTING)) == (3 if replaces else 0)
    (notice,) = fleet.notices
    assert (notice.at_s, notice.loss_s, notice.zone, notice.doomed) == (480, 600, "a", 3)
    assert notice.replaced == (3 if replaces else 0)
    fleet.advance(600)
    assert len(fleet.names(Phase.SERVING)) == 3
    fleet.advance(660)
    assert len(fleet.names(Phase.SERVING)) == (6 if replaces else 3), "from the notice on, not from the loss"
    assert {each.zone for each in fleet.present} == {ON_DEMAND}, "there was no other zone"


def test_a_zone_without_our_replicas_gives_no_notice() -> None:
    fleet = scene({"a": RecordedZone(600, (1, 0, 1))}, options(), 6)
    fleet.advance(2000)
    assert (fleet.notices, fleet.losses) == ([], [])


def lost(**changes: object) -> tuple[PipelineResult, list[FleetEvent]]:
    zones = {"a": RecordedZone(300, (1, 1, 0, 1)), "b": RecordedZone(300, (1, 1, 1, 0))}
    values = {"spot_ratio": 0.6, "initial_replicas": 10, "scrape_s": 5} | changes
    result, heard = played(steady(28, 1500), Surroundings(zones=zones), **values)
    return result, [each for each in heard if isinstance(each, FleetEvent)]


def test_the_account_says_who_did_something_about_a_notice() -> None:
    heeded, events = lost(spot_replaces=True)
    assert [(each.loss_s, each.zone) for each in heeded.notices][:2] == [(600, "a"), (900, "b")]
    assert len({event.id for event in events}) == len(heeded.notices)
    assert all(each.replaced == each.doomed for each in heeded.notices)
    assert "replaces at notice" in heeded.spot_strategy
    ignored, _ = lost(spot_replaces=False)
    assert {each.replaced for each in ignored.notices} == {0}
    assert [each.platform_before for each in ignored.notices] == [0] * len(ignored.notices), "no rule hears of it"
    assert sum(each.platform_after for each in ignored.notices) > 0, "a queue is what rules see"
    assert heeded.cost.attainment_ratio > ignored.cost.attainment_ratio
