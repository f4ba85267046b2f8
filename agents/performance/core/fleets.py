"""Rehearses several ways to scale on the traffic that has come, all at once, beside the fleet that is real.

Column 0 is the real fleet. Every other column is a fleet that exists on paper: it saw the same requests, followed the
same rule with a *caution* and a *reluctance* of its own, and started its replicas as the real ones do. How many
requests were late there and how often it turned tell what the rule would have done here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.forecast import Outlook
from agents.performance.core.series import Array, Past, twin
from contracts.scaling import FleetFacts

Flags = NDArray[np.bool_]
OBJECTIVE_S = 2.0
"""A request on paper is late when it has waited so long, as in `connectors/twin/fluid.py`."""
_ROUNDING = 1e-9
"""A replica is not wanted for the last digit of a number."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What every fleet, real and rehearsed, does alike.

    `clear_s`: a queue that the start-up will leave is to be gone so long after. `hold_s`: what was needed so lately is
    needed still. `turn_ratio`: a fleet that last shrank grows for no less than this much more than it has, or for e to
    the power of `turn_share` of its caution in spreads where that is less: a wider band eats all it adds.
    """

    clear_s: float = 60.0
    hold_s: float = 60.0
    turn_ratio: float = 0.08
    turn_share: float = 0.5


class Fleets:
    """`caution`, `reluctance`: [columns], spreads above the guessed need, to grow, and above the peak, to shrink."""

    def __init__(self, facts: FleetFacts, caution: Array, reluctance: Array, habits: Habits) -> None:
        self._habits = habits
        self.caution, self.reluctance = caution, reluctance
        count = len(caution)
        self._hold = max(1, round(habits.hold_s / facts.decide_s)) + 1
        self._holds, self._ready = Past(self._hold, count), Past(1, count)
        self._told(facts)
        self.size: Array = np.zeros(count)
        self._queue: Array = np.zeros(count)
        self._way: Array = np.ones(count)
        self.turned: Flags = np.zeros(count, dtype=bool)
        self.held: Array = np.zeros(count)
        self.left: Array = np.zeros(count)
        self.extra: Array = np.zeros(count)
        self._begun = False

    def serve(self, seconds: Array, need_rps: float = math.inf) -> Array:
        """A slot goes by with these requests in each second: requests late, [columns].

        A fleet without a queue that has `need_rps` or more keeps nobody waiting; only the others are looked at closely.
        """
        late = np.zeros(len(self.size))
        if not self._begun:
            return late
        capacity = self._ready.rows(self._startup + 1)[0] * self._facts.capacity_rps
        busy = ((self._queue > 0.0) | (capacity < need_rps)).nonzero()[0]
        if len(busy):
            capacity = capacity[busy]
            queues = np.multiply.outer(np.arange(1.0, len(seconds) + 1), -capacity)
            queues += np.add.accumulate(seconds)[:, None]
            lowest = np.minimum.accumulate(queues, axis=0)
            queues -= np.minimum(lowest, -self._queue[busy], out=lowest)
            self._queue[busy] = queues[-1]
            queues -= capacity * (OBJECTIVE_S - 1.0)
            np.minimum(queues, seconds[:, None], out=queues)
            late[busy] = np.add.reduce(np.maximum(queues, 0.0, out=queues), axis=0)
        return late

    def decide(self, outlook: Outlook) -> None:
        """New sizes of all fleets, ready and starting together: [columns]."""
        facts, habits, ahead, peak = self._facts, self._habits, outlook.ahead, outlook.peak
        unit = facts.capacity_rps
        margin = self.caution * ahead.spread
        need = np.exp(margin + (ahead.log_rps - math.log(unit)))
        if not self._begun:
            self._begin(np.minimum(np.maximum(np.ceil(need), facts.least), facts.most))
        self.left = self._queue_then(outlook.now_rps, math.exp(ahead.log_rps))
        self.extra = self.left / (unit * habits.clear_s)
        need = np.maximum(need, outlook.now_rps / unit) + (self.extra - _ROUNDING)
        held = np.exp(self.reluctance * peak.spread + (peak.log_rps - math.log(unit))) + self.extra
        self._holds.push(np.maximum(need, held))
        self.held = np.maximum.reduce(self._holds.rows(self._hold), axis=0)
        size = self.size
        band = np.minimum(np.exp(habits.turn_share * margin), 1 + habits.turn_ratio)
        small = (self._way < 0) & (need <= band * size)
        self.size = np.minimum(np.maximum(size, np.where(small, 0.0, np.ceil(need))), np.ceil(self.held))
        self.size = np.minimum(np.maximum(self.size, facts.least), facts.most)
        grown = self.size - size
        self.turned = grown * self._way < 0
        self._way = np.where(grown == 0, self._way, grown)
        self._plan()

    def follow(self, caution: float, reluctance: float) -> None:
        """Sets the caution and the reluctance of the real fleet."""
        self.caution[0], self.reluctance[0] = caution, reluctance

    def real(self, ready: int, starting: int, queue: float | None) -> None:
        """Column 0 is what was seen, whatever was ordered."""
        if self.size[0] != ready + starting:
            self.size[0] = ready + starting
            coming = self._ready.rows(self._startup)[:, 0]
            np.minimum(coming, self.size[0], out=coming)
        if queue is not None:
            self._queue[0] = queue

    def stand(self) -> None:
        """Nothing is known: the real fleet stays, and what it needs now must outlast its whole hold again."""
        if self._begun:
            recent = self._holds.rows(self._hold)[:, 0]
            np.maximum(recent, self.size[0], out=recent)
            self._plan()

    def relearn(self, facts: FleetFacts) -> None:
        """Other facts of the same fleet. Paper fleets keep the requests they could serve, in replicas of the new kind;
        of the real one only what it is held to changes.
        """
        ratio = self._facts.capacity_rps / facts.capacity_rps
        if ratio != 1.0:
            held = self._holds.rows(self._holds.keep)
            held *= ratio
            ready = self._ready.rows(self._ready.keep)[:, 1:]
            np.ceil(ready * ratio - 1e-9, out=ready)
            self.size[1:] = np.ceil(self.size[1:] * ratio - 1e-9)
        self._told(facts)

    def copy(self) -> Fleets:
        """Fleets that go on by themselves."""
        new = twin(self)
        new._holds, new._ready = self._holds.copy(), self._ready.copy()
        new.caution, new.reluctance = self.caution.copy(), self.reluctance.copy()
        new.size, new._queue = self.size.copy(), self._queue.copy()
        return new

    def state(self) -> dict[str, Array]:
        """All that they know, by name."""
        return {
            "fleets": np.array(
                [self.caution, self.reluctance, self.size, self._queue, self._way, self.held, self.left, self.extra]
            ),
            "begun": np.array([float(self._begun)]),
            "holds": self._holds.state(),
            "ready": self._ready.state(),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Know what `state` gave."""
        self.caution, self.reluctance, self.size, self._queue, self._way, self.held, self.left, self.extra = state[
            "fleets"
        ]
        self._begun = bool(state["begun"][0])
        self._holds.restore(state["holds"])
        self._ready.restore(state["ready"])

    def _told(self, facts: FleetFacts) -> None:
        self._facts = facts
        self._startup = max(1, math.ceil(facts.startup_s / facts.decide_s))
        self._ready = self._ready.copy(self._startup + 1)
        slots: Array = np.arange(self._startup, dtype=np.float64)[:, None]
        self._now: Array = (slots + 1.0) * facts.decide_s
        self._rising: Array = (slots + 1.0) ** 2 * (0.5 * facts.decide_s / self._startup)
        self._served: Array = np.tril(np.full((self._startup, self._startup), -facts.capacity_rps * facts.decide_s))

    def _plan(self) -> None:
        """How many of what is there now will be ready in each slot to come: in the last, all of it."""
        coming = self._ready.rows(self._startup)
        np.minimum(coming, self.size, out=coming)
        self._ready.push(self.size)

    def _begin(self, sizes: Array) -> None:
        self.size[1:] = sizes[1:]
        self._ready.fill(self.size)
        self._begun = True

    def _queue_then(self, now_rps: float, then_rps: float) -> Array:
        """Requests that will still wait when a replica ordered now begins to serve: [columns]."""
        path = self._served @ self._ready.rows(self._startup)
        path += self._now * now_rps + self._rising * (then_rps - now_rps)
        left: Array = path[-1] + np.maximum(self._queue, -np.minimum.reduce(path, axis=0))
        return np.maximum(left, 0.0)
