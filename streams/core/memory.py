"""SLIs of memory: hit ratios and traffic of KV tiers, lengths of requests, and engines that began anew.

What a page does not tell is left out: a server without tiers has no hit ratio, rather than one of zero.
"""

from __future__ import annotations

from contracts.events import SliValue
from contracts.laws.histogram import Histogram
from streams.core.totals import Totals

_RATIOS = {
    "external_hit_ratio": ("external_prefix_cache_hits_tokens", "external_prefix_cache_queries_tokens"),
    "host_hit_ratio": ("host_chunk_hits", "host_chunk_queries"),
    "disk_hit_ratio": ("disk_chunk_hits", "disk_chunk_queries"),
    "host_tokens_ratio": ("host_cached_tokens", "prompt_tokens"),
    "disk_tokens_ratio": ("disk_cached_tokens", "prompt_tokens"),
    "truncated_ratio": ("requests_truncated", "requests_finished"),
}
_RATES = {
    "host_read_bytes_per_s": ("host_read_bytes",),
    "host_write_bytes_per_s": ("host_write_bytes",),
    "disk_read_bytes_per_s": ("disk_read_bytes",),
    "disk_write_bytes_per_s": ("disk_write_bytes",),
    "tier_failures_per_s": ("promotion_failures", "demotion_failures", "disk_corrupt_blocks"),
    "tier_drops_per_s": ("demotions_dropped",),
    "disk_evictions_per_s": ("disk_evicted_blocks",),
    "kv_allocation_failures_per_s": ("kv_allocation_failures", "promotion_allocation_failures"),
}
_TAILS = {"request_tokens_p95": 0.975, "request_tokens_p99": 0.995}
"""Of prompt and of output each: at most twice what lies above either is longer than both together."""


def memory_values(totals: Totals) -> dict[str, SliValue]:
    """The SLIs of memory that the evidence tells."""
    counters, found = totals.counters, {}
    for name, (part, whole) in _RATIOS.items():
        if part in counters and whole in counters:
            of = counters[whole]
            found[name] = SliValue(value=min(1.0, counters[part] / of) if of > 0 else None, samples=int(of))
    for name, parts in _RATES.items():
        told = [part for part in parts if part in totals.per_s]
        if told:
            events = int(sum(counters[part] for part in told))
            found[name] = SliValue(value=sum(totals.per_s[part] for part in told), samples=events)
    idle = totals.histograms.get("kv_idle_before_evict_s")
    if idle is not None:
        found["kv_idle_before_evict_mean_s"] = SliValue(value=_mean(idle), samples=idle.count)
    found["restarts"] = SliValue(value=float(totals.resets), samples=totals.scrapes)
    return found | _lengths(totals)


def _lengths(totals: Totals) -> dict[str, SliValue]:
    prompt = totals.histograms.get("prompt_tokens_per_request")
    output = totals.histograms.get("generation_tokens_per_request")
    if prompt is None or output is None:
        return {}
    samples = min(prompt.count, output.count)
    found = {"request_tokens_mean": SliValue(value=_sum(_mean(prompt), _mean(output)), samples=samples)}
    for name, q in _TAILS.items():
        found[name] = SliValue(value=_sum(_tail(prompt, q), _tail(output, q)), samples=samples)
    return found


def _tail(hist: Histogram, q: float) -> float | None:
    """What a quantile is at most: the upper edge of the bucket that holds it, inside which nobody knows; None above the
    last edge."""
    rank = q * hist.count
    return next((edge for edge, below in zip(hist.le, hist.counts, strict=False) if below >= rank > 0), None)


def _mean(hist: Histogram) -> float | None:
    return hist.sum / hist.count if hist.count else None


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
