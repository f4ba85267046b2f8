"""Which upstream name stands for which canonical metric: `metrics.yaml`, read once into frozen objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.catalog.metrics import METRICS, Kind, Metric
from contracts.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Upstream:
    """One name as it stands on the page (of the family, for a histogram), and the releases that export it.

    `where` holds label values that a sample must have, `unless` those that it must not have. `until` is None while the
    newest release has the name. `zero_beside` is the canonical metric beside which a family that is declared and has no
    sample is 0: the client makes a counter with labels at its first event. Empty where nothing is known of it.
    """

    name: str
    since: str
    until: str | None
    where: tuple[tuple[str, str], ...]
    unless: tuple[tuple[str, str], ...] = ()
    zero_beside: str = ""

    def takes(self, labels: tuple[tuple[str, str], ...]) -> bool:
        """Whether a sample with these labels is one of its own."""
        return set(self.where) <= set(labels) and (not self.unless or not set(self.unless) <= set(labels))

    def sample_names(self, kind: Kind) -> tuple[str, ...]:
        """The names of its lines: three for a histogram, one for the rest."""
        if kind is Kind.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Entry:
    """A canonical metric and its upstream names, best first.

    A page is read by one of them, never by two: an old and a new name count the same events.
    """

    metric: Metric
    upstream: tuple[Upstream, ...]
    doc: str
    source: str


@dataclass(frozen=True)
class MetricMap:
    """All of `metrics.yaml`. `wanted` is every sample name that is read; `ignored` maps the other names to a reason."""

    prefix: str
    incarnation: str
    entries: tuple[Entry, ...]
    ignored: Mapping[str, str]
    wanted: frozenset[str]

    def knows(self, name: str) -> bool:
        """Whether a family is read, or ignored for a reason; a trailing `_total` does not matter."""
        stem = family_stem(name)
        return stem in self.ignored or any(family_stem(u.name) == stem for e in self.entries for u in e.upstream)


def family_stem(name: str) -> str:
    """A family's name as vLLM's source and the page both can be brought to: without the counter's `_total`.

    >>> family_stem("vllm:prompt_tokens_total")
    'vllm:prompt_tokens'
    """
    return name.removesuffix("_total")


class _Upstream(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    since: str
    until: str | None = None
    where: dict[str, str] = {}
    unless: dict[str, str] = {}
    zero_beside: str = ""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Kind
    unit: str
    doc: str = Field(min_length=1)
    source: str = Field(min_length=1)
    upstream: list[_Upstream] = Field(min_length=1)


class _Ignored(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field(min_length=1)
    names: list[str] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_: int = Field(alias="schema", ge=1, le=1)
    prefix: str = Field(min_length=1)
    incarnation: str
    metrics: dict[str, _Entry]
    ignored: list[_Ignored]


def load_map(text: str, *, where: str = "metrics.yaml") -> MetricMap:
    """Read and check the mapping. Raises ConfigError naming every fault at once."""
    try:
        raw = _File.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=where) from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigError("; ".join(faults), where=where, fix="Correct the fields named.") from error
    faults = _faults(raw)
    if faults:
        raise ConfigError("; ".join(faults), where=where, fix="See contracts/catalog/metrics.py.")
    entries = tuple(
        Entry(
            metric=METRICS[name],
            upstream=tuple(
                Upstream(
                    u.name,
                    u.since,
                    u.until,
                    tuple(sorted(u.where.items())),
                    tuple(sorted(u.unless.items())),
                    u.zero_beside,
                )
                for u in entry.upstream
            ),
            doc=entry.doc,
            source=entry.source,
        )
        for name, entry in raw.metrics.items()
    )
    wanted = {s for e in entries for u in e.upstream for s in u.sample_names(e.metric.kind)}
    return MetricMap(
        prefix=raw.prefix,
        incarnation=raw.incarnation,
        entries=entries,
        ignored={family_stem(name): group.reason for group in raw.ignored for name in group.names},
        wanted=frozenset(wanted | {raw.incarnation}),
    )


def _faults(raw: _File) -> list[str]:
    """Everything in the file that the catalogue contradicts."""
    faults = [f"metrics.{name} is missing" for name in METRICS if name not in raw.metrics]
    for name, entry in raw.metrics.items():
        metric = METRICS.get(name)
        if metric is None:
            close = get_close_matches(name, METRICS, 1)
            faults.append(
                f"metrics.{name} is no canonical metric" + (f" (did you mean {close[0]!r}?)" if close else "")
            )
            continue
        if entry.type is not metric.kind:
            faults.append(f"metrics.{name}: type {entry.type}, the catalogue says {metric.kind}")
        if entry.unit != metric.unit:
            faults.append(f"metrics.{name}: unit {entry.unit!r}, the catalogue says {metric.unit!r}")
        for upstream in entry.upstream:
            if upstream.zero_beside and upstream.zero_beside not in raw.metrics:
                faults.append(f"metrics.{name}: zero_beside {upstream.zero_beside!r}, which is not mapped")
    mapped = {family_stem(u.name) for entry in raw.metrics.values() for u in entry.upstream}
    seen: set[str] = set()
    for group in raw.ignored:
        for name in map(family_stem, group.names):
            if name in mapped:
                faults.append(f"{name} is mapped and ignored")
            if name in seen:
                faults.append(f"{name} is ignored twice")
            seen.add(name)
    return faults
