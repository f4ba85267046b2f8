"""What grew between two scrapes of an instance, and what its gauges said: the pairs from which windows are summed."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from contracts.events import EngineSample, MetricsSnapshot
from contracts.laws.histogram import Histogram, counter_delta, delta, is_reset, merge

Engines = Mapping[str, EngineSample]


class Growth(BaseModel):
    """Counters and histograms grown over a pair of scrapes, summed over engines; `resets` counts engines that began
    anew in between."""

    model_config = ConfigDict(frozen=True)

    counters: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    resets: int = 0


def _fell(older: EngineSample, newer: EngineSample) -> bool:
    return any(newer.counters[k] < v for k, v in older.counters.items() if k in newer.counters) or any(
        is_reset(h, newer.histograms[k]) for k, h in older.histograms.items() if k in newer.histograms
    )


def carried(older: Engines, newer: Engines) -> dict[str, EngineSample]:
    """The newest cumulative values known: what this scrape lacks (a refused sample, an engine that was not on the page)
    stays as it was, so that the next scrape that has it catches up and nothing is lost."""
    together = dict(newer)
    for name, before in older.items():
        now = newer.get(name)
        if now is None:
            together[name] = before.model_copy(update={"gauges": {}})
        elif before.counters.keys() - now.counters.keys() or before.histograms.keys() - now.histograms.keys():
            counters, histograms = before.counters | now.counters, before.histograms | now.histograms
            together[name] = now.model_copy(update={"counters": counters, "histograms": histograms})
    return together


def continuous(older: Engines, newer: Engines) -> bool:
    """The same engines with the same metrics, none of which fell: growth over such scrapes is one subtraction."""
    return older.keys() == newer.keys() and not any(
        sample.counters.keys() != newer[name].counters.keys()
        or sample.histograms.keys() != newer[name].histograms.keys()
        or _fell(sample, newer[name])
        for name, sample in older.items()
    )


def _engine_growth(older: EngineSample | None, newer: EngineSample) -> Growth:
    """Growth of one engine; `older` None means that it started from zero. A metric that fell began anew by itself, as
    PromQL has it; one that the older scrape did not have has no known beginning and adds nothing."""
    if older is None:
        return Growth(counters=dict(newer.counters), histograms=dict(newer.histograms))
    return Growth(
        counters={
            k: counter_delta(older.counters[k], v).value for k, v in newer.counters.items() if k in older.counters
        },
        histograms={k: delta(older.histograms[k], h) for k, h in newer.histograms.items() if k in older.histograms},
        resets=int(_fell(older, newer)),
    )


def growth(older: Engines, newer: Engines, *, restarted: bool) -> Growth:
    """What an instance did between two scrapes.

    `restarted` (another process start time) makes every engine count from zero. An engine that only one of the scrapes
    has adds nothing: its beginning or its end is unknown.
    """
    if restarted:
        made = add(*(_engine_growth(None, sample) for sample in newer.values()))
        return made.model_copy(update={"resets": 1})
    return add(*(_engine_growth(older[name], sample) for name, sample in newer.items() if name in older))


def add(*parts: Growth) -> Growth:
    """The sum of growths: commutative, and associative in all counts."""
    counters: dict[str, float] = {}
    histograms: dict[str, list[Histogram]] = {}
    for part in parts:
        for name, value in part.counters.items():
            counters[name] = counters.get(name, 0.0) + value
        for name, hist in part.histograms.items():
            histograms.setdefault(name, []).append(hist)
    summed = {name: total for name, hists in histograms.items() if (total := merge(hists)) is not None}
    return Growth.model_construct(counters=counters, histograms=summed, resets=sum(p.resets for p in parts))


def instance_gauges(engines: Engines) -> dict[str, float]:
    """One value a gauge for the whole instance: the mean of ratios and flags, the sum of everything else."""
    values: dict[str, list[float]] = {}
    for sample in engines.values():
        for name, value in sample.gauges.items():
            values.setdefault(name, []).append(value)
    return {
        name: sum(seen) / len(seen) if name.endswith(("_ratio", "_awake")) else sum(seen)
        for name, seen in values.items()
    }


def has_work(gauges: Mapping[str, float]) -> bool:
    """Requests run or wait."""
    return gauges.get("requests_running", 0.0) + gauges.get("requests_waiting", 0.0) > 0


def generated_tokens(snapshot: MetricsSnapshot) -> float | None:
    """Tokens generated since the start of the server, over its engines; None when no engine says."""
    told = [s.counters["generation_tokens"] for s in snapshot.engines.values() if "generation_tokens" in s.counters]
    return sum(told) if told else None
