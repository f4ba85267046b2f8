"""A simulated fleet of equal replicas, each with a name, before one queue: what it serves, what it costs, who is lost.

The load is a fluid, in steps of one second, first come first served. A replica is billed from its order on until it is
removed; it serves `startup_s` after the order. A draining one takes no new request and is empty after `drain_s`. The
last second at which a request of second `s` begins service in time is `s + late_after_s - 1`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

import numpy as np

from contracts.errors import ConfigError
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.prices import PriceList
from optiinfra.replay.spot import Zone


class Phase(StrEnum):
    """The life of a replica. `gone` was removed, `lost` was spot capacity and was taken."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"
    LOST = "lost"


PRESENT = frozenset({Phase.STARTING, Phase.SERVING, Phase.DRAINING})
"""Phases in which a replica is billed."""


@dataclass(eq=False, slots=True)
class Replica:
    """One server. `since_s` is when its present phase began; a `retiring` one is removed once it is drained."""

    name: str
    ordered_s: int
    spot: bool
    phase: Phase = Phase.STARTING
    since_s: int = 0
    has_served: bool = False
    retiring: bool = False


@dataclass
class Bill:
    """Replica-seconds in the scored span, and what they cost."""

    on_demand_s: int = 0
    spot_s: int = 0
    usd: float = 0.0


