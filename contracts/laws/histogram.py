"""Cumulative histograms as Prometheus exports them: subtract, add, observe.

A histogram has `le`, the finite upper edges in ascending order, and `counts`, how many observations were at or below
each edge, the last one being `+Inf` (so `len(counts) == len(le) + 1` and counts never fall from left to right).
Two histograms combine only when their edges agree; edges are configurable in vLLM, so they travel with the data.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import add, le, lt, sub
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Histogram(BaseModel):
    """Observations at or below each edge, and their sum in the unit of the metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    le: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float = 0.0

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if len(self.counts) != len(self.le) + 1:
            raise ValueError(f"{len(self.le)} edges need {len(self.le) + 1} counts, got {len(self.counts)}")
        if not all(map(lt, self.le, self.le[1:])):
            raise ValueError("edges must ascend")
        if self.counts[0] < 0 or not all(map(le, self.counts, self.counts[1:])):
            raise ValueError("cumulative counts must not fall")
        return self

    @property
    def count(self) -> int:
        """All observations."""
        return self.counts[-1]


def empty(edges: Sequence[float]) -> Histogram:
    """No observations over the given edges."""
    return Histogram(le=tuple(edges), counts=(0,) * (len(edges) + 1))


def observe(hist: Histogram, values: Iterable[float]) -> Histogram:
    """Add raw observations (in the metric's unit).

    >>> observe(empty((0.1, 0.5)), (0.05, 0.1, 0.3, 9.0)).counts
    (2, 3, 4)
    """
    counts, total = list(hist.counts), hist.sum
    for value in values:
        total += value
        for i in range(bisect_left(hist.le, value), len(counts)):
            counts[i] += 1
    return Histogram(le=hist.le, counts=tuple(counts), sum=total)


def _growth(older: Histogram, newer: Histogram) -> tuple[int, ...] | None:
    """Cumulative growth a bucket, None when `newer` cannot have grown out of `older`."""
    if older.le != newer.le:
        return None
    grown = tuple(map(sub, newer.counts, older.counts))
    return grown if grown[0] >= 0 and all(map(le, grown, grown[1:])) else None


def is_reset(older: Histogram, newer: Histogram) -> bool:
    """True when `newer` cannot have grown out of `older`: other edges, or any bucket went down."""
    return _growth(older, newer) is None


def delta(older: Histogram | None, newer: Histogram) -> Histogram:
    """What was observed after `older` and up to `newer`; all of `newer` when the counter began anew in between.

    >>> a, b = Histogram(le=(1,), counts=(2, 3), sum=4), Histogram(le=(1,), counts=(5, 7), sum=9)
    >>> delta(a, b).counts, delta(b, a).counts
    ((3, 4), (2, 3))
    """
    grown = None if older is None else _growth(older, newer)
    if older is None or grown is None:
        return newer
    return Histogram.model_construct(le=newer.le, counts=grown, sum=max(0.0, newer.sum - older.sum))


def restrict(hist: Histogram, edges: tuple[float, ...]) -> Histogram:
    """The same observations over fewer edges, exactly: counts are cumulative, so an edge can be left out."""
    if hist.le == edges:
        return hist
    at = dict(zip(hist.le, hist.counts, strict=False))
    counts = (*(at[edge] for edge in edges), hist.count)
    return Histogram.model_construct(le=edges, counts=counts, sum=hist.sum)


def merge(parts: Iterable[Histogram]) -> Histogram | None:
    """The sum of histograms, over the edges that all of them have; None for no parts.

    Commutative and associative in `counts`, which is what lets instances and windows be added in any order.

    >>> merge((Histogram(le=(1, 2), counts=(1, 2, 3)), Histogram(le=(2, 4), counts=(5, 6, 7))))
    Histogram(le=(2.0,), counts=(7, 10), sum=0.0)
    """
    total: Histogram | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        shared = total.le if total.le == part.le else tuple(edge for edge in total.le if edge in part.le)
        counts = tuple(map(add, restrict(total, shared).counts, restrict(part, shared).counts))
        total = Histogram.model_construct(le=shared, counts=counts, sum=total.sum + part.sum)
    return total


class CounterDelta(BaseModel):
    """Growth of one counter; `reset` says that it began anew in between."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float = Field(ge=0)
    reset: bool = False


def counter_delta(older: float | None, newer: float) -> CounterDelta:
    """Growth from `older` to `newer`, as PromQL's `increase` treats a reset: what was counted since the restart.

    >>> counter_delta(10.0, 12.0).value, counter_delta(10.0, 3.0)
    (2.0, CounterDelta(value=3.0, reset=True))
    """
    if older is None or newer < older:
        return CounterDelta(value=newer, reset=True)
    return CounterDelta(value=newer - older)
