"""The live picture: a fold over what the topics say, from which view, health, report and status read."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.events import Alert, DeadLetter, Heartbeat, Message, MetricsSnapshot, Sli
from contracts.laws.attainment import Attainment
from contracts.laws.histogram import Histogram, empty, observe
from contracts.laws.quantile import quantile
from optiinfra.deeds import Deeds

LATENCY_EDGES_S = tuple(
    round(decade * step, 6) for decade in (0.001, 0.01, 0.1, 1.0, 10.0) for step in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
)
"""Edges from 1 ms to 90 s, near enough to one another that a quantile is right to a tenth."""

REMEMBERED_IDS = 20_000


class Seen:
    """The newest ids of a kind, bounded: at least once means that an event can come twice."""

    def __init__(self, limit: int = REMEMBERED_IDS) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._limit = limit

    def first_time(self, ident: str) -> bool:
        """True once per id."""
        if ident in self._ids:
            return False
        self._ids[ident] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True


@dataclass
class Subject:
    """A workload or one of its replicas: its newest window and its newest scrape."""

    window: Sli | None = None
    latest: Sli | None = None

    def take(self, sli: Sli) -> None:
        """Keep what is newest; of one window, the highest revision."""
        held = self.latest if sli.size_s == 0 else self.window
        if held is not None and (held.end_ms, held.revision) > (sli.end_ms, sli.revision):
            return
        if sli.size_s == 0:
            self.latest = sli
        else:
            self.window = sli

    @property
    def newest_ms(self) -> int:
        """Event time of the newest SLI."""
        return max((sli.end_ms for sli in (self.window, self.latest) if sli is not None), default=0)

    def value(self, name: str) -> float | None:
        """The newest value: of the last scrape if it has that SLI, else of the last window."""
        for sli in (self.latest, self.window):
            if sli is not None and (found := sli.value(name)) is not None:
                return found
        return None


@dataclass
class WorkloadView(Subject):
    """A workload, its replicas by name, its attainment so far by latency family, and when replicas were taken away, in
    event ms."""

    replicas: dict[str, Subject] = field(default_factory=dict)
    attained: dict[str, Attainment] = field(default_factory=dict)
    left_ms: dict[str, int] = field(default_factory=dict)


def _since(sli: Sli | None, left_ms: int | None) -> bool:
    """Whether an SLI is of a scrape after a replica was taken away, or it never was: it is there."""
    return left_ms is None or (sli is not None and sli.size_s == 0 and sli.end_ms > left_ms)


@dataclass(frozen=True)
class Counts:
    """What came over the topics, each id once."""

    scrapes: int = 0
    slis: int = 0
    alerts: int = 0
    dead_letters: int = 0


class LiveState:
    """Folds messages of all public topics; repeats change nothing. What was decided and done is in `deeds`.

    `window_s` is the window that people look at. `now_ms` is event time at receipt and `heard_s` the same moment on the
    monotonic clock, both arguments: this reads no clock.
    """

    def __init__(self, *, speed: float, window_s: int = 10) -> None:
        self.speed, self.window_s = speed, window_s
        self.workloads: dict[str, WorkloadView] = {}
        self.alerts: deque[Alert] = deque(maxlen=50)
        self.dead_letters: deque[DeadLetter] = deque(maxlen=50)
        self.beats: dict[str, Heartbeat] = {}
        self.beats_heard_s: dict[str, float] = {}
        self.latency: Histogram = empty(LATENCY_EDGES_S)
        self.deeds = Deeds(speed=speed, latency=empty(LATENCY_EDGES_S))
        self.counts = Counts()
        self.alerts_by_name: dict[str, int] = {}
        self.newest_sli_ms = 0
        self._seen: dict[str, Seen] = {}

    @property
    def heard_s(self) -> float | None:
        """When the newest heartbeat of any worker came in, None before the first. They share one partition, so whoever
        was not heard by then had said nothing."""
        return max(self.beats_heard_s.values(), default=None)

    def apply(self, message: Message, now_ms: int, heard_s: float = 0.0) -> None:
        """Fold in one message, received at event time `now_ms`."""
        if not self._seen.setdefault(message.TYPE, Seen()).first_time(message.id):
            return
        counts = self.counts
        if isinstance(message, Sli):
            self.counts = Counts(counts.scrapes, counts.slis + 1, counts.alerts, counts.dead_letters)
            self._sli(message, now_ms)
        elif isinstance(message, MetricsSnapshot):
            self.counts = Counts(counts.scrapes + 1, counts.slis, counts.alerts, counts.dead_letters)
            if message.left:
                self._left(message)
        elif isinstance(message, Alert):
            self.counts = Counts(counts.scrapes, counts.slis, counts.alerts + 1, counts.dead_letters)
            self.alerts_by_name[message.name] = self.alerts_by_name.get(message.name, 0) + 1
            self.alerts.append(message)
        elif isinstance(message, DeadLetter):
            self.counts = Counts(counts.scrapes, counts.slis, counts.alerts, counts.dead_letters + 1)
            self.dead_letters.append(message)
        elif isinstance(message, Heartbeat):
            self.beats[message.worker] = message  # in log order, which a step of the worker's clock does not change
            self.beats_heard_s[message.worker] = heard_s
        else:
            self.deeds.apply(message)

    def _left(self, last: MetricsSnapshot) -> None:
        """Without a replica that was taken away; what is still told of its last windows does not bring it back."""
        workload = self.workloads.setdefault(last.workload, WorkloadView())
        workload.left_ms[last.instance_id] = last.scraped_at_ms
        seen = workload.replicas.get(last.instance_id)
        if seen is not None and not _since(seen.latest, last.scraped_at_ms):
            del workload.replicas[last.instance_id]

    def scrape_seen(self, ident: str) -> None:
        """Count a scrape by its id alone: nobody here needs what is in it."""
        if self._seen.setdefault(MetricsSnapshot.TYPE, Seen()).first_time(ident):
            counts = self.counts
            self.counts = Counts(counts.scrapes + 1, counts.slis, counts.alerts, counts.dead_letters)

    def _sli(self, sli: Sli, now_ms: int) -> None:
        self.newest_sli_ms = max(self.newest_sli_ms, sli.end_ms)
        workload = self.workloads.setdefault(sli.workload, WorkloadView())
        if sli.size_s > 0 and sli.revision == 0:
            self.latency = observe(self.latency, (max(0.0, (now_ms - sli.cause_ms) / self.speed / 1000),))
        if sli.size_s not in (0, self.window_s):
            return
        if sli.instance_id is not None:
            if not _since(sli, workload.left_ms.get(sli.instance_id)) and sli.instance_id not in workload.replicas:
                return
            workload.replicas.setdefault(sli.instance_id, Subject()).take(sli)
            return
        workload.take(sli)
        if sli.size_s and sli.revision == 0:
            for family, attained in sli.attainment.items():
                before = workload.attained.get(family, Attainment(good=0, total=0))
                workload.attained[family] = before + attained

    def latency_s(self) -> Mapping[str, float | None]:
        """From the scrape to the SLI (first revisions of windows), and to the first step of the action that it caused:
        p50 and p99 in wall seconds, None before the first."""
        return {
            "scrape_to_sli_p50": quantile(self.latency, 0.5),
            "scrape_to_sli_p99": quantile(self.latency, 0.99),
            "scrape_to_action_p50": quantile(self.deeds.begun, 0.5),
            "scrape_to_action_p99": quantile(self.deeds.begun, 0.99),
        }
