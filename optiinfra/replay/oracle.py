"""The clairvoyant: knows every request beforehand, serves all of them in time, and does so as cheaply as it can.

It chooses the number of replicas anew each minute, orders them early enough to be ready, and is billed for start-up and
drain like everybody: where the load dips for less than what a restart costs it keeps the replica.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.twin.fluid import DRAIN_S, LATE_AFTER_S, Span
from contracts.scaling import LoadSeen

SLOT_S = 60
_ROUNDING = 1e-9
"""So much less than a whole replica is floating point, not load."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """`ready`: replicas of each slot, [slots]; `billed_s`: replica-seconds in the scored span."""

    ready: Counts
    billed_s: int


def needs(arrived: Counts, capacity_rps: float, late_after_s: int = LATE_AFTER_S) -> Counts:
    """Replicas that each slot must have for all its requests to be in time: [slots]; at least one.

    Every stretch of seconds asks for enough capacity from its first second until the last of its requests would be
    late. Requests of a slot's last seconds may be served in the next slot, whose own need then counts them.
    """
    slots = _slots(arrived)
    count, size = slots.shape
    sums = np.concatenate((np.zeros((count, 1)), np.cumsum(slots, axis=1)), axis=1)
    spare_s = late_after_s - 1
    last = size - spare_s  # the last second but one whose requests must be served within the slot
    own = np.zeros(count)
    for first in range(last):
        lengths = np.arange(1, last - first + 1) + spare_s
        own = np.maximum(own, ((sums[:, first + 1 : last + 1] - sums[:, first : first + 1]) / lengths).max(axis=1))
    need = np.empty(count, dtype=np.int64)
    carried = np.zeros(spare_s)  # requests left from the slot before, by the second of arrival
    tails = np.arange(size, 0, -1)
    spans_s = np.arange(1, last + 1) + spare_s
    for slot in range(count):
        rate = own[slot]
        if carried.any():
            due = np.cumsum(carried)
            rate = max(rate, float((due / np.arange(1, spare_s + 1)).max()))
            rate = max(rate, float(((due[-1] + sums[slot, 1 : last + 1]) / spans_s).max()))
        replicas = max(1, int(np.ceil(rate / capacity_rps - _ROUNDING)))
        need[slot] = replicas
        capacity = replicas * capacity_rps
        left = float((sums[slot, -1] - sums[slot, :-1] - tails * capacity).max())
        left = max(0.0, left, float(carried.sum() + sums[slot, -1] - size * capacity))
        carried = _youngest(slots[slot, size - spare_s :], left)
    return need


def floor_needs(arrived: Counts, capacity_rps: float, late_after_s: int = LATE_AFTER_S) -> Counts:
    """Replicas below which some request of the slot is late whatever the other slots have: a bound, [slots]."""
    slots = _slots(arrived)
    return np.concatenate([needs(slot, capacity_rps, late_after_s) for slot in slots])


def plan(needed: Counts, scored: Span, startup_s: float, drain_s: int = DRAIN_S, *, slot_s: int = SLOT_S) -> Plan:
    """The cheapest replicas that are never fewer than `needed`: [slots]. What the first slot needs is there.

    Each level of replicas stands alone: it is dropped and ordered anew where that is cheaper than keeping it.
    """
    begin_s = np.arange(len(needed), dtype=np.int64) * slot_s
    ready = np.zeros_like(needed)
    billed_s = 0
    for level in range(1, int(needed.max()) + 1):
        used = np.flatnonzero(needed >= level)
        gaps_s = (np.diff(used) - 1) * slot_s
        breaks = np.flatnonzero(gaps_s > startup_s + drain_s)
        firsts, lasts = used[np.concatenate(([0], breaks + 1))], used[np.concatenate((breaks, [len(used) - 1]))]
        ordered_s = np.where(firsts == 0, 0, begin_s[firsts] - int(np.ceil(startup_s)))
        gone_s = begin_s[lasts] + slot_s + drain_s
        billed_s += int(np.maximum(0, np.minimum(gone_s, scored.end_s) - np.maximum(ordered_s, scored.begin_s)).sum())
        edges = np.zeros(len(needed) + 1, dtype=np.int64)
        np.add.at(edges, firsts, 1)
        np.add.at(edges, lasts + 1, -1)
        ready += np.cumsum(edges[:-1])
    return Plan(ready, billed_s)


class Follow:
    """A scaler that follows replicas laid down beforehand: orders those of any slot that begins within the start-up.

    After the last slot its replicas stay.
    """

    def __init__(self, ready: Counts, startup_s: float, *, begin_s: int = 0, slot_s: int = SLOT_S) -> None:
        self._ready, self._startup_s = ready.tolist(), startup_s
        self._begin_s, self._slot_s = begin_s, slot_s

    def decide(self, seen: LoadSeen) -> int:
        at_s = seen.now_s - self._begin_s
        first, last = min(at_s // self._slot_s, len(self._ready) - 1), int((at_s + self._startup_s) // self._slot_s)
        return int(max(self._ready[first : last + 1]))


def _slots(arrived: Counts) -> Counts:
    """[slots, SLOT_S]; a broken last slot is filled with silence."""
    return np.pad(arrived, (0, -len(arrived) % SLOT_S)).reshape(-1, SLOT_S)


def _youngest(arrived: Counts, left: float) -> NDArray[np.float64]:
    """Of these seconds' requests the last `left`, by second: what a queue served in order still holds."""
    after = np.cumsum(arrived[::-1])[::-1] - arrived
    still: NDArray[np.float64] = np.clip(left - after, 0, arrived).astype(np.float64)
    return still
