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


def _began_anew(older: EngineSample, newer: EngineSample) -> bool:
    return any(newer.counters[k] < v for k, v in older.counters.items() if k in newer.counters) or any(
        is_reset(h, newer.histograms[k]) for k, h in older.histograms.items() if k in newer.histograms
    )


def continuous(older: Engines, newer: Engines) -> bool:
    """The same engines with the same metrics, none of which fell: growth over such scrapes is one subtraction."""
    return older.keys() == newer.keys() and not any(
        sample.counters.keys() != newer[name].counters.keys()
        or sample.histograms.keys() != newer[name].histograms.keys()
        or _began_anew(sample, newer[name])
        for name, sample in older.items()
    )


def _engine_growth(older: EngineSample | None, newer: EngineSample) -> Growth:
    """Growth of one engine; `older` None means that it started from zero."""
    began_anew = older is not None and _began_anew(older, newer)
    base = EngineSample() if older is None or began_anew else older
    zero = older is None or began_anew
    # A metric that the older scrape did not have has no known beginning, unless the engine itself began from zero.
    counters = {
        k: counter_delta(0.0 if zero else base.counters[k], v).value
        for k, v in newer.counters.items()
        if zero or k in base.counters
    }
    histograms = {
        k: delta(None if zero else base.histograms[k], h)
        for k, h in newer.histograms.items()
        if zero or k in base.histograms
    }
    return Growth(counters=counters, histograms=histograms, resets=int(began_anew))


def growth(older: Engines, newer: Engines, *, restarted: bool) -> Growth:
    """What an instance did between two scrapes.

    `restarted` (another process start time) makes every engine count from zero, as a counter that fell does. An engine
    that only one of the scrapes has adds nothing: its beginning or its end is unknown.
    """
    parts = [
        _engine_growth(None if restarted else older[name], sample)
        for name, sample in newer.items()
        if restarted or name in older
    ]
    merged = add(*parts)
    return merged.model_copy(update={"resets": max(merged.resets, 1)}) if restarted else merged


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


def generated_tokens(snapshot: MetricsSnapshot) -> float:
    """Tokens generated since the start of the server, over its engines."""
    return sum(sample.counters.get("generation_tokens", 0.0) for sample in snapshot.engines.values())
