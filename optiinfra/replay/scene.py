"""A simulated fleet of equal replicas, each with a name, before one queue: what it serves, what it costs, who is lost.

The load is a fluid, in steps of one second, first come first served. A replica is billed from its order on until it is
removed; it serves `startup_s` after the order. A draining one takes no new request and is empty after `drain_s`. The
last second at which a request of second `s` begins service in time is `s + late_after_s - 1`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from contracts.errors import ConfigError
from optiinfra.replay.cloud import Cloud, Notice
from optiinfra.replay.lateness import late_each
from optiinfra.replay.mishaps import Work
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.replicas import PRESENT, Bill, Phase, Replica
from optiinfra.replay.strategy import ON_DEMAND, Market

MEASURED_S = 600
"""The load that a spot strategy is told of is the mean of so many seconds."""


class Scene:
    """The fleet and its queue; `advance` moves it on, orders take effect at `now_s`.

    `arrived` counts the requests of each second. `queue[t]` is how many wait at the beginning of second `t`, and
    `buckets` how many began service so far by bucket of their time to first token, both as a fluid: fractions too.
    `changes` counts what happened to replicas. `served_by` is how many serve, from which second on. `held` counts those
    that are billed by zone, `notices` the losses that were announced for some of them.
    """

    def __init__(self, arrived: Sequence[int], options: PipelineOptions, cloud: Cloud, initial: int) -> None:
        self.options, self.cloud = options, cloud
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
        self.notices: list[Notice] = []
        self.changes = 0
        self.held: Counter[str] = Counter()
        self.served_by: list[tuple[int, int]] = []
        self._serving = 0
        self._due_s: int | None = None
        self._service_s = options.in_service_s
        self._work = Work(options.mishaps, len(self.arrived))
        self._pace = options.mishaps.pace(0)
        self._head = 0
        self.scored_from_s = len(self.arrived) // 2 if options.scored_from_s is None else options.scored_from_s
        for _ in range(initial):
            replica = self._new()
            self._enter(replica, Phase.SERVING)

    def names(self, *phases: Phase) -> tuple[str, ...]:
        """Replicas in these phases, oldest first."""
        return tuple(each.name for each in self.present if each.phase in phases)

    def last_to_stay(self) -> tuple[str, ...]:
        """Replicas that serve, those last that the operator's spot strategy gives up first."""
        if len(self.held) == 1:
            return self.names(Phase.SERVING)
        serving = [(each.name, each.zone) for each in self.present if each.phase is Phase.SERVING]
        return self.cloud.last_to_stay(serving, self._market())

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
        return self._served_at(self._work.begun_s(self.now_s, self._service_s))

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
        late_after_s = self.options.late_after_s
        end = min(end, self.now_s - late_after_s + 1)
        return float(late_each(self.total, self.queue, begin, end, late_after_s).sum())

    def _served_at(self, second: int) -> float:
        return self.total[second] - self.queue[second]

    def _market(self) -> Market:
        now_s = self.now_s
        since_s = max(0, now_s - MEASURED_S)
        load_rps = (self.total[now_s] - self.total[since_s]) / (now_s - since_s) if now_s else 0.0
        staying = Counter(each.zone for each in self.present if each.phase is not Phase.DRAINING)
        return self.cloud.market(now_s, staying, load_rps, self.options.capacity_rps)

    def _new(self) -> Replica:
        zone = self.cloud.strategy.place(self._market())
        replica = Replica(f"{self.options.workload}-{len(self.known)}", self.now_s, zone, since_s=self.now_s)
        self.known[replica.name] = replica
        self.present.append(replica)
        self.held[zone] += 1
        self._changed()
        return replica

    def _enter(self, replica: Replica, phase: Phase) -> None:
        was, replica.phase, replica.since_s = replica.phase, phase, self.now_s
        change = (phase is Phase.SERVING) - (was is Phase.SERVING)
        if change:
            self._serving += change
            self.served_by.append((self.now_s, self._serving))
        if phase is Phase.SERVING:
            replica.left_s = None
            replica.ready_s = self.now_s if replica.ready_s is None else replica.ready_s
        elif replica.left_s is None:
            replica.left_s = self.now_s
        if phase not in PRESENT:
            self.present.remove(replica)
            self.held[replica.zone] -= 1
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._due_s = None

    def _settle(self) -> None:
        """What is due now: mishaps, a zone lost or its loss announced, replicas that are ready, retiring ones that are
        empty."""
        now_s, startup_s, mishaps = self.now_s, self.options.startup_s, self.options.mishaps
        self._due_s, self._pace = None, mishaps.pace(now_s)
        if mishaps.losses:
            serving = [each for each in self.present if each.phase is Phase.SERVING]
            self._lose([serving[place] for place in mishaps.taken(len(serving), now_s)])
        for name, zone in self.cloud.zones.items():
            if self.held[name]:
                if zone.lost_at(now_s):
                    self._lose([each for each in self.present if each.zone == name])
                elif self.cloud.doomed(name, now_s):
                    self._heed(name, zone.next_loss_s(now_s))
        for replica in list(self.present):
            if replica.phase is Phase.STARTING and now_s >= replica.ordered_s + startup_s:
                self._enter(replica, Phase.SERVING)
            elif replica.retiring and self.drained(replica):
                self._enter(replica, Phase.GONE)

    def _heed(self, zone: str, loss_s: int) -> None:
        """Tell of a loss once, and order what the strategy wants in place of its replicas."""
        if any(each.zone == zone and each.loss_s == loss_s for each in self.notices):
            return
        doomed = sum(each.zone == zone and each.phase is not Phase.DRAINING for each in self.present)
        replaced = self.cloud.strategy.at_notice(doomed)
        self.notices.append(Notice(self.now_s, loss_s, zone, doomed, replaced))
        for _ in range(replaced):
            self.add()

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
            events = [self.cloud.next_s(self.now_s), self.options.mishaps.next_s(self.now_s)]
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
        held = self.held
        many = sum(held.values())
        self.bill.spot_s += (many - held[ON_DEMAND]) * span_s
        self.bill.on_demand_s += held[ON_DEMAND] * span_s
        self.bill.usd += self.cloud.usd(held, from_s, then_s)

    def _serve(self, begin: int, end: int) -> None:
        """Seconds [begin, end) with as many replicas as serve now."""
        capacity = self._serving * self.options.capacity_rps * self._pace
        arrived, queue, total = self.arrived, self.queue, self.total
        waiting = queue[begin]
        if waiting == 0.0 and max(arrived[begin:end]) <= capacity:
            self._began(0, total[end] - total[begin])
            self._head = end
            return
        at_once = 0
        for second in range(begin, end):
            if waiting == 0.0 and arrived[second] <= capacity:  # nobody waits
                at_once += arrived[second]
                continue
            before = total[second] - waiting
            waiting = max(0.0, waiting + arrived[second] - capacity)
            queue[second + 1] = waiting
            self._count(second, before, total[second + 1] - waiting)
        self._began(0, at_once)

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
