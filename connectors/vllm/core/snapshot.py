"""From the samples of a page to canonical metrics by engine; what cannot be believed is refused by name, the rest kept.

How samples find their engine: by label `engine`; pages without that label (V0) have one engine, "0". A sample without
it on a page that has engines (admission_rejections belongs to the API server) goes to the lowest engine of its model,
so that a sum over engines counts it once. Where an engine carries several `model_name`, each is an engine of its own,
`engine:model`: their gauges and bucket edges have nothing in common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from weakref import WeakKeyDictionary

from connectors.vllm.core.mapping import Entry, MetricMap, Upstream, family_stem
from connectors.vllm.core.page import Page, SampleKey, Shape
from connectors.vllm.core.series import HistogramSeries, ScalarSeries, histogram_series
from contracts.catalog.metrics import Kind, Metric
from contracts.errors import ConfigError
from contracts.events import EngineSample
from contracts.laws.histogram import Histogram

MAX_PROBLEMS = 50
"""As many as a snapshot holds (contracts.events.MetricsSnapshot.problems)."""
MAX_PROBLEM_CHARS = 200
MAX_NAME_CHARS = 200
DEFAULT_ENGINE = "0"
_LATEST_START_S = 1e11
"""The year 5138: a start beyond it is no Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one page says: samples by engine, what was refused and why, and the start of the process in wall ms."""

    engines: dict[str, EngineSample]
    problems: tuple[str, ...] = ()
    incarnation_ms: int | None = None


@dataclass(slots=True)
class _EnginePlan:
    model_name: str
    scalars: list[ScalarSeries] = field(default_factory=list)
    histograms: list[HistogramSeries] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where in a page's values each metric stands; made once for a shape."""

    engines: dict[str, _EnginePlan]
    problems: tuple[str, ...]
    incarnation_at: int | None


class Translator:
    """Turns pages into readings; keeps the plan of each shape for as long as the shape lives."""

    def __init__(self, metric_map: MetricMap) -> None:
        self._map = metric_map
        self._plans: WeakKeyDictionary[Shape, _Plan] = WeakKeyDictionary()

    def translate(self, page: Page) -> Reading:
        """Read every canonical metric of the page. Raises ConfigError when no vLLM metric is on it."""
        plan = self._plans.get(page.shape)
        if plan is None:
            plan = self._plans[page.shape] = self._plan(page.shape)
        problems = list(plan.problems)
        engines = {name: _sample(name, engine, page.values, problems) for name, engine in plan.engines.items()}
        incarnation_ms = None
        if plan.incarnation_at is not None:
            start_s = page.values[plan.incarnation_at]
            if 0 < start_s < _LATEST_START_S:
                incarnation_ms = round(start_s * 1000)
            else:
                problems.append(f"{self._map.incarnation} is {start_s:g}, not a time")
        return Reading(engines, _bounded(problems), incarnation_ms)

    def _plan(self, shape: Shape) -> _Plan:
        if not shape.speaks:
            raise ConfigError("readable, but no vLLM metric on it: is this the vLLM port?")
        problems: list[str] = []
        at_of: dict[str, list[int]] = {}
        for at, key in enumerate(shape.samples):
            at_of.setdefault(key.name, []).append(at)
        starts = at_of.pop(self._map.incarnation, [])
        engine_of = _engines_of(shape.samples)
        repeated = {key for key, count in Counter(shape.samples).items() if count > 1}
        engines: dict[str, _EnginePlan] = {}
        for entry in self._map.entries:
            upstream, found = _find(entry, shape, at_of)
            if upstream is None:
                continue
            if (fault := _type_fault(entry.metric, upstream, shape.types)) is not None:
                problems.append(fault)
                continue
            by_engine: dict[str, list[int]] = {}
            for at in found:
                by_engine.setdefault(engine_of[at].key, []).append(at)
            for name, positions in by_engine.items():
                engine = engines.setdefault(name, _EnginePlan(engine_of[positions[0]].model))
                twice = next((shape.samples[at] for at in positions if shape.samples[at] in repeated), None)
                if twice is not None:
                    problems.append(f"{twice} stands on the page more than once")
                    continue
                if entry.metric.kind is Kind.HISTOGRAM:
                    series = histogram_series(entry.metric, upstream.name, shape.samples, positions)
                    if isinstance(series, str):
                        problems.append(f"engine {name}: {upstream.name}: {series}")
                    else:
                        engine.histograms.append(series)
                elif len(positions) > 1 and entry.metric.high < inf:
                    problems.append(
                        f"engine {name}: {upstream.name}: {len(positions)} samples of a {entry.metric.unit}"
                    )
                else:
                    engine.scalars.append(ScalarSeries(entry.metric, upstream.name, tuple(positions)))
        for entry in self._map.entries:
            _add_zeros(entry, shape, engines)
        if not engines and not problems:
            problems.append("vLLM metrics, but none that is known: a release with new names?")
        return _Plan(engines, tuple(problems), starts[0] if len(starts) == 1 else None)


