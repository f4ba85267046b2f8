"""From totals to SLIs: the same arithmetic for one instance and for a workload, which is a sum of instances."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.catalog.slis import QUANTILES
from contracts.events import Sli, SliValue
from contracts.laws.attainment import Attainment, attainment, burn_rate
from contracts.laws.quantile import quantile
from contracts.objectives import Latency, Objectives
from streams.core.memory import memory_values
from streams.core.totals import Totals

COVERAGE_FLOOR = 0.5
"""Below this share of observed instance-time a window says nothing: its values are missing, which is not zero."""


@dataclass(frozen=True)
class Subject:
    """Of whom and when an SLI speaks: an instance, or the whole workload (`instance_id` None), in one window."""

    workload: str
    instance_id: str | None
    size_s: int
    start_ms: int
    revision: int
    cause: str = ""


def _rates(totals: Totals) -> dict[str, SliValue]:
    named = {
        "requests_per_s": "requests_finished",
        "prompt_tokens_per_s": "prompt_tokens",
        "generation_tokens_per_s": "generation_tokens",
        "preemptions_per_s": "preemptions",
    }
    return {
        sli: SliValue(value=totals.per_s[counter], samples=int(totals.counters[counter]))
        for sli, counter in named.items()
        if counter in totals.per_s
    }


def _ratio(part: float | None, whole: float | None) -> SliValue | None:
    if part is None or whole is None:
        return None
    return SliValue(value=min(1.0, part / whole) if whole > 0 else None, samples=int(whole))


def _ratios(totals: Totals) -> dict[str, SliValue]:
    count = totals.counters.get
    failed, finished, rejected = count("requests_failed"), count("requests_finished"), count("requests_rejected", 0.0)
    found = {
        "prefix_cache_hit_ratio": _ratio(count("prefix_cache_hits_tokens"), count("prefix_cache_queries_tokens")),
        "error_ratio": _ratio(
            None if failed is None else failed + rejected, None if finished is None else finished + rejected
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


def _gauges(totals: Totals) -> dict[str, SliValue]:
    found: dict[str, SliValue] = {}
    for name in ("requests_waiting", "requests_running"):
        if name in totals.gauges:
            found[name] = SliValue(value=totals.gauges[name].means, samples=totals.gauges[name].scrapes)
    if "requests_waiting" in totals.gauges:
        waiting = totals.gauges["requests_waiting"]
        found["requests_waiting_max"] = SliValue(value=waiting.maxima, samples=waiting.scrapes)
    if "kv_cache_usage_ratio" in totals.gauges:
        kv = totals.gauges["kv_cache_usage_ratio"]
        found["kv_cache_usage_ratio"] = SliValue(value=kv.means / kv.instances, samples=kv.scrapes)
        found["kv_cache_usage_max_ratio"] = SliValue(value=kv.max, samples=kv.scrapes)
    if "prefix_cache_hit_ratio" in totals.gauges:  # engines of vLLM 0.6 to 0.8 tell the ratio itself, -1 while unknown
        hits = totals.gauges["prefix_cache_hit_ratio"]
        told = hits.means / hits.instances
        found["prefix_cache_hit_ratio"] = SliValue(value=told if told >= 0 else None, samples=hits.scrapes)
    return found


def _replicas(totals: Totals) -> dict[str, SliValue]:
    found = {"replicas_up": SliValue(value=totals.instances_up, samples=totals.scrapes)}
    running, waiting = totals.gauges.get("requests_running"), totals.gauges.get("requests_waiting")
    if running and waiting and totals.instances_up:
        load = (running.means + waiting.means) / totals.instances_up
        found["load_per_replica"] = SliValue(value=load, samples=min(running.scrapes, waiting.scrapes))
    return found


def _latencies(totals: Totals, objectives: Objectives) -> tuple[dict[str, SliValue], dict[str, Attainment]]:
    values: dict[str, SliValue] = {}
    met: dict[str, Attainment] = {}
    for family in Latency:
        hist = totals.histograms.get(family.histogram)
        if hist is None:
            continue
        for label, q in QUANTILES.items():
            values[f"{family}_{label}_s"] = SliValue(value=quantile(hist, q), samples=hist.count)
        if family is Latency.TTFT:
            mean = hist.sum / hist.count if hist.count else None
            values["ttft_mean_s"] = SliValue(value=mean, samples=hist.count)
        threshold_s = objectives.threshold_s(family)
        if threshold_s in hist.le:
            met[family.value] = attainment(hist, threshold_s)
        ratio = met[family.value].ratio if family.value in met else None
        burn = burn_rate(met[family.value], objectives.attainment_target_ratio) if family.value in met else None
        values[f"{family}_attainment_ratio"] = SliValue(value=ratio, samples=hist.count)
        values[f"{family}_burn_rate"] = SliValue(value=burn, samples=hist.count)
    queue = totals.histograms.get("queue_time_s")
    if queue is not None:
        values["queue_time_p95_s"] = SliValue(value=quantile(queue, 0.95), samples=queue.count)
    return values, met


def sli_of(
    subject: Subject, totals: Totals, *, members: int, left_ms: int, cause_ms: int, objectives: Objectives
) -> Sli:
    """The SLIs of a subject from the evidence of its instances.

    `members` is how many instances ought to have reported: one that did not lowers the coverage. Those that left are
    not among them: `left_ms` is how long of the window they were there, together, less what of it was over before new
    members were observed. Below COVERAGE_FLOOR only `up_ratio`
    and `stalled` are given; they are facts about the scrapes themselves.
    """
    size_ms = subject.size_s * 1000
    members = max(members, totals.instances)
    due_ms = members * size_ms + left_ms
    coverage = min(1.0, totals.covered_ms / due_ms) if due_ms else 0.0
    values: dict[str, SliValue] = {}
    met: dict[str, Attainment] = {}
    if coverage >= COVERAGE_FLOOR:
        values, met = _latencies(totals, objectives)
        values |= _rates(totals) | _gauges(totals) | _ratios(totals) | _replicas(totals) | memory_values(totals)
    due = totals.scrapes + totals.scrapes_failed
    if due:
        values["up_ratio"] = SliValue(value=totals.scrapes / due, samples=due)
    stuck = totals.any_stalled and not totals.any_tokens
    values["stalled"] = SliValue(value=float(stuck), samples=totals.scrapes)
    newest_ms = totals.newest_ms or subject.start_ms
    return Sli(
        workload=subject.workload,
        instance_id=subject.instance_id,
        size_s=subject.size_s,
        start_ms=subject.start_ms,
        revision=subject.revision,
        coverage_ratio=coverage,
        freshness_s=max(0.0, (subject.start_ms + size_ms - newest_ms) / 1000.0),
        cause_ms=cause_ms,
        cause=subject.cause,
        instances=members,
        instances_up=totals.instances_up,
        stalled=stuck,
        values=values,
        attainment=met,
    )
