"""The SLIs of a workload made from looks at the whole fleet, as stages `windows`, `slis` and `latest` would from pages.

The arithmetic is that of stage `slis` (`streams.core.values`); what is skipped is carrying the same numbers through a
page, a window and a sum for each replica. A test holds both ways against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from contracts.events import Message, Sli, SliValue
from contracts.laws.histogram import Histogram
from optiinfra.replay.fluid_source import FINISHED, TRUSTED_INTERVALS, TTFT, Look
from optiinfra.replay.options import PipelineOptions
from streams.core.totals import GaugeTotal, Totals
from streams.core.values import Subject, sli_of
from streams.core.windows import SIZES_S, window_start_ms


@dataclass
class _Window:
    """One window while looks fall into it. `known`: who was there before it."""

    start_ms: int
    known: frozenset[str]
    looks: list[Look] = field(default_factory=list)


@dataclass(frozen=True)
class _Presence:
    """Of one replica, or of several alike: at which looks of the window it answered or was tried (`there`), at which
    its counters had grown since the look before (`grew`), and at which it was found to have left (None: it stayed)."""

    there: tuple[int, ...]
    grew: tuple[int, ...]
    closing: bool
    left_at: int | None


class WorkloadSlis:
    """The latest value at every look, and each window at the first look after its end."""

    def __init__(self, options: PipelineOptions) -> None:
        self._options, self._objectives = options, options.objectives
        self._sizes = tuple(size_s for size_s in SIZES_S if size_s >= 2 * options.scrape_s)
        self._trusted_ms = TRUSTED_INTERVALS * options.scrape_s * 1000
        self._open: dict[int, _Window] = {}
        self._up_ms: int | None = None
        self._up_names: tuple[str, ...] = ()
        self._tried_ms: dict[str, int] = {}
        self._counted: Look | None = None
        self._before: Look | None = None

    def tell(self, look: Look) -> list[Message]:
        if not look.names and not look.left:
            return []  # nobody is there to be scraped
        told: list[Message] = []
        for size_s in self._sizes:
            start_ms = window_start_ms(look.at_ms, size_s)
            window = self._open.get(size_s)
            if window is not None and window.start_ms != start_ms:
                told.append(self._closed(window, size_s, look))
                window = None
            if window is None:
                known = frozenset(self._before.names if self._before is not None else ())
                window = self._open[size_s] = _Window(start_ms, known)
            window.looks.append(look)
        if look.up:
            self._up_ms, self._up_names = look.at_ms, look.names
            self._tried_ms.clear()
        told.append(self._latest(look))
        self._before = look
        self._counted = look if look.up else self._counted
        return told

    def _latest(self, look: Look) -> Sli:
        """As stage `latest` tells it."""
        many, up = len(look.names), look.up
        fresh = many if up else 0
        values = {"stalled": _value(0.0, fresh)}
        if many:
            values["up_ratio"] = _value(fresh / many, many)
        if look.waiting is not None and look.running is not None:
            values["requests_waiting"] = _value(look.waiting, many)
            values["requests_running"] = _value(look.running, many)
            values["arrivals_per_s"] = self._arrivals(look)
            values["replicas_up"] = _value(float(many), many)
            values["load_per_replica"] = _value((look.running + look.waiting) / many, many)
        seen_ms = look.at_ms if up else self._seen_ms(look)
        return Sli(
            workload=self._options.workload,
            size_s=0,
            start_ms=look.at_ms,
            coverage_ratio=fresh / many if many else 0.0,
            freshness_s=(look.at_ms - seen_ms) / 1000.0,
            cause_ms=look.at_ms,
            instances=many,
            instances_up=fresh,
            values=values,
            attainment={},
        )

    def _arrivals(self, look: Look) -> SliValue:
        """Of those that answered before too; those that left took along their share of what waited and ran."""
        before, known = self._counted, len(look.both)
        if before is None or look.since_ms is None or look.at_ms - look.since_ms > self._trusted_ms:
            return SliValue(value=None)
        held, was = _held(look) / len(look.names), _held(before) / len(before.names)
        took = len(look.left) * was if self._before is before else 0.0
        arrived = look.finished + known * (held - was) - took
        return _value(max(0.0, arrived * 1000.0 / (look.at_ms - look.since_ms)), known)

    def _seen_ms(self, look: Look) -> int:
        """When any of those that do not answer now last did, or was first tried in vain."""
        for name in look.names:
            if name not in self._up_names:
                self._tried_ms.setdefault(name, look.at_ms)
        answered = [self._up_ms] if self._up_ms is not None and set(self._up_names) & set(look.names) else []
        return max([*answered, *(ms for name, ms in self._tried_ms.items() if name in look.names)], default=look.at_ms)

    def _closed(self, window: _Window, size_s: int, closing: Look) -> Sli:
        looks, end_ms = window.looks, window.start_ms + size_s * 1000
        kinds = _kinds(looks, closing)
        parts = [(kind, len(names), _ups(kind, looks)) for kind, names in kinds.items()]
        stayed = [(many, ups) for kind, many, ups in parts if kind.left_at is None]
        scrapes = sum(many * len(ups) for _, many, ups in parts)
        totals = Totals.model_construct(
            instances=sum(many for many, _ in stayed),
            instances_up=sum(many for many, ups in stayed if ups),
            covered_ms=sum(
                many * self._covered_ms(kind, looks, window.start_ms, end_ms, closing) for kind, many, _ in parts
            ),
            newest_ms=max((look.at_ms for look in looks if look.up), default=self._up_ms or 0),
            scrapes=scrapes,
            scrapes_failed=sum(many * len(kind.there) for kind, many, _ in parts) - scrapes,
            counters={FINISHED: float(sum(look.finished for look in looks if look.both))},
            per_s=_per_s(kinds, looks),
            histograms={TTFT: self._ttft(looks)},
            gauges=_gauges([(many, ups) for many, ups in stayed if ups]),
        )
        left = [(many, looks[kind.left_at].at_ms) for kind, many, _ in parts if kind.left_at is not None]
        before_ms = sum(
            len(names) * (size_s * 1000 - self._covered_ms(kind, looks, window.start_ms, end_ms, closing))
            for kind, names in kinds.items()
            if window.known and kind.left_at is None and not window.known.intersection(names)
        )
        return sli_of(
            Subject(self._options.workload, None, size_s, window.start_ms, 0, ""),
            totals,
            members=totals.instances,
            left_ms=sum(many * min(size_s * 1000, at_ms - window.start_ms) for many, at_ms in left) - before_ms,
            cause_ms=closing.at_ms,
            objectives=self._objectives,
        )

    def _covered_ms(self, kind: _Presence, looks: Sequence[Look], start_ms: int, end_ms: int, closing: Look) -> int:
        """How much of the window lies between looks close enough to trust; the closing one covers its end."""
        covered_ms = 0
        for look in (*(looks[place] for place in kind.grew), *((closing,) if kind.closing else ())):
            if look.since_ms is not None and look.at_ms - look.since_ms <= self._trusted_ms:
                covered_ms += max(0, min(look.at_ms, end_ms) - max(look.since_ms, start_ms))
        return min(covered_ms, end_ms - start_ms)

    def _ttft(self, looks: Sequence[Look]) -> Histogram:
        grown = [look for look in looks if look.both]
        edges = self._options.ttft_edges_s
        counts = tuple(map(sum, zip(*(look.grown for look in grown), strict=True))) or (0,) * (len(edges) + 1)
        return Histogram.model_construct(le=edges, counts=counts, sum=sum(look.grown_sum_s for look in grown))


def _held(look: Look) -> float:
    return (look.waiting or 0.0) + (look.running or 0.0)


@lru_cache(maxsize=256)
def _value(value: float, samples: int) -> SliValue:
    """Most are told again and again: that nobody waits, how many replicas answer."""
    return SliValue(value=value, samples=samples)


_Part = tuple[_Presence, int, list[Look]]
"""Replicas that were present alike, how many they are, and the looks that they answered."""


def _ups(kind: _Presence, looks: Sequence[Look]) -> list[Look]:
    return [looks[place] for place in kind.there if looks[place].waiting is not None]


def _kinds(looks: Sequence[Look], closing: Look) -> dict[_Presence, tuple[str, ...]]:
    """The replicas of a window by how they were present."""
    first = looks[0]
    if all(look.names == first.names and look.both == first.names and not look.left for look in looks):
        every = tuple(range(len(looks)))
        if closing.both == first.names or not closing.both:
            return {_Presence(every, every, bool(closing.both), None): first.names}
    there, grew = _places(look.names for look in looks), _places(look.both for look in looks)
    left, closing_both = _places(look.left for look in looks), frozenset(closing.both)
    found: dict[_Presence, tuple[str, ...]] = {}
    for name in dict.fromkeys(name for look in looks for name in (*look.left, *look.names)):
        kind = _Presence(
            there=tuple(there.get(name, ())),
            grew=tuple(grew.get(name, ())),
            closing=name in closing_both,
            left_at=left[name][0] if name in left else None,
        )
        found[kind] = (*found.get(kind, ()), name)
    return found


def _places(named: Iterable[tuple[str, ...]]) -> dict[str, list[int]]:
    """At which places each name stands."""
    found: dict[str, list[int]] = {}
    for place, names in enumerate(named):
        for name in names:
            found.setdefault(name, []).append(place)
    return found


def _per_s(kinds: Mapping[_Presence, tuple[str, ...]], looks: Sequence[Look]) -> dict[str, float]:
    """Requests finished a second, each replica's over the time in which its own counters grew. They are shared out in
    whole requests, as pages have them: a capacity that is learnt would differ otherwise, and decisions with it."""
    rate, known = 0.0, False
    for kind, names in kinds.items():
        finished, span_ms, present = 0, 0, frozenset(names)
        for place in kind.grew:
            look = looks[place]
            if look.since_ms is not None:
                finished += look.finished_by(present)
                span_ms += look.at_ms - look.since_ms
        if span_ms:
            rate, known = rate + finished * 1000.0 / span_ms, True
    return {FINISHED: rate} if known else {}


def _gauges(stayed: Sequence[tuple[int, list[Look]]]) -> dict[str, GaugeTotal]:
    """Sums over the replicas that stayed of what each of them showed, on average and at most."""
    if not stayed:
        return {}
    waiting = [(many, [(up.waiting or 0.0) / len(up.names) for up in ups]) for many, ups in stayed]
    running = [(many, [(up.running or 0.0) / len(up.names) for up in ups]) for many, ups in stayed]
    return {"requests_waiting": _gauge(waiting), "requests_running": _gauge(running)}


def _gauge(shown: Sequence[tuple[int, list[float]]]) -> GaugeTotal:
    return GaugeTotal(
        means=sum(many * sum(values) / len(values) for many, values in shown),
        maxima=sum(many * max(values) for many, values in shown),
        max=max(max(values) for _, values in shown),
        instances=sum(many for many, _ in shown),
        scrapes=sum(many * len(values) for many, values in shown),
    )