@dataclass(frozen=True, slots=True)
class _Engine:
    key: str
    model: str


def _find(
    entry: Entry, shape: Shape, at_of: Mapping[str, list[int]]
) -> tuple[Upstream, list[int]] | tuple[None, list[int]]:
    """The first upstream name that has samples with the labels asked for, and where these stand."""
    for upstream in entry.upstream:
        found = [
            at
            for name in upstream.sample_names(entry.metric.kind)
            for at in at_of.get(name, ())
            if upstream.takes(shape.samples[at].labels)
        ]
        if found:
            return upstream, found
    return None, []


def _add_zeros(entry: Entry, shape: Shape, engines: Mapping[str, _EnginePlan]) -> None:
    """Engines on whose page a counter is declared and not begun have it at 0, where a sign says that it is counted."""
    for upstream in entry.upstream:
        declared = upstream.name in shape.types or family_stem(upstream.name) in shape.types
        if not upstream.zero_beside or not declared:
            continue
        for engine in engines.values():
            has = {series.metric.name for series in engine.scalars}
            if upstream.zero_beside in has and entry.metric.name not in has:
                engine.scalars.append(ScalarSeries(entry.metric, upstream.name, ()))


def _type_fault(metric: Metric, upstream: Upstream, types: Mapping[str, str]) -> str | None:
    declared = types.get(upstream.name) or types.get(family_stem(upstream.name)) or "untyped"
    if declared in (metric.kind, "untyped", "unknown"):
        return None
    return f"{upstream.name} is declared a {declared}, expected a {metric.kind}"


def _engines_of(samples: tuple[SampleKey, ...]) -> list[_Engine]:
    """The engine of each sample, by the rules in the module's first lines."""
    labelled = [
        (labels.get("engine", ""), labels.get("model_name", "")) for labels in (dict(s.labels) for s in samples)
    ]
    models: dict[str, set[str]] = {}
    for engine, model in labelled:
        if engine:
            models.setdefault(engine, set()).update({model} - {""})
    if not models:
        models[DEFAULT_ENGINE] = {model for _, model in labelled} - {""}
    order = sorted(models, key=lambda name: (not name.isdecimal(), len(name), name))

    def home(engine: str, model: str) -> _Engine:
        if not engine:
            engine = next((name for name in order if model in models[name]), order[0])
        known = models[engine]
        model = model or min(known, default="")
        key = f"{engine}:{model}" if len(known) > 1 else engine
        return _Engine(key[:MAX_NAME_CHARS], model[:MAX_NAME_CHARS])

    memo = {pair: home(*pair) for pair in set(labelled)}
    return [memo[pair] for pair in labelled]


def _sample(name: str, plan: _EnginePlan, values: tuple[float, ...], problems: list[str]) -> EngineSample:
    """One engine's metrics. Values were checked one by one, so the models are built without a second validation."""
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    for series in plan.scalars:
        value = series.read(values)
        if isinstance(value, str):
            problems.append(f"engine {name}: {value}")
        else:
            (gauges if series.metric.kind is Kind.GAUGE else counters)[series.metric.name] = value
    for buckets in plan.histograms:
        read = buckets.read(values)
        if isinstance(read, str):
            problems.append(f"engine {name}: {read}")
        else:
            histograms[buckets.metric.name] = read
    return EngineSample.model_construct(
        model_name=plan.model_name, gauges=gauges, counters=counters, histograms=histograms
    )


def _bounded(problems: list[str]) -> tuple[str, ...]:
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS + 1
        problems = [*problems[: MAX_PROBLEMS - 1], f"and {more} more"]
    return tuple(problem[:MAX_PROBLEM_CHARS] for problem in problems)