class Scene:
    """The fleet and its queue; `advance` moves it on, orders take effect at `now_s`.

    `arrived` counts the requests of each second. `queue[t]` is how many wait at the beginning of second `t`, and
    `buckets` how many began service so far by bucket of their time to first token, both as a fluid: fractions too.
    `changes` counts what happened to replicas.
    """

    def __init__(
        self, arrived: Sequence[int], options: PipelineOptions, zone: Zone, prices: PriceList, initial: int
    ) -> None:
        self.options, self.zone, self.prices = options, zone, prices
        self.arrived = list(arrived)
        self.total = [0, *accumulate(self.arrived)]
        self.queue = [0.0] * (len(self.arrived) + 1)
        self.now_s = 0
        self.known: dict[str, Replica] = {}
        self.present: list[Replica] = []
        self.bill = Bill()
        self._edges = options.ttft_edges_s
        self.buckets = [0.0] * (len(self._edges) + 1)
        self.ttft_sum_s = 0.0
        self.interrupted = 0.0
        self.interrupted_scored = 0.0
        self.losses: list[tuple[int, int]] = []
        self.changes = 0
        self._serving = self._spot = 0
        self._due_s: int | None = None
        self._service_s = options.in_service_s
        self._head = 0
        self.scored_from_s = len(self.arrived) // 2 if options.scored_from_s is None else options.scored_from_s
        for _ in range(initial):
            replica = self._new()
            self._enter(replica, Phase.SERVING)

    def names(self, *phases: Phase) -> tuple[str, ...]:
        """Replicas in these phases, oldest first."""
        return tuple(each.name for each in self.present if each.phase in phases)

    def replica(self, name: str) -> Replica:
        """A replica by name, gone ones too. Raises ConfigError for one that never was."""
        if name not in self.known:
            raise ConfigError(f"no replica {name!r}", where="replay", fix="Observe the fleet first.")
        return self.known[name]

    def add(self) -> Replica:
        """Order one more."""
        replica = self._new()
        if self.options.startup_s == 0:
            self._enter(replica, Phase.SERVING)
        return replica

    def drain(self, name: str) -> None:
        """Send it nothing more."""
        self._enter(self.replica(name), Phase.DRAINING)

    def restore(self, name: str) -> None:
        """Let a draining one serve again."""
        self._enter(self.replica(name), Phase.SERVING)

    def remove(self, name: str) -> None:
        """End it: it is billed no more."""
        self._enter(self.replica(name), Phase.GONE)

    def retire(self, name: str) -> None:
        """Drain it and remove it as soon as it is empty; one that never served is removed at once."""
        replica = self.replica(name)
        if replica.phase is Phase.STARTING:
            self._enter(replica, Phase.GONE)
            return
        replica.retiring = True
        self._changed()
        if replica.phase is Phase.SERVING:
            self._enter(replica, Phase.DRAINING)

    def drained(self, replica: Replica) -> bool:
        """Whether it drains and is empty."""
        return replica.phase is Phase.DRAINING and self.now_s >= replica.since_s + self.options.drain_s

    @property
    def waiting(self) -> float:
        """Requests in the queue now."""
        return self.queue[self.now_s]

    @property
    def served(self) -> float:
        """Requests that have begun service so far."""
        return self._served_at(self.now_s)

    @property
    def finished(self) -> float:
        """Requests that have ended so far, interrupted ones among them."""
        return self._served_at(max(0, self.now_s - self._service_s))

    @property
    def running(self) -> float:
        """Requests in service now."""
        return self.served - self.finished

    def advance(self, to_s: int) -> None:
        """Let everything happen up to second `to_s`."""
        while self.now_s < to_s:
            then_s = min(to_s, self._next_event_s())
            self._charge(then_s)
            self._serve(self.now_s, then_s)
            self.now_s = then_s
            if then_s >= self._next_event_s():
                self._settle()

    def late(self, begin: int, end: int) -> float:
        """How many of the arrivals of seconds [begin, end) were not in time, as far as that is known by now; those that
        the trace ends too soon for were."""
        young_s = self.options.late_after_s - 1
        end = min(end, self.now_s - young_s)
        if end <= begin:
            return 0.0
        many = end - begin
        total = np.array(self.total[begin : end + young_s + 1], dtype=np.float64)
        younger = total[young_s + 1 :] - total[1 : many + 1]
        waiting = np.array(self.queue[begin + young_s + 1 : end + young_s + 1]) - younger
        return float(np.clip(waiting, 0.0, np.diff(total[: many + 1])).sum())

    def _served_at(self, second: int) -> float:
        return self.total[second] - self.queue[second]

    def _new(self) -> Replica:
        number, ratio = len(self.known), self.options.spot_ratio
        due = int((number + 1) * ratio + 1e-9) > int(number * ratio + 1e-9)
        spot = due and self.zone.available(self.now_s)
        replica = Replica(f"{self.options.workload}-{number}", self.now_s, spot, since_s=self.now_s)
        self.known[replica.name] = replica
        self.present.append(replica)
        self._spot += spot
        self._changed()
        return replica

    def _enter(self, replica: Replica, phase: Phase) -> None:
        self._serving += (phase is Phase.SERVING) - (replica.phase is Phase.SERVING)
        replica.phase, replica.since_s = phase, self.now_s
        replica.has_served = replica.has_served or phase is Phase.SERVING
        if phase not in PRESENT:
            self.present.remove(replica)
            self._spot -= replica.spot
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._due_s = None

    def _settle(self) -> None:
        """What is due now: a zone that is lost, replicas that are ready, retiring ones that are empty."""
        now_s, startup_s = self.now_s, self.options.startup_s
        self._due_s = None
        if self.zone.lost_at(now_s):
            self._lose([each for each in self.present if each.spot])
        for replica in list(self.present):
            if replica.phase is Phase.STARTING and now_s >= replica.ordered_s + startup_s:
                self._enter(replica, Phase.SERVING)
            elif replica.retiring and self.drained(replica):
                self._enter(replica, Phase.GONE)

    def _lose(self, taken: list[Replica]) -> None:
        if not taken:
            return
        answering = sum(each.phase is not Phase.STARTING for each in self.present)
        stopped = sum(each.phase is not Phase.STARTING for each in taken)
        interrupted = self.running * stopped / answering if answering else 0.0
        self.interrupted += interrupted
        if self.now_s >= self.scored_from_s:
            self.interrupted_scored += interrupted
        self.losses.append((self.now_s, len(taken)))
        for replica in taken:
            self._enter(replica, Phase.LOST)

    def _next_event_s(self) -> int:
        """When something is due next, worked out anew after each change."""
        if self._due_s is None:
            events = [self.zone.next_loss_s(self.now_s)]
            for each in self.present:
                if each.phase is Phase.STARTING:
                    events.append(each.ordered_s + self.options.startup_s)
                elif each.retiring:
                    events.append(each.since_s + self.options.drain_s)
            self._due_s = max(self.now_s + 1, min(events))
        return self._due_s

    def _charge(self, then_s: int) -> None:
        from_s = max(self.now_s, self.scored_from_s)
        span_s = then_s - from_s
        if span_s <= 0:
            return
        spot = self._spot
        held = len(self.present) - spot
        self.bill.spot_s += spot * span_s
        self.bill.on_demand_s += held * span_s
        usd_per_h = held * self.prices.usd_per_h(spot=False, at_s=from_s)
        if spot:
            usd_per_h += spot * self.prices.usd_per_h(spot=True, at_s=from_s)
        self.bill.usd += usd_per_h * span_s / 3600.0

    def _serve(self, begin: int, end: int) -> None:
        """Seconds [begin, end) with as many replicas as serve now."""
        capacity = self._serving * self.options.capacity_rps
        arrived, queue, total = self.arrived, self.queue, self.total
        waiting = queue[begin]
        if waiting == 0.0 and max(arrived[begin:end]) <= capacity:
            self._began(0, total[end] - total[begin])
            self._head = end
            return
        for second in range(begin, end):
            before = total[second] - waiting
            waiting = max(0.0, waiting + arrived[second] - capacity)
            queue[second + 1] = waiting
            self._count(second, before, total[second + 1] - waiting)

    def _count(self, second: int, before: float, after: float) -> None:
        """Requests number `before` to `after` began service in `second`: find when they came."""
        head, total = self._head, self.total
        while before < after:
            while total[head + 1] <= before:
                head += 1
            upto = min(after, float(total[head + 1]))
            self._began(second - head, upto - before)
            before = upto
        self._head = head

    def _began(self, waited_s: int, count: float) -> None:
        ttft_s = waited_s + self.options.first_token_s
        self.buckets[bisect_left(self._edges, ttft_s)] += count
        self.ttft_sum_s += ttft_s * count
