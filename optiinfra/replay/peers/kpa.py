"""The Knative Pod Autoscaler as Knative and AIBrix run it: mean concurrency over a minute, and a panic over 6 seconds.

Source: knative.dev, "Configuring the Autoscaler" and AIBrix's PodAutoscaler (KPA): stable window 60 s, panic window
10 % of it, panic at twice the replicas that are ready, target 70 %, at most half given up in a step, looks every 2 s.
"""

from __future__ import annotations

from math import ceil, floor

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay.peers.lately import HighestLately, MeanLately
from optiinfra.replay.policy import Policy, amount, grid

TICK_S = 2
STABLE_S, PANIC_S = 60, 6
PANIC_RATIO = 2.0
MAX_UP_RATIO, MAX_DOWN_RATIO = 1000.0, 2.0


class Kpa:
    """Concurrency is what runs and waits; a replica's target is `target_ratio` of what it has at capacity. Replicas are
    given up when fewer were enough for `hold_s`.
    """

    def __init__(self, facts: FleetFacts, *, target_ratio: float, hold_s: float) -> None:
        self._target = target_ratio * facts.capacity_rps * facts.service_s
        self._stable = MeanLately(STABLE_S // facts.decide_s)
        self._panic = MeanLately(max(1, PANIC_S // facts.decide_s))
        self._highest = HighestLately(max(hold_s, 1.0))
        self._panic_since_s: int | None = None
        self._most_in_panic = 0

    def decide(self, seen: LoadSeen) -> int:
        if seen.waiting is None or seen.running is None:
            return seen.ready + seen.starting
        concurrency = seen.waiting + seen.running
        self._stable.put(concurrency)
        self._panic.put(concurrency)
        ready = max(1, seen.ready)
        in_panic = self._wanted(self._panic.mean or 0.0)
        self._mode(seen.now_s, ready, in_panic)
        wanted = self._limited(self._wanted(self._stable.mean or 0.0), ready)
        if self._panic_since_s is not None:
            self._most_in_panic = max(self._most_in_panic, wanted, self._limited(in_panic, ready))
            wanted = self._most_in_panic
        return self._highest.put(seen.now_s, wanted)

    def _mode(self, now_s: int, ready: int, in_panic: int) -> None:
        if in_panic >= PANIC_RATIO * ready:
            if self._panic_since_s is None:
                self._most_in_panic = ready
            self._panic_since_s = now_s
        elif self._panic_since_s is not None and now_s - self._panic_since_s >= STABLE_S:
            self._panic_since_s = None

    def _wanted(self, concurrency: float) -> int:
        return ceil(concurrency / self._target)

    @staticmethod
    def _limited(wanted: int, ready: int) -> int:
        return int(min(max(wanted, floor(ready / MAX_DOWN_RATIO)), ceil(ready * MAX_UP_RATIO)))


POLICY = Policy(
    "kpa",
    "Knative/AIBrix KPA with panic window, looks every 2 s",
    lambda course, knobs: Kpa(course.facts, target_ratio=amount(knobs, "target_ratio"), hold_s=amount(knobs, "hold_s")),
    grid(target_ratio=(0.25, 0.4, 0.55, 0.7, 0.85, 1.0), hold_s=(0.0, 120.0, 300.0)),
    main="target_ratio",
    decide_s=TICK_S,
)
