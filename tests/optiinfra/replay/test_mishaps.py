"""Replicas that vanish and replicas that slow down: served, billed and late as worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.errors import ConfigError
from optiinfra.replay.bill import cost_of, static_p99, static_scene
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.hindsight import past_of
from optiinfra.replay.mishaps import Loss, Mishaps, Slowdown, Work, storm
from optiinfra.replay.peer_scene import facts_of, replay_peer
from optiinfra.replay.peers import hpa
from optiinfra.replay.policy import Course
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import NEVER_S
from tests.optiinfra.replay.loads import options, played, steady

SLOW = Mishaps(slowdowns=(Slowdown(begin_s=10, end_s=20, ratio=0.5),))


def scene(arrived: list[int], initial: int, mishaps: Mishaps, **changes: Any) -> Scene:
    told = options(mishaps=mishaps, **changes)
    return Scene(arrived, told, cloud_of(told, {}, None, None), initial)


def test_a_third_of_those_that_serve_vanishes_and_is_billed_no_more() -> None:
    fleet = scene([24] * 100, 6, Mishaps(losses=(Loss(at_s=40, ratio=1 / 3),)), service_s=5)
    fleet.advance(10)
    fleet.add()
    fleet.advance(39)
    assert len(fleet.names(Phase.SERVING)) == 6
    fleet.advance(100)
    assert fleet.names(Phase.SERVING) == ("chat-1", "chat-2", "chat-4", "chat-5", "chat-6"), (
        "evenly, and not the new one"
    )
    assert fleet.losses == [(40, 2)]
    assert fleet.interrupted == pytest.approx(24 * 5 / 3), "a third of what was in service"
    assert cost_of(fleet).replica_s == 4 * 100 + 2 * 40 + 90
    assert fleet.waiting == 8 * 30 + 4 * 30, "16 of 24 are served until the new one helps at second 70, then 20"


@given(serving=st.integers(0, 60), ratio=st.floats(0.01, 1.0))
def test_so_many_different_ones_vanish_as_the_share_says(serving: int, ratio: float) -> None:
    places = Mishaps(losses=(Loss(at_s=5, ratio=ratio),)).taken(serving, 5)
    assert len(set(places)) == len(places)
    assert abs(len(places) - serving * ratio) <= 0.5
    assert all(0 <= place < serving for place in places)
    assert Mishaps(losses=(Loss(at_s=5, ratio=ratio),)).taken(serving, 4) == []


def test_a_slow_fleet_serves_less_and_what_waits_is_late() -> None:
    fleet = scene([8] * 40, 2, SLOW)
    fleet.advance(40)
    assert fleet.queue[10:21] == [4.0 * second for second in range(11)]
    assert fleet.queue[21:] == [40.0] * 20, "at full pace they serve what comes, and the queue stays"
    # Second s of the slow ones begins 4 of its 8 in time, and none once 8 wait longer than the last second in time.
    on_time = sum(min(8.0, max(0.0, 4.0 * 2 - 4.0 * (second - 10))) for second in range(10, 39))
    assert fleet.late(0, 39) == 29 * 8 - on_time
    assert cost_of(fleet).replica_s == 80, "a slow replica costs what a fast one does"


@pytest.mark.parametrize("cuts", [(), (3, 10, 14, 20, 31)])
def test_what_is_in_service_takes_longer_while_replicas_are_slow(cuts: tuple[int, ...]) -> None:
    fleet = scene([8] * 40, 2, SLOW, service_s=4)
    for stop in cuts:
        fleet.advance(stop)
    running = []
    for at_s in (10, 14, 18, 20, 22, 24) if not cuts else (40,):
        fleet.advance(at_s)
        running.append(fleet.running)
    # At second 18 those are in service that began since 10, 4 a second: a full replica stays full.
    assert running == ([32.0, 32.0, 32.0, 32.0, 32.0, 32.0] if not cuts else [32.0])


@given(begin=st.integers(0, 30), length=st.integers(1, 30), ratio=st.floats(0.1, 1.0), service=st.integers(1, 20))
def test_service_never_ends_twice_and_never_before_its_time(
    begin: int, length: int, ratio: float, service: int
) -> None:
    work = Work(Mishaps(slowdowns=(Slowdown(begin_s=begin, end_s=begin + length, ratio=ratio),)), 80)
    begun = [work.begun_s(now_s, service) for now_s in range(81)]
    assert begun == sorted(begun)
    assert all(was <= max(0, now_s - service) for now_s, was in enumerate(begun))
    assert begun[80] == 80 - service or begin + length > 80 - service


def test_mishaps_tell_when_something_happens_next() -> None:
    both = Mishaps(losses=(Loss(at_s=15, ratio=0.5),), slowdowns=SLOW.slowdowns)
    assert [both.next_s(at_s) for at_s in (0, 10, 15, 20)] == [10, 15, 20, NEVER_S]
    assert [both.pace(at_s) for at_s in (9, 10, 19, 20)] == [1.0, 0.5, 0.5, 1.0]
    with pytest.raises(ValidationError):
        Loss(at_s=10, ratio=1.5)


def test_a_static_fleet_orders_anew_what_it_lost() -> None:
    lost = Mishaps(losses=(Loss(at_s=100, ratio=0.5),))
    fleet = static_scene(np.full(400, 8), options(mishaps=lost), 4)
    assert dict(fleet.served_by) == {0: 4, 100: 2, 160: 4}
    assert cost_of(fleet).replica_s == 4 * 400
    assert static_p99(np.full(400, 8), options(mishaps=lost)).cost.interrupted > 0


def test_hindsight_knows_that_replicas_were_slow() -> None:
    fleet = scene([8] * 40, 2, SLOW)
    fleet.advance(40)
    past = past_of(fleet)
    assert past.capacity_rps.tolist() == [4.0] * 10 + [2.0] * 10 + [4.0] * 20
    assert past.later(0, 38, np.zeros(40, dtype=np.int64)) == 0.0, "the same fleet has the same that are late"


def test_a_storm_takes_zones_within_its_time_only_and_from_its_seed() -> None:
    zones = storm(3600, 3600, 5, 7)
    again, other = storm(3600, 3600, 5, 7), storm(3600, 3600, 5, 8)
    assert len(zones) == 5
    for name, zone in zones.items():
        first_s = zone.next_loss_s(0)
        assert 3600 <= first_s < 7200
        assert zone.available(0)
        assert zone.available(7260), "it is over"
        assert first_s == again[name].next_loss_s(0)
    assert [zone.next_loss_s(0) for zone in zones.values()] != [zone.next_loss_s(0) for zone in other.values()]
    with pytest.raises(ConfigError, match="0 zones"):
        storm(0, 3600, 0, 1)


def test_the_whole_policy_and_a_scaler_meet_the_same_loss() -> None:
    arrived = steady(16.0, 1500)
    told = options(mishaps=Mishaps(losses=(Loss(at_s=600, ratio=0.5),)), initial_replicas=6)
    result, _ = played(arrived, mishaps=told.mishaps, initial_replicas=6)
    assert [at_s for at_s, _ in result.spot_losses] == [600]
    assert result.cost.interrupted > 0
    scaler = hpa.POLICY.build(Course(facts_of(told, 15), arrived), hpa.POLICY.grid[0])
    peer = replay_peer(arrived, told, cloud_of(told, {}, None, None), "hpa", scaler, decide_s=15, initial=6)
    assert [at_s for at_s, _ in peer.spot_losses] == [600]
    assert peer.cost.interrupted > 0
