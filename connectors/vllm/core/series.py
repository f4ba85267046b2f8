"""Where the values of one metric stand on a page, and whether what stands there can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from connectors.vllm.core.page import SampleKey
from contracts.catalog.metrics import Metric
from contracts.laws.histogram import Histogram

MAX_COUNT = 2**53
"""Above it a float is no exact count any more."""


@dataclass(frozen=True, slots=True)
class ScalarSeries:
    """A gauge or counter: the sum of the values at `at`."""

    metric: Metric
    upstream: str
    at: tuple[int, ...]

    def read(self, values: Sequence[float]) -> float | str:
        """The value, or why it is refused. One bad part refuses the sum: without it a counter would seem to fall."""
        total = 0.0
        low, high = self.metric.low, self.metric.high
        for at in self.at:
            value = values[at]
            if not low <= value <= high or value == inf:  # NaN fails every comparison
                return f"{self.upstream} is {value:g}, {_expected(self.metric)}"
            total += value
        return total if total < inf else f"{self.upstream} is too large to add up"


@dataclass(frozen=True, slots=True)
class _Buckets:
    at: tuple[int, ...]
    sum_at: int
    count_at: int


@dataclass(frozen=True, slots=True)
class HistogramSeries:
    """A histogram: finite edges as the page has them, and where each series of an engine has its buckets."""

    metric: Metric
    upstream: str
    le: tuple[float, ...]
    parts: tuple[_Buckets, ...]

    def read(self, values: Sequence[float]) -> Histogram | str:
        """The histogram, or why it is refused; series of one engine are added up."""
        total = 0.0
        merged: tuple[int, ...] | None = None
        for part in self.parts:
            raw = [values[at] for at in part.at]
            try:
                counts = tuple(map(int, raw))
            except (ValueError, OverflowError):
                return f"{self.upstream} has a bucket that is not a number"
            if list(counts) != raw or counts[-1] > MAX_COUNT:
                return f"{self.upstream} has a bucket that is not a whole number"
            if counts[0] < 0:
                return f"{self.upstream} has a negative bucket"
            if sorted(raw) != raw:
                return f"{self.upstream} has buckets that fall from one edge to the next"
            if values[part.count_at] != counts[-1]:
                return f"{self.upstream}_count is {values[part.count_at]:g}, its +Inf bucket {counts[-1]}"
            of_part = values[part.sum_at]
            if not isfinite(of_part) or of_part < self.metric.low * counts[-1]:
                return f"{self.upstream}_sum is {of_part:g}, {_expected(self.metric)}"
            total += of_part
            merged = counts if merged is None else tuple(a + b for a, b in zip(merged, counts, strict=True))
        if not isfinite(total):
            return f"{self.upstream}_sum is too large to add up"
        return Histogram.model_construct(le=self.le, counts=merged, sum=total)


def histogram_series(
    metric: Metric, upstream: str, samples: Sequence[SampleKey], positions: Sequence[int]
) -> HistogramSeries | str:
    """Sort the lines of a histogram into buckets, sum and count; or say why they are none."""
    buckets: dict[tuple[tuple[str, str], ...], dict[float, int]] = {}
    ends: dict[tuple[tuple[str, str], ...], dict[str, int]] = {}
    for at in positions:
        name, labels = samples[at]
        series = tuple(pair for pair in labels if pair[0] != "le")
        if not name.endswith("_bucket"):
            ends.setdefault(series, {})[name.removeprefix(upstream)] = at
            continue
        try:
            edge = float(dict(labels)["le"])
        except (KeyError, ValueError):
            return "a bucket without a readable le"
        edges = buckets.setdefault(series, {})
        if edge in edges or edge != edge:
            return f"the bucket le={edge:g} stands there twice" if edge == edge else "a bucket without a readable le"
        edges[edge] = at
    parts = []
    le: tuple[float, ...] | None = None
    for series in buckets.keys() | ends.keys():
        ascending = sorted(buckets.get(series, {}).items())
        end = ends.get(series, {})
        if not ascending or ascending[-1][0] != inf:
            return "no +Inf bucket: the histogram is incomplete"
        if ascending[0][0] == -inf or "_sum" not in end or "_count" not in end:
            return "no _sum or _count: the histogram is incomplete"
        edges_of_part = tuple(edge for edge, _ in ascending[:-1])
        if le is not None and edges_of_part != le:
            return "series of one engine have different edges"
        le = edges_of_part
        parts.append(_Buckets(tuple(at for _, at in ascending), end["_sum"], end["_count"]))
    return HistogramSeries(metric, upstream, le or (), tuple(sorted(parts, key=lambda part: part.at)))


def _expected(metric: Metric) -> str:
    return f"expected {metric.low:g} to {metric.high:g}" if metric.high < inf else f"expected {metric.low:g} or more"
