"""The Kubernetes Horizontal Pod Autoscaler: replicas in proportion to a metric over its target, given up after 5 min.

Source: kubernetes.io, "Horizontal Pod Autoscaling" and its default behaviour (v2): a sync every 15 s, tolerance 10 %, a
scale-down stabilisation of 300 s, at most twice the replicas or four more in each sync. Replicas that are not ready
count as idle when it scales up, and not at all when it scales down.
"""

from __future__ import annotations

from math import ceil

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay.peers.lately import HighestLately, MeanLately
from optiinfra.replay.policy import Policy, amount, grid

TOLERANCE_RATIO = 0.1
STABILISE_S = 300.0
RATE_WINDOW_S = 60
SYNC_S = 15


class Behaviour:
    """What happens to every recommendation, whatever metric it comes from: stabilisation and limits."""

    def __init__(self) -> None:
        self._highest = HighestLately(STABILISE_S)

    def settle(self, at_s: int, recommended: int, now: int) -> int:
        """Replicas to have, given those there are `now`."""
        kept = self._highest.put(at_s, recommended)
        if recommended > now:
            return min(recommended, max(2 * now, now + 4))
        return min(now, kept)


class Hpa:
    """A metric of the pods: requests in service (`running`) or requests a second (`rate`), each over what a replica
    does at its capacity, held at `target_ratio`.
    """

    def __init__(self, facts: FleetFacts, *, metric: str, target_ratio: float) -> None:
        full = facts.capacity_rps * (facts.service_s if metric == "running" else 1.0)
        self._metric, self._target = metric, full * target_ratio
        self._rate = MeanLately(RATE_WINDOW_S)
        self._behaviour = Behaviour()

    def decide(self, seen: LoadSeen) -> int:
        self._rate.put(*(seen.arrived or ()))
        now = seen.ready + seen.starting
        total = seen.running if self._metric == "running" else self._rate.mean
        if seen.arrived is None or total is None:
            return now
        return self._behaviour.settle(seen.now_s, self._recommended(total, seen.ready, seen.starting), now)

    def _recommended(self, total: float, ready: int, starting: int) -> int:
        now = ready + starting
        usage_ratio = total / (self._target * max(1, ready))
        if abs(usage_ratio - 1) <= TOLERANCE_RATIO:
            return now
        if usage_ratio < 1 or not starting:
            return ceil(usage_ratio * ready)
        diluted_ratio = total / (self._target * now)
        if diluted_ratio <= 1 + TOLERANCE_RATIO:
            return now
        return ceil(diluted_ratio * now)


POLICY = Policy(
    "hpa",
    "Kubernetes HPA on utilisation, 5 min stabilisation",
    lambda course, knobs: Hpa(course.facts, metric=str(knobs["metric"]), target_ratio=amount(knobs, "target_ratio")),
    grid(target_ratio=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), metric=("running", "rate")),
    main="target_ratio",
    decide_s=SYNC_S,
)
