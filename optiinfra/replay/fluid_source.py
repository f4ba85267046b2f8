"""What scrapes of the simulated fleet would say: a page of each replica, or the SLIs that those pages come to.

Both speak of the same looks. Requests that wait or run are shared out evenly among the replicas that answer, and what
began service between two looks among those that answered both, as counters of new replicas have no beginning yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import floor
from typing import NamedTuple, Protocol

from contracts.events import EngineSample, Message, MetricsSnapshot
from contracts.laws.histogram import Histogram
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene

TTFT = "ttft_s"
FINISHED = "requests_finished"
ENGINE = "0"
TRUSTED_INTERVALS = 3.0
"""As stage `windows` has it: looks further apart than so many intervals leave the time between them uncovered."""

_ROUNDING = 1e-6


class Look(NamedTuple):
    """One look at the fleet at `at_ms`. `waiting` and `running` are of the whole fleet, None where nothing answered.

    `both` answered this look and the one before that was answered, at `since_ms`; `grown` is what began service in
    between by bucket of its time to first token, cumulative over buckets, with the sum of those times and the requests
    that finished. `left` answered before and is not there any more.
    """

    number: int
    at_ms: int
    names: tuple[str, ...]
    left: tuple[str, ...]
    both: tuple[str, ...]
    since_ms: int | None
    waiting: float | None
    running: float | None
    grown: tuple[int, ...]
    grown_sum_s: float
    finished: int

    @property
    def up(self) -> bool:
        return self.waiting is not None

    def finished_by(self, names: frozenset[str]) -> int:
        """How many of the requests that finished were of these replicas, which are among `both`."""
        if len(names) == len(self.both):
            return self.finished
        # The first `rest` of them have one more than the others, as `_share` has it.
        whole, rest = divmod(self.finished, len(self.both))
        return whole * len(names) + sum(name in names for name in self.both[:rest])


class Telling(Protocol):
    """Turns looks into messages."""

    def tell(self, look: Look) -> list[Message]: ...


class Eye:
    """Looks at a scene every `scrape_s`, and knows what it saw last."""

    def __init__(self, scene: Scene, options: PipelineOptions) -> None:
        self._scene, self._options = scene, options
        self._number = 0
        self._names: tuple[str, ...] = ()
        self._answering: tuple[int, tuple[str, ...], frozenset[str]] = (-1, (), frozenset())
        self._up_names: frozenset[str] = frozenset()
        self._up_ms: int | None = None
        self._counts: tuple[int, ...] = (0,) * len(scene.buckets)
        self._sum_s = 0.0
        self._finished = 0

    def look(self) -> Look:
        """The fleet as it is now."""
        scene, options = self._scene, self._options
        names, there = self._there()
        up = not any(each.begin_s <= scene.now_s < each.end_s for each in options.outages) and bool(names)
        counts, sum_s, finished = self._counts, self._sum_s, self._finished
        both: tuple[str, ...] = ()
        if up:
            counts = tuple([floor(each + _ROUNDING) for each in accumulate(scene.buckets)])
            sum_s, finished = scene.ttft_sum_s, floor(scene.finished + _ROUNDING)
            if self._up_names:
                both = (
                    names
                    if there is self._up_names or there == self._up_names
                    else tuple(name for name in names if name in self._up_names)
                )
        look = Look(
            number=self._number,
            at_ms=options.begin_ms + scene.now_s * 1000,
            names=names,
            left=() if names == self._names else tuple(name for name in self._names if name not in there),
            both=both,
            since_ms=self._up_ms if both else None,
            waiting=scene.waiting if up else None,
            running=scene.running if up else None,
            grown=tuple(map(int.__sub__, counts, self._counts)),
            grown_sum_s=sum_s - self._sum_s,
            finished=finished - self._finished,
        )
        self._number += 1
        self._names = names
        if up:
            self._up_names, self._up_ms = there, look.at_ms
            self._counts, self._sum_s, self._finished = counts, sum_s, finished
        return look

    def _there(self) -> tuple[tuple[str, ...], frozenset[str]]:
        """Who answers, worked out anew when a replica came, went or drains."""
        known, names, there = self._answering
        if known != self._scene.changes:
            names = self._scene.names(Phase.SERVING, Phase.DRAINING)
            there = frozenset(names)
            self._answering = (self._scene.changes, names, there)
        return names, there


@dataclass
class _Page:
    """What one replica has counted since its start."""

    counts: list[int]
    sum_s: float = 0.0
    finished: int = 0


class Pages:
    """A page of each replica at every look, as a connector would write it on topic `metrics`. The newest replica comes
    first: a window that others report before anybody knows of it would be told without it, and then once more."""

    def __init__(self, options: PipelineOptions) -> None:
        self._options = options
        self._pages: dict[str, _Page] = {}

    def tell(self, look: Look) -> list[Message]:
        self._grow(look)
        share = 1.0 / len(look.names) if look.names else 0.0
        told: list[Message] = [self._left(name, look) for name in look.left]
        for name in reversed(look.names):
            engines: dict[str, EngineSample] = {}
            if look.waiting is not None and look.running is not None:
                gauges = {"requests_waiting": look.waiting * share, "requests_running": look.running * share}
                engines[ENGINE] = self._engine(self._page(name), gauges)
            told.append(self._snapshot(name, look, engines))
        return told

    def _page(self, name: str) -> _Page:
        return self._pages.setdefault(name, _Page([0] * (len(self._options.ttft_edges_s) + 1)))

    def _grow(self, look: Look) -> None:
        many = len(look.both)
        for place, name in enumerate(look.both):
            page = self._page(name)
            shares = (_share(new, many, place) for new in look.grown)
            page.counts = [old + new for old, new in zip(page.counts, shares, strict=True)]
            page.sum_s += look.grown_sum_s / many
            page.finished += _share(look.finished, many, place)

    def _engine(self, page: _Page, gauges: dict[str, float]) -> EngineSample:
        ttft = Histogram(le=self._options.ttft_edges_s, counts=tuple(page.counts), sum=page.sum_s)
        counters = {FINISHED: float(page.finished)}
        return EngineSample(
            model_name=self._options.workload, gauges=gauges, counters=counters, histograms={TTFT: ttft}
        )

    def _snapshot(self, name: str, look: Look, engines: dict[str, EngineSample]) -> MetricsSnapshot:
        return MetricsSnapshot(
            workload=self._options.workload,
            instance_id=name,
            scraper_epoch=1,
            seq=look.number,
            scheduled_at_ms=look.at_ms,
            scraped_at_ms=look.at_ms,
            interval_s=self._options.scrape_s,
            up=look.up,
            error=None if look.up else "an outage of the replay",
            engines=engines,
        )

    def _left(self, name: str, look: Look) -> MetricsSnapshot:
        self._pages.pop(name, None)
        gone = {"up": False, "left": True, "error": "left discovery", "engines": {}}
        return self._snapshot(name, look, {}).model_copy(update=gone)


def _share(count: int, many: int, place: int) -> int:
    """The part of `count` that goes to number `place` of `many`: whole, and never smaller for a larger count."""
    return count // many + (place < count % many)
