"""Which actions were needed, in hindsight: the load of a replica's life served once more without it, or with it.

A scale-up was needed when without its replicas, from when the first of them serves until the last of them is taken out
of service, one request more or further would have been late. A scale-down was not needed when capacity was added back
within a start-up and ten minutes, and one request or more that was late in that time would not have been with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.events import ActionKind, EndState
from optiinfra.replay.account import Deed
from optiinfra.replay.lateness import Floats, late_each, queue_of
from optiinfra.replay.replicas import Replica
from optiinfra.replay.scene import Scene

BACK_WITHIN_S = 600
"""So long after a start-up a scale-down may still be found to have been wrong."""

_FIRST_S = 3_600
_ONE = 1.0 - 1e-6


@dataclass(frozen=True)
class Past:
    """What was: arrivals, replicas in service and what one of them served of each second, [seconds]; requests since the
    beginning and in queue at each second's begin, [seconds + 1]."""

    arrived: NDArray[np.int64]
    total: Floats
    queue: Floats
    serving: NDArray[np.int64]
    capacity_rps: Floats
    startup_s: int
    late_after_s: int

    def later(self, begin_s: int, end_s: int, more: NDArray[np.int64]) -> float:
        """How many requests more of the seconds [begin, end) would have been late with `more` replicas, below 0 with
        fewer, from `begin` on, [seconds]; as many as there were once it ends."""
        until_s = min(len(self.arrived), end_s + self.late_after_s - 1)
        end_s = max(begin_s, until_s - self.late_after_s + 1)
        serving = self.serving[begin_s:until_s] + more[: until_s - begin_s]
        capacity: Floats = serving * self.capacity_rps[begin_s:until_s]
        queue = queue_of(self.arrived[begin_s:until_s], capacity, float(self.queue[begin_s]))
        total = self.total[begin_s : until_s + 1]
        other = late_each(total, queue, 0, end_s - begin_s, self.late_after_s)
        was = late_each(total, self.queue[begin_s : until_s + 1], 0, end_s - begin_s, self.late_after_s)
        return float(other.sum() - was.sum())


def past_of(scene: Scene) -> Past:
    """Of a scene that has come to its end."""
    size = len(scene.arrived)
    changes = dict(scene.served_by)  # the last of each second
    at_s = [*(second for second in changes if second < size), size]
    serving = np.repeat([changes[second] for second in at_s[:-1]], np.diff(at_s))
    options = scene.options
    capacity_rps = np.full(size, options.capacity_rps)
    for each in options.mishaps.slowdowns:
        capacity_rps[each.begin_s : each.end_s] *= each.ratio
    return Past(
        arrived=np.array(scene.arrived, dtype=np.int64),
        total=np.array(scene.total, dtype=np.float64),
        queue=np.array(scene.queue),
        serving=np.concatenate((np.zeros(at_s[0], dtype=np.int64), serving)),
        capacity_rps=capacity_rps,
        startup_s=options.startup_s,
        late_after_s=options.late_after_s,
    )


def judged(deeds: Sequence[Deed], past: Past, touched: Callable[[str, int], Sequence[Replica]]) -> tuple[Deed, ...]:
    """The deeds with `needed` filled in: None where no replica came or went, and where the trace ends too soon to tell.
    `touched`: the replicas of an action's first steps."""
    grown_s = [deed.began_s for deed in deeds if deed.kind == ActionKind.SCALE_UP and deed.began_s is not None]
    found = []
    for deed in deeds:
        needed = None
        if deed.began_s is not None and ActionKind(deed.kind).scales:
            replicas = touched(deed.action_id, deed.replicas)
            up = deed.kind == ActionKind.SCALE_UP
            needed = up_needed(replicas, past) if up else down_needed(replicas, grown_s, past)
        found.append(deed.model_copy(update={"needed": needed}))
    return tuple(found)


def up_needed(added: Iterable[Replica], past: Past) -> bool | None:
    """Whether they were ever needed. None where they were not so far and the trace ends before they do."""
    size = len(past.arrived)
    lives = [(each.ready_s, size if each.left_s is None else each.left_s) for each in added if each.ready_s is not None]
    waiting = any(each.ready_s is None and each.left_s is None for each in added)
    lasting = waiting or any(each.left_s is None for each in added)
    if lives:
        begin_s, end_s = min(ready for ready, _ in lives), max(left for _, left in lives)
        less = np.zeros(end_s - begin_s + past.late_after_s, dtype=np.int64)
        for ready_s, left_s in lives:
            less[ready_s - begin_s : left_s - begin_s] -= 1
        look_s = _FIRST_S
        while True:  # most were needed soon, and then the rest of a long life need not be served again
            until_s = min(end_s, begin_s + look_s)
            if past.later(begin_s, until_s, less) >= _ONE:
                return True
            if until_s == end_s:
                break
            look_s *= 4
    return None if lasting else False


def down_needed(drained: Iterable[Replica], grown_s: Sequence[float], past: Past) -> bool | None:
    """Whether it was right to take them away. `grown_s`: when capacity was added."""
    left_s = [each.left_s for each in drained if each.left_s is not None]
    if not left_s:
        return None
    begin_s = min(left_s)
    end_s = begin_s + past.startup_s + BACK_WITHIN_S
    if any(begin_s < at_s <= end_s for at_s in grown_s):
        until_s = min(end_s, len(past.arrived))
        more = np.zeros(until_s - begin_s + past.late_after_s, dtype=np.int64)
        for at_s in left_s:
            more[at_s - begin_s :] += 1
        if past.later(begin_s, until_s, more) <= -_ONE:
            return False
    return None if end_s > len(past.arrived) else True


def false_positives(deeds: Iterable[Deed]) -> tuple[int, float]:
    """How many of the actions that did something were undone or not needed, and their share of those."""
    did = [deed for deed in deeds if deed.began_s is not None]
    wrong = sum(deed.end_state == EndState.UNDONE or deed.needed is False for deed in did)
    return wrong, wrong / len(did) if did else 0.0
