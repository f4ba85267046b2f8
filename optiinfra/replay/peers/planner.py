"""An SLA planner in the manner of NVIDIA Dynamo: every interval it forecasts the next and orders replicas for it.

Source: docs.nvidia.com/dynamo, "Planner design": throughput scaling every 180 s; replicas are the forecast load over
what one replica does within its objectives. It looks one interval ahead, whatever a start takes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay.peers.predictors import Autoregression, Constant, Kalman, Predictor, Seasonal
from optiinfra.replay.policy import Policy, amount, grid

INTERVAL_S = 180
PREDICTORS: dict[str, Callable[[int], Predictor]] = {
    "constant": lambda _: Constant(),
    "autoregression": lambda _: Autoregression(),
    "kalman": lambda _: Kalman(),
    "seasonal": Seasonal,
}


class Planner:
    """Forecast rate over `load_ratio` of a replica's capacity."""

    def __init__(self, facts: FleetFacts, *, predictor: str, load_ratio: float) -> None:
        self._per_replica_rps = facts.capacity_rps * load_ratio
        self._predictor = PREDICTORS[predictor](facts.decide_s)

    def decide(self, seen: LoadSeen) -> int:
        rate = sum(seen.arrived) / len(seen.arrived) if seen.arrived else None
        forecast = self._predictor.put(rate)
        if rate is None:
            return seen.ready + seen.starting
        return ceil(forecast / self._per_replica_rps)


POLICY = Policy(
    "sla-planner",
    "SLA planner after Dynamo, every 180 s",
    lambda course, knobs: Planner(
        course.facts, predictor=str(knobs["predictor"]), load_ratio=amount(knobs, "load_ratio")
    ),
    grid(load_ratio=(0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0), predictor=tuple(PREDICTORS)),
    main="load_ratio",
    decide_s=INTERVAL_S,
    memory_s=None,
)
