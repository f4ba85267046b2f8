"""Evidence of several instances in one window, summed: what a workload keeps instead of every instance's share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.events import InstanceWindow
from contracts.laws.histogram import Histogram, merge
from contracts.objectives import Latency

KEPT = frozenset(
    (
        *(family.histogram for family in Latency),
        "queue_time_s",
        "prompt_tokens_per_request",
        "generation_tokens_per_request",
        "kv_idle_before_evict_s",
    )
)
"""The histograms that SLIs are made of; the others stay with the instance's own evidence."""


class GaugeTotal(BaseModel):
    """A gauge over instances: sums of their means and maxima, the largest value, instances and scrapes behind it."""

    model_config = ConfigDict(frozen=True)

    means: float
    maxima: float
    max: float
    instances: int
    scrapes: int


class Totals(BaseModel):
    """A sum of `InstanceWindow`s. `per_s` adds each instance's growth over the span of its own scrapes, so that rates
    stay right when instances were observed for different lengths of time."""

    model_config = ConfigDict(frozen=True)

    instances: int = 0
    instances_up: int = 0
    covered_ms: int = 0
    newest_ms: int = 0
    scrapes: int = 0
    scrapes_failed: int = 0
    resets: int = 0
    any_stalled: bool = False
    any_tokens: bool = False
    counters: dict[str, float] = {}
    per_s: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    gauges: dict[str, GaugeTotal] = {}


def lift(part: InstanceWindow) -> Totals:
    """The totals of one instance alone. One that left is no instance any more, and its gauges are of no queue that is
    still there; what it did counts."""
    return Totals.model_construct(
        instances=int(not part.left),
        instances_up=int(part.scrapes > 0 and not part.left),
        covered_ms=part.covered_ms,
        newest_ms=part.newest_ms,
        scrapes=part.scrapes,
        scrapes_failed=part.scrapes_failed,
        resets=part.resets,
        any_stalled=part.stalled,
        any_tokens=part.counters.get("generation_tokens", 0.0) > 0,
        counters=part.counters,
        per_s={name: grown * 1000.0 / part.span_ms for name, grown in part.counters.items()} if part.span_ms else {},
        histograms={name: hist for name, hist in part.histograms.items() if name in KEPT},
        gauges={
            name: GaugeTotal.model_construct(
                means=gauge.mean, maxima=gauge.max, max=gauge.max, instances=1, scrapes=part.scrapes
            )
            for name, gauge in part.gauges.items()
            if not part.left
        },
    )


def _sums(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return a | {name: a.get(name, 0.0) + value for name, value in b.items()}


def _gauges(a: dict[str, GaugeTotal], b: dict[str, GaugeTotal]) -> dict[str, GaugeTotal]:
    both = a | b
    for name in a.keys() & b.keys():
        x, y = a[name], b[name]
        both[name] = GaugeTotal.model_construct(
            means=x.means + y.means,
            maxima=x.maxima + y.maxima,
            max=max(x.max, y.max),
            instances=x.instances + y.instances,
            scrapes=x.scrapes + y.scrapes,
        )
    return both


def plus(a: Totals, b: Totals) -> Totals:
    """The sum: commutative, associative in all counts, with `Totals()` as its zero."""
    histograms = a.histograms | b.histograms
    for name in a.histograms.keys() & b.histograms.keys():
        merged = merge((a.histograms[name], b.histograms[name]))
        if merged is not None:
            histograms[name] = merged
    return Totals.model_construct(
        instances=a.instances + b.instances,
        instances_up=a.instances_up + b.instances_up,
        covered_ms=a.covered_ms + b.covered_ms,
        newest_ms=max(a.newest_ms, b.newest_ms),
        scrapes=a.scrapes + b.scrapes,
        scrapes_failed=a.scrapes_failed + b.scrapes_failed,
        resets=a.resets + b.resets,
        any_stalled=a.any_stalled or b.any_stalled,
        any_tokens=a.any_tokens or b.any_tokens,
        counters=_sums(a.counters, b.counters),
        per_s=_sums(a.per_s, b.per_s),
        histograms=histograms,
        gauges=_gauges(a.gauges, b.gauges),
    )
