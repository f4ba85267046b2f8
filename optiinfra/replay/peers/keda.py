"""KEDA: a metric of the whole workload shared out over replicas, on waiting requests alone or on all in the system.

Source: keda.sh, a Prometheus scaler with metric type AverageValue; KEDA hands the metric to an HPA, whose tolerance,
stabilisation and limits hold.
"""

from __future__ import annotations

from math import ceil

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay.peers.hpa import SYNC_S, TOLERANCE_RATIO, Behaviour
from optiinfra.replay.policy import Policy, amount, grid


class Keda:
    """As many replicas as make `per_replica` requests each; `running` says whether those in service count."""

    def __init__(self, *, per_replica: float, running: bool) -> None:
        self._per_replica, self._running = per_replica, running
        self._behaviour = Behaviour()

    def decide(self, seen: LoadSeen) -> int:
        now = seen.ready + seen.starting
        if seen.waiting is None or seen.running is None:
            return now
        total = seen.waiting + (seen.running if self._running else 0.0)
        usage_ratio = total / (self._per_replica * max(1, now))
        recommended = now if abs(usage_ratio - 1) <= TOLERANCE_RATIO else ceil(total / self._per_replica)
        return self._behaviour.settle(seen.now_s, recommended, now)


def _slots(facts: FleetFacts) -> float:
    return facts.capacity_rps * facts.service_s


WAITING = Policy(
    "keda-waiting",
    "KEDA on requests waiting",
    lambda course, knobs: Keda(per_replica=amount(knobs, "waiting_per_replica"), running=False),
    grid(waiting_per_replica=(0.05, 0.2, 1.0, 2.0, 5.0, 10.0)),
    main="waiting_per_replica",
    decide_s=SYNC_S,
)
RUNNING = Policy(
    "keda-running-waiting",
    "KEDA on requests running and waiting",
    lambda course, knobs: Keda(per_replica=amount(knobs, "target_ratio") * _slots(course.facts), running=True),
    grid(target_ratio=(0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)),
    main="target_ratio",
    decide_s=SYNC_S,
)
