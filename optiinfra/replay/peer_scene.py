"""A scaler that drives the same simulated fleet as the whole policy, on the same spot capacity at the same prices.

It orders and gives up replicas directly: no rule, review or saga stands between. Replicas that were replaced at the
notice of their loss still serve and are not shown to it, as a cluster shows no pod that is on its way out.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from contracts.scaling import FleetFacts, LoadSeen, Scaler
from optiinfra.replay.account import Heeded, heeded
from optiinfra.replay.bill import Cost, Saving, cost_of, savings_of, static_p99
from optiinfra.replay.blind import Blind, blinded
from optiinfra.replay.cloud import Cloud, cloud_of
from optiinfra.replay.course import WARM_START_RATIO, Race
from optiinfra.replay.kv_tiers import with_tier
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.oracle import SLOT_S
from optiinfra.replay.policy import Course, Knobs, Policy
from optiinfra.replay.replicas import Phase, Replica
from optiinfra.replay.scene import Scene
from optiinfra.replay.whole import Asked, options_of


class PeerResult(BaseModel):
    """What a scaler made of the trace, accounted like the whole policy (`PipelineResult`); `savings` are against static
    p99 with the same KV tiers."""

    model_config = ConfigDict(frozen=True)

    policy: str
    cost: Cost
    savings: dict[str, Saving]
    spot_strategy: str
    spot_losses: tuple[tuple[int, int], ...]
    notices: tuple[Heeded, ...]
    outages: tuple[Blind, ...]


def facts_of(options: PipelineOptions, decide_s: int) -> FleetFacts:
    """What a scaler is told of such replicas."""
    return FleetFacts(
        options.capacity_rps,
        float(options.in_service_s),
        float(options.startup_s),
        decide_s,
        options.least_replicas,
        options.most_replicas,
    )


def replay_peer(
    arrivals: NDArray[np.int64],
    options: PipelineOptions,
    cloud: Cloud,
    name: str,
    scaler: Scaler,
    *,
    decide_s: int,
    initial: int,
    begin_s: int = 0,
) -> PeerResult:
    """Run it on `arrivals`, requests of each second from second `begin_s` of a day on, asked every `decide_s`."""
    peer = Peer(Scene(arrivals.tolist(), options, cloud, initial), scaler, decide_s, begin_s)
    peer.run()
    return _result(name, peer.scene, arrivals)


def _result(name: str, scene: Scene, arrivals: NDArray[np.int64]) -> PeerResult:
    options, cloud = scene.options, scene.cloud
    return PeerResult(
        policy=name,
        cost=cost_of(scene),
        savings=savings_of(scene, *[static_p99(arrivals, options, cloud.prices).cost] * 2),
        spot_strategy=cloud.strategy.name,
        spot_losses=tuple(scene.losses),
        notices=heeded(scene.notices, (), options.startup_s),
        outages=blinded(scene, options.outages),
    )


def driven(race: Race, asked: Asked, startup_s: float, policy: Policy, knobs: Knobs) -> Peer:
    """A scaler with these knobs, come to the end of what the whole policy runs on: the same days, replicas, zones,
    strategy, prices and mishaps."""
    around = asked.around()
    options = with_tier(options_of(race, asked, startup_s), around.kv_tier)
    arrivals = race.load.per_second[: race.scored.end_s]
    facts = facts_of(options, policy.decide_s)
    first = float(arrivals[:SLOT_S].mean()) * WARM_START_RATIO / options.capacity_rps
    cloud = cloud_of(options, around.zones, around.strategy, around.prices)
    scaler = policy.build(Course(facts, arrivals, race.load.begin_s), knobs)
    scene = Scene(arrivals.tolist(), options, cloud, max(facts.least, ceil(first)))
    peer = Peer(scene, scaler, policy.decide_s, race.load.begin_s)
    peer.run()
    return peer


def beside(race: Race, asked: Asked, startup_s: float, policy: Policy, knobs: Knobs) -> PeerResult:
    """The account of such a scaler."""
    scene = driven(race, asked, startup_s, policy, knobs).scene
    return _result(policy.name, scene, race.load.per_second[: race.scored.end_s])


class Peer:
    """One scaler at work. `orders`: second and replicas added, removed below 0, of each order so far."""

    def __init__(self, scene: Scene, scaler: Scaler, decide_s: int, begin_s: int) -> None:
        self.scene, self._scaler, self._decide_s, self._begin_s = scene, scaler, decide_s, begin_s
        self.orders: list[tuple[int, int]] = []
        self._seen_s = 0
        self._served = self._late = 0.0

    def run(self) -> None:
        """To the end of the trace."""
        scene, end_s = self.scene, len(self.scene.arrived)
        for now_s in range(0, end_s, self._decide_s):
            scene.advance(now_s)
            self._order(self._scaler.decide(self._look()))
        scene.advance(end_s)

    def _counted(self) -> list[Replica]:
        """Those that serve or start and stay."""
        scene, now_s = self.scene, self.scene.now_s
        there = (Phase.SERVING, Phase.STARTING)
        if len(scene.held) == 1:
            return [each for each in scene.present if each.phase in there]
        leaving = {each.zone for each in scene.notices if each.loss_s > now_s and each.replaced}
        return [each for each in scene.present if each.phase in there and each.zone not in leaving]

    def _look(self) -> LoadSeen:
        """What is measured now; late are those that began service since the last look after too long a wait."""
        scene, seen_s, now_s = self.scene, self._seen_s, self.scene.now_s
        counted = self._counted()
        ready = sum(each.phase is Phase.SERVING for each in counted)
        starting = len(counted) - ready
        shown_s = now_s + self._begin_s
        edge = scene.options.ttft_edges_s.index(float(scene.options.late_after_s))
        served, late = scene.served, sum(scene.buckets[edge + 1 :])
        done, was_late = served - self._served, late - self._late
        self._seen_s, self._served, self._late = now_s, served, late
        if any(each.begin_s <= now_s < each.end_s for each in scene.options.outages):
            return LoadSeen(shown_s, None, None, None, ready, starting)
        arrived = scene.arrived[seen_s:now_s]
        return LoadSeen(shown_s, arrived, scene.waiting, scene.running, ready, starting, done, was_late)

    def _order(self, wanted: int) -> None:
        """Bring those that stay to `wanted`. Of ones too many those go first that still start, then as the spot
        strategy says."""
        scene, options = self.scene, self.scene.options
        counted = self._counted()
        change = min(max(wanted, options.least_replicas), options.most_replicas) - len(counted)
        if change:
            self.orders.append((scene.now_s, change))
        for _ in range(change):
            scene.add()
        if change < 0:
            starting = [each.name for each in reversed(counted) if each.phase is Phase.STARTING]
            names = {each.name for each in counted}
            serving = [name for name in reversed(scene.last_to_stay()) if name in names]
            for name in [*starting, *serving][:-change]:
                scene.retire(name)
