"""What a replay cost, what the same traffic would have cost without any of it, and what each part of it saved."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from optiinfra.replay.cloud import Cloud
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.prices import PriceBook
from optiinfra.replay.scene import Scene
from optiinfra.replay.strategy import NoSpot


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Cost(_Part):
    """Of the scored span: replica-seconds billed, US dollars, and the share of requests that were in time (1 where none
    came). `interrupted` requests were in service on spot replicas that were taken, and count as not in time."""

    replica_s: int
    spot_s: int
    usd: float
    attainment_ratio: float
    requests: int
    late: float
    interrupted: float


class Static(_Part):
    """The same trace on a number of replicas that never changes, but for those that are lost until others have started:
    the 99th percentile of the load of its minutes, which only hindsight knows."""

    replicas: int
    cost: Cost


class Saving(_Part):
    """What one part saved, below 0 what it cost more. `share` is of the bill of static p99 without any of it."""

    usd: float
    replica_s: int
    share: float


def cost_of(scene: Scene) -> Cost:
    """What a scene that has come to its end cost, and how many requests were in time."""
    begin, end = scene.scored_from_s, len(scene.arrived)
    requests = scene.total[end] - scene.total[min(begin, end)]
    late = scene.late(begin, end)
    missed = min(float(requests), late + scene.interrupted_scored)
    return Cost(
        replica_s=scene.bill.on_demand_s + scene.bill.spot_s,
        spot_s=scene.bill.spot_s,
        usd=scene.bill.usd,
        attainment_ratio=1.0 - missed / requests if requests else 1.0,
        requests=requests,
        late=late,
        interrupted=scene.interrupted_scored,
    )


def static_p99(arrived: NDArray[np.int64], options: PipelineOptions, prices: PriceBook | None = None) -> Static:
    """The account of as many replicas as the 99th percentile of the scored minutes needs, all on demand at these
    prices; None: the table in the options."""
    begin = len(arrived) // 2 if options.scored_from_s is None else options.scored_from_s
    scored = arrived[min(begin, len(arrived)) :]
    minutes = scored[: len(scored) // 60 * 60].reshape(-1, 60).mean(axis=1) if len(scored) >= 60 else scored
    need = float(np.percentile(minutes, 99)) / options.capacity_rps if len(minutes) else 1.0
    replicas = max(options.least_replicas, min(options.most_replicas, ceil(need)))
    scene = static_scene(arrived, options, replicas, prices)
    return Static(replicas=replicas, cost=cost_of(scene))


def static_scene(
    arrived: NDArray[np.int64], options: PipelineOptions, replicas: int, prices: PriceBook | None = None
) -> Scene:
    """So many replicas on demand to the end of the trace; those that are lost are ordered anew at once, as an
    orchestrator does without being asked."""
    scene = Scene(
        arrived.tolist(), options, Cloud({}, NoSpot(), prices or options.prices, options.spot_notice_s), replicas
    )
    for at_s in sorted({each.at_s for each in options.mishaps.losses if each.at_s < len(arrived)}):
        scene.advance(at_s)
        for _ in range(replicas - len(scene.present)):
            scene.add()
    scene.advance(len(arrived))
    return scene


WHOLE = "whole"


def savings(
    bare: Cost, static: Cost, cost: Cost, prices: PriceBook, *, home: str, at_s: int, own_usd: float = 0.0
) -> dict[str, Saving]:
    """The bill of static p99 on demand less that of the policy, in parts that add up to `whole`, in this order.

    `kv_tiers`: from `bare`, static without tiers, to `static`, with them. `autoscaling`: to the replica-seconds of the
    policy, all on demand at the prices that hold at `at_s`. `spot`: to those that were spot at the spot price of zone
    `home` at `at_s`. `prices`: to the prices of the zone and moment of each, those of static included. `own_cost`:
    what OptiInfra itself costs. Replica-seconds that a loss makes necessary weigh on autoscaling.
    """
    held, spot = (prices.usd_per_h(spot=kind, zone=home if kind else "", at_s=at_s) / 3600.0 for kind in (False, True))
    steps = {
        "kv_tiers": bare.replica_s * held - static.replica_s * held,
        "autoscaling": (static.replica_s - cost.replica_s) * held,
        "spot": cost.spot_s * (held - spot),
    }
    whole = bare.usd - cost.usd
    steps["prices"] = whole - sum(steps.values())
    steps["own_cost"] = 0.0 - own_usd
    seconds = {"kv_tiers": bare.replica_s - static.replica_s, "autoscaling": static.replica_s - cost.replica_s}
    parts = {name: _saving(usd, seconds.get(name, 0), bare) for name, usd in steps.items()}
    parts[WHOLE] = _saving(whole - own_usd, bare.replica_s - cost.replica_s, bare)
    return parts


def savings_of(scene: Scene, bare: Cost, static: Cost) -> dict[str, Saving]:
    """Those of a scene that has come to its end."""
    cloud, begin_s, end_s = scene.cloud, scene.scored_from_s, len(scene.arrived)
    own_usd = scene.options.own_usd_per_h * max(0, end_s - begin_s) / 3600.0
    home = next(iter(cloud.zones), "")
    return savings(bare, static, cost_of(scene), cloud.prices, home=home, at_s=begin_s, own_usd=own_usd)


def _saving(usd: float, replica_s: int, bare: Cost) -> Saving:
    return Saving(usd=usd, replica_s=replica_s, share=usd / bare.usd if bare.usd else 0.0)
