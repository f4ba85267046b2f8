"""Rehearses several ways to scale on the traffic that has come, all at once, beside the fleet that is real.

Column 0 is the real fleet. Every other column is a fleet that exists on paper: it saw the same requests, followed the
same rule with a *caution* and a *reluctance* of its own, started and drained its replicas as the real ones do, and was
billed for them. What it spent and how many requests it kept waiting tell what the rule would have done here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.forecast import Outlook
from contracts.scaling import FleetFacts

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
DRAIN_S = 30.0
"""A replica on paper that is let go is billed so much longer."""
OBJECTIVE_S = 2.0
"""A request on paper is late when it has waited so long; both are those of `connectors/twin/fluid.py`."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What every fleet, real and rehearsed, does alike.

    `floor_ratio`: never below this much of the present rate. `clear_s`: a queue that the start-up will leave is to be
    gone so long after. `hold_s`: what was needed so lately is needed still. `step_ratio`: a fleet that last grew
    shrinks by no less than this share of it.
    """

    floor_ratio: float = 1.0
    clear_s: float = 60.0
    hold_s: float = 60.0
    step_ratio: float = 0.1


class Fleets:
    """`caution`, `reluctance`: [columns], spreads above the guessed need, to grow, and above the peak, to shrink."""

    def __init__(self, facts: FleetFacts, caution: Array, reluctance: Array, habits: Habits) -> None:
        self._facts, self._habits = facts, habits
        self.caution, self.reluctance = caution, reluctance
        slot = facts.decide_s
        count = len(caution)
        self._startup = max(1, math.ceil(facts.startup_s / slot))
        self._hold = max(1, round(habits.hold_s / slot)) + 1
        self._holds = _Past(self._hold, count)
        self._sizes = _Past(self._startup + 1, count)
        self._part: Array = ((np.arange(self._startup) + 0.5) / self._startup)[:, None]
        self.size: Array = np.zeros(count)
        self._queue: Array = np.zeros(count)
        self._grew: Flags = np.ones(count, dtype=bool)
        self.turned: Flags = np.zeros(count, dtype=bool)
        self.held: Array = np.zeros(count)
        self.left: Array = np.zeros(count)
        self.extra: Array = np.zeros(count)
        self._begun = False

    def serve(self, seconds: Array) -> tuple[Array, Array]:
        """A slot goes by with these requests in each second: replica-seconds billed and requests late, [columns]."""
        if not self._begun:
            return np.zeros(len(self.size)), np.zeros(len(self.size))
        ready = np.minimum.reduce(self._sizes.rows(self._startup + 1), axis=0)
        capacity = ready * self._facts.capacity_rps
        count = len(seconds)
        paths = np.zeros((count + 1, len(capacity)))
        np.add.accumulate(seconds[:, None] - capacity, axis=0, out=paths[1:])
        low = np.minimum.accumulate(paths, axis=0)
        queues = paths + np.maximum(self._queue, -low)
        self._queue = queues[-1]
        waiting = np.maximum(queues[1:] - capacity * (OBJECTIVE_S - 1.0), 0.0)
        late: Array = np.add.reduce(np.minimum(waiting, seconds[:, None]), axis=0)
        return self.size * count, late

    def decide(self, outlook: Outlook) -> Array:
        """New sizes of all fleets, ready and starting together: [columns]. Returns the replicas let go: [columns]."""
        facts, habits = self._facts, self._habits
        unit = facts.capacity_rps
        need = np.exp(outlook.ahead.log_rps + self.caution * outlook.ahead.spread) / unit
        if not self._begun:
            self._begin(np.minimum(np.maximum(np.ceil(need), facts.least), facts.most))
        self.left = self._queue_then(outlook.now_rps, math.exp(outlook.ahead.log_rps))
        self.extra = np.where(self.left > 0.5 * unit, self.left / (unit * habits.clear_s), 0.0)
        need = np.maximum(need, habits.floor_ratio * outlook.now_rps / unit) + self.extra
        peak = np.exp(outlook.peak.log_rps + self.reluctance * outlook.peak.spread) / unit + self.extra
        self._holds.push(np.maximum(need, peak))
        self.held = np.maximum.reduce(self._holds.rows(self._hold), axis=0)
        up, down = np.ceil(need - 1e-9), np.ceil(self.held - 1e-9)
        size = self.size
        far = ~self._grew | (size - down >= habits.step_ratio * size)
        wanted = np.where(up > size, up, np.where(far, np.minimum(down, size), size))
        wanted = np.minimum(np.maximum(wanted, facts.least), facts.most)
        rose, fell = wanted > size, wanted < size
        self.turned = (rose & ~self._grew) | (fell & self._grew)
        self._grew = (self._grew | rose) & ~fell
        self.size = wanted
        self._sizes.push(wanted)
        gone: Array = np.maximum(size - wanted, 0.0)
        return gone

    def follow(self, caution: float, reluctance: float) -> None:
        """Sets the caution and the reluctance of the real fleet."""
        self.caution[0], self.reluctance[0] = caution, reluctance

    def real(self, ready: int, starting: int, queue: float | None) -> None:
        """Column 0 is what was seen, whatever was ordered."""
        self.size[0] = ready + starting
        if queue is not None:
            self._queue[0] = queue

    def stand(self) -> None:
        """Nothing is known: the real fleet stays, and what it needs now must outlast its whole hold again."""
        if self._begun:
            self._holds.lift(0, float(self.size[0]))
            self._sizes.push(self.size)

    def _begin(self, sizes: Array) -> None:
        self.size[1:] = sizes[1:]
        self._sizes.fill(self.size)
        self._begun = True

    def _queue_then(self, now_rps: float, then_rps: float) -> Array:
        """Requests that will still wait when a replica ordered now begins to serve: [columns]."""
        slots, slot = self._startup, self._facts.decide_s
        known = self._sizes.rows(slots + 1)
        ready = np.minimum(np.minimum.accumulate(known[::-1], axis=0)[::-1][1:], self.size)
        rate = now_rps + (then_rps - now_rps) * self._part
        path = np.add.accumulate((rate - ready * self._facts.capacity_rps) * slot, axis=0)
        left: Array = path[-1] + np.maximum(self._queue, -np.minimum(np.minimum.reduce(path, axis=0), 0.0))
        return np.maximum(left, 0.0)


class _Past:
    """The last rows of something, always in one piece of memory."""

    def __init__(self, keep: int, columns: int) -> None:
        self._keep = keep
        self._table: Array = np.zeros((8 * keep, columns))
        self._end = keep

    def push(self, row: Array) -> None:
        if self._end == len(self._table):
            self._table[: self._keep] = self._table[-self._keep :]
            self._end = self._keep
        self._table[self._end] = row
        self._end += 1

    def rows(self, count: int) -> Array:
        """The last `count` rows, the oldest first: [count, columns]."""
        return self._table[self._end - count : self._end]

    def fill(self, row: Array) -> None:
        self._table[:] = row

    def lift(self, column: int, value: float) -> None:
        """No row of this column is less than `value`."""
        recent = self._table[self._end - self._keep : self._end, column]
        np.maximum(recent, value, out=recent)
