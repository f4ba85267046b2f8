"""Who was late in a queue that serves first come first: the one law by which replay judges its fleets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Series = Sequence[float] | Floats

AFTER_S = 3_600
"""So long after an outage of measurements what it left behind is looked for."""


def late_each(total: Series, queue: Series, begin: int, end: int, late_after_s: int) -> Floats:
    """How many of the arrivals of each second [begin, end) were not in time: [seconds], fractions too.

    `total[t]` counts arrivals and `queue[t]` those that wait at the beginning of second `t`; both reach as far as
    `end + late_after_s - 1`. Late are those of a second's arrivals that still wait when the last second in time ends.
    """
    if end <= begin:
        return np.zeros(0)
    young_s, many = late_after_s - 1, end - begin
    came = np.asarray(total[begin : end + young_s + 1], dtype=np.float64)
    younger = came[young_s + 1 :] - came[1 : many + 1]
    waiting = np.asarray(queue[begin + young_s + 1 : end + young_s + 1], dtype=np.float64) - younger
    late: Floats = np.clip(waiting, 0.0, np.diff(came[: many + 1]))
    return late


def queue_of(arrived: NDArray[np.int64], capacity: Floats, waiting: float) -> Floats:
    """The queue at the beginning of each second and after the last, [seconds + 1], of a fluid that is served
    `capacity` a second, [seconds], and of which `waiting` is there at first.

    >>> queue_of(np.array([6, 0, 3]), np.array([4.0, 4.0, 4.0]), 1.0).tolist()
    [1.0, 3.0, 0.0, 0.0]
    """
    sums = np.cumsum(arrived - capacity)
    lows = np.minimum.accumulate(sums)
    return np.concatenate(([waiting], np.maximum(0.0, sums + np.maximum(waiting, -lows))))


def pooled(total: Series, queue: Series, spans: Iterable[tuple[int, int]], late_after_s: int) -> float | None:
    """Share in time of the requests that came in these spans of seconds, [begin, end), as far as the trace tells; None
    where none came."""
    came, late = 0.0, 0.0
    for begin_s, end_s in spans:
        last_s = min(end_s, len(queue) - late_after_s)
        if last_s > begin_s:
            came += float(total[last_s] - total[begin_s])
            late += float(late_each(total, queue, begin_s, last_s, late_after_s).sum())
    return 1.0 - late / came if came else None


def judged(came: Series, late: Series, spans: Iterable[tuple[int, int]]) -> float | None:
    """As `pooled` where single requests were judged: `came`, `late` count those of each second of arrival."""
    parts = [(float(np.sum(came[begin:end])), float(np.sum(late[begin:end]))) for begin, end in spans]
    total = sum(each for each, _ in parts)
    return 1.0 - sum(each for _, each in parts) / total if total else None
