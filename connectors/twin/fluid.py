"""A fleet of equal replicas as a fluid: weeks of traffic in seconds of work, one queue, one number of replicas.

Each ready replica serves `capacity_rps` requests a second, first come first served, in steps of one second. A replica
is billed from its order on and serves `startup_s` later; one that is taken away serves nothing more and is billed
`drain_s` longer, the youngest of those still starting first. A request is in time when it begins service less than
`late_after_s` after the second of its arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from contracts.scaling import FleetFacts, LoadSeen, Scaler

DRAIN_S = 30
LATE_AFTER_S = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds [begin_s, end_s) of a trace."""

    begin_s: int
    end_s: int

    def overlap_s(self, begin_s: int, end_s: int) -> int:
        """How many of its seconds lie in [begin_s, end_s)."""
        return max(0, min(self.end_s, end_s) - max(self.begin_s, begin_s))


@dataclass(frozen=True)
class Fluid:
    """What is served and how it is judged.

    `arrived`: requests of each second, [seconds]. `begin_s`: the second of a day at which they begin. `initial`:
    replicas that are ready at the start. `blind`: spans in which nothing of the load is measured.
    """

    arrived: NDArray[np.int64]
    scored: Span
    initial: int
    begin_s: int = 0
    blind: tuple[Span, ...] = ()
    drain_s: int = DRAIN_S
    late_after_s: int = LATE_AFTER_S


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a scaler made of it, in the scored span.

    `billed_s`: replica-seconds. `attainment_ratio`: requests in time, of those that arrived; 1 where none did.
    `turns`: how often the scaler turned from adding to removing or back. `orders`: second and replicas added (removed
    below 0) of every order, over the whole trace. `removed_blind`: replicas given up while nothing was measured.
    `queue`: requests waiting at the end of each second, [seconds]. `measures`: what else is known of the scored
    requests, by name; a fluid has none to know it of. `late`: requests of each second of arrival that were not in time,
    [seconds], where single ones are known; None: that follows from `queue`.
    """

    billed_s: int
    attainment_ratio: float
    turns: int
    orders: tuple[tuple[int, int], ...]
    removed_blind: int
    queue: NDArray[np.float64] = field(repr=False)
    measures: Mapping[str, float | None] = field(default_factory=dict)
    late: NDArray[np.float64] | None = field(default=None, repr=False)


def replay(fluid: Fluid, facts: FleetFacts, scaler: Scaler) -> Outcome:
    """Serve the whole trace, asking the scaler at second 0 and every `decide_s` after it."""
    return _Replay(fluid, facts).run(scaler)


class _Replay:
    """One pass. Queue and arrivals are kept for each second, so that what is waiting, running, served and late at any
    moment is a subtraction; the loop over seconds runs only while somebody waits.
    """

    def __init__(self, fluid: Fluid, facts: FleetFacts) -> None:
        self._fluid, self._facts = fluid, facts
        self._arrived: list[int] = fluid.arrived.tolist()
        self._sum: list[int] = [0, *accumulate(self._arrived)]
        self._queue = [0.0] * (len(self._arrived) + 1)  # [t]: at the beginning of second t
        self._ready = fluid.initial
        self._starting: deque[int] = deque()  # when each will be ready, oldest first
        self._billed_s = 0
        self._late = 0.0
        self._orders: list[tuple[int, int]] = []

    def run(self, scaler: Scaler) -> Outcome:
        end, facts = len(self._arrived), self._facts
        service_s = max(1, round(facts.service_s))
        scored = self._fluid.scored
        seen_s = 0
        for now in range(0, end, facts.decide_s):
            self._settle(now)
            self._order(now, scaler.decide(self._look(now, seen_s, service_s)))
            seen_s = now
            until = min(now + facts.decide_s, end)
            self._billed_s += (self._ready + len(self._starting)) * scored.overlap_s(now, until)
            while now < until:
                self._settle(now)
                then = min(until, self._starting[0]) if self._starting else until
                self._serve(now, then)
                now = then
        queue = np.array(self._queue[1:])
        removed = -sum(by for at, by in self._orders if by < 0 and self._blind(at))
        return Outcome(self._billed_s, self._attainment(queue), self._turns(), tuple(self._orders), removed, queue)

    def _blind(self, now: int) -> bool:
        return any(span.begin_s <= now < span.end_s for span in self._fluid.blind)

    def _settle(self, now: int) -> None:
        while self._starting and self._starting[0] <= now:
            self._starting.popleft()
            self._ready += 1

    def _look(self, now: int, seen_s: int, service_s: int) -> LoadSeen:
        late, self._late = self._late, 0.0
        shown_s = now + self._fluid.begin_s
        if self._blind(now):
            return LoadSeen(shown_s, None, None, None, self._ready, len(self._starting))
        total, queue = self._sum, self._queue
        served = total[now] - queue[now]
        ago = max(0, now - service_s)
        return LoadSeen(
            shown_s,
            self._arrived[seen_s:now],
            queue[now],
            served - total[ago] + queue[ago],
            self._ready,
            len(self._starting),
            served - total[seen_s] + queue[seen_s],
            late,
        )

    def _order(self, now: int, wanted: int) -> None:
        change = min(max(wanted, self._facts.least), self._facts.most) - self._ready - len(self._starting)
        if change == 0:
            return
        self._orders.append((now, change))
        if change > 0:
            self._starting.extend([now + ceil(self._facts.startup_s)] * change)
            return
        self._billed_s -= change * self._fluid.scored.overlap_s(now, now + self._fluid.drain_s)
        for _ in range(-change):
            if self._starting:
                self._starting.pop()
            else:
                self._ready -= 1

    def _serve(self, begin: int, end: int) -> None:
        """Seconds [begin, end) with as many replicas as are ready."""
        capacity = self._ready * self._facts.capacity_rps
        arrived, queue, total = self._arrived, self._queue, self._sum
        waiting = queue[begin]
        if waiting == 0.0 and max(arrived[begin:end]) <= capacity:
            return
        young_s = self._fluid.late_after_s - 1
        for second in range(begin, end):
            late = waiting - (total[second] - total[max(0, second - young_s)])
            if late > 0:
                self._late += min(late, capacity)
            waiting += arrived[second] - capacity
            if waiting <= 0.0:
                waiting = 0.0
            queue[second + 1] = waiting

    def _attainment(self, queue: NDArray[np.float64]) -> float:
        """Late of a second are those of its arrivals that still wait when the last second in time ends.

        Arrivals so near the end of the trace that it ends first are judged at its end.
        """
        scored, size = self._fluid.scored, len(queue)
        total = np.array(self._sum)
        seconds = np.arange(scored.begin_s, min(scored.end_s, size))
        last = np.minimum(seconds + self._fluid.late_after_s - 1, size - 1)
        own = total[seconds + 1] - total[seconds]
        late = np.clip(queue[last] - (total[last + 1] - total[seconds + 1]), 0, own)
        late[seconds + self._fluid.late_after_s > size] = 0.0
        return 1.0 - float(late.sum()) / float(own.sum()) if own.sum() else 1.0

    def _turns(self) -> int:
        scored = self._fluid.scored
        signs = [by > 0 for at, by in self._orders if scored.begin_s <= at < scored.end_s]
        return sum(a != b for a, b in pairwise(signs))
