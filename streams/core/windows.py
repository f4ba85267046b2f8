"""Stage `windows`: the scrapes of one instance become additive evidence for tumbling windows of every size.

A window `(start, end]` sums the pairs of neighbouring scrapes whose later one lies in it. That is the newest scrape at
or before its end minus the newest at or before its start, and stays right when a counter begins anew in between. It is
final for the instance as soon as a scrape after its end is read: no grace is needed here, and no clock.

Scrapes are ordered by `(scraper_epoch, seq)`. When event time steps back with a new epoch (a scraper restarted on a
corrected clock), the pair across the step is dropped, and windows that are reached again carry the number of steps
back as their revision. A metric that one scrape lacks keeps its last value until it is told again.

An instance that leaves closes all its windows there and then. What orders it is kept for a while: a scrape of before
its departure changes nothing, and when it comes back, windows that it reaches again are revisions of those closed.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from contracts.events import EngineSample, GaugeStats, InstanceWindow, Message, MetricsSnapshot, Tick
from streams.core.evidence import Growth, add, carried, continuous, growth, has_work, instance_gauges

SIZES_S = (10, 60, 300)
TRUSTED_INTERVALS = 3.0
"""Two scrapes further apart than this many planned intervals leave the time between them uncovered."""
FORGET_AFTER_S = 3600
"""An instance that was not scraped, nor tried, for so long is gone and its state with it."""


class GaugeSum(BaseModel):
    """A gauge over the scrapes of a window so far."""

    model_config = ConfigDict(frozen=True)

    sum: float
    max: float
    last: float
    n: int

    def plus(self, value: float) -> GaugeSum:
        return GaugeSum.model_construct(sum=self.sum + value, max=max(self.max, value), last=value, n=self.n + 1)


class OpenWindow(BaseModel):
    """A window that may still grow: what grew up to `base`, and since then the difference to the last scrape.

    `base` moves only where growth is not one subtraction: at a restart, a clock step, an engine come or gone.
    """

    model_config = ConfigDict(frozen=True)

    start_ms: int
    covered_ms: int = 0
    span_ms: int = 0
    newest_ms: int = 0
    scrapes: int = 0
    scrapes_failed: int = 0
    idle_scrapes: int = 0
    carried: Growth = Growth()
    base: dict[str, EngineSample] = {}
    gauges: dict[str, GaugeSum] = {}


class InstanceState(BaseModel):
    """Per instance: what orders it, the last readable scrape, the open window of each size, and how far it closed.
    `steps_back` counts what can make it reach a window again: steps back of the clock, and departures."""

    model_config = ConfigDict(frozen=True)

    order: tuple[int, int]
    clock_ms: int
    steps_back: int = 0
    last_ms: int | None = None
    incarnation_ms: int | None = None
    engines: dict[str, EngineSample] = {}
    open: dict[int, OpenWindow] = {}
    closed_to_ms: dict[int, int] = {}


def window_start_ms(at_ms: int, size_s: int) -> int:
    """Start of the epoch-aligned window `(start, start + size]` that holds `at_ms`.

    >>> window_start_ms(10_000, 10), window_start_ms(10_001, 10)
    (0, 10000)
    """
    size_ms = size_s * 1000
    return (at_ms - 1) // size_ms * size_ms


def _closed(state: InstanceState, window: OpenWindow, size_s: int, cause: MetricsSnapshot) -> InstanceWindow:
    made = add(window.carried, growth(window.base, state.engines, restarted=False))
    tokens = made.counters.get("generation_tokens")
    first_tokens = made.histograms["ttft_s"].count if "ttft_s" in made.histograms else 0
    reached_again = window.start_ms < state.closed_to_ms.get(size_s, window.start_ms)
    left = cause.left and window.start_ms == window_start_ms(cause.scraped_at_ms, size_s)
    return InstanceWindow(
        workload=cause.workload,
        instance_id=cause.instance_id,
        size_s=size_s,
        start_ms=window.start_ms,
        revision=state.steps_back if reached_again else 0,
        covered_ms=min(window.covered_ms, size_s * 1000),
        span_ms=window.span_ms,
        newest_ms=window.newest_ms,
        cause_ms=cause.scraped_at_ms,
        scrapes=window.scrapes,
        scrapes_failed=window.scrapes_failed,
        resets=made.resets,
        # Work at every scrape over a measured span, and neither a first nor a further token: stuck, not idle. Where
        # the page does not tell tokens, nobody knows: not stuck.
        stalled=window.span_ms > 0 and window.idle_scrapes == 0 and tokens == 0 and first_tokens == 0,
        left=left,
        counters=made.counters,
        histograms=made.histograms,
        gauges={
            name: GaugeStats(mean=gauge.sum / gauge.n, max=gauge.max, last=gauge.last)
            for name, gauge in window.gauges.items()
        },
    )


def _grown(window: OpenWindow, snapshot: MetricsSnapshot, pair: tuple[int, int] | None, covered_ms: int) -> OpenWindow:
    """The window with one more scrape in it; `pair` is the time from the scrape before, None where there is none."""
    if not snapshot.up:
        return window.model_copy(update={"scrapes_failed": window.scrapes_failed + 1})
    values = instance_gauges(snapshot.engines)
    gauges = dict(window.gauges)
    for name, value in values.items():
        seen = gauges.get(name)
        gauges[name] = seen.plus(value) if seen else GaugeSum(sum=value, max=value, last=value, n=1)
    return window.model_copy(
        update={
            "covered_ms": window.covered_ms + covered_ms,
            "span_ms": window.span_ms + (pair[1] - pair[0] if pair else 0),
            "newest_ms": snapshot.scraped_at_ms,
            "scrapes": window.scrapes + 1,
            "idle_scrapes": window.idle_scrapes + (0 if has_work(values) else 1),
            "gauges": gauges,
        }
    )


class _Link:
    """How a new scrape joins the last readable one: the pair of times, whether it is trusted, what broke in between."""

    def __init__(self, state: InstanceState, snapshot: MetricsSnapshot) -> None:
        at_ms, last_ms = snapshot.scraped_at_ms, state.last_ms
        self.stepped_back = at_ms < state.clock_ms
        joins = snapshot.up and last_ms is not None and at_ms >= last_ms and not self.stepped_back
        self.pair = (last_ms, at_ms) if joins and last_ms is not None else None
        self.trusted = self.pair is not None and at_ms - self.pair[0] <= TRUSTED_INTERVALS * snapshot.interval_s * 1000
        starts = (state.incarnation_ms, snapshot.incarnation_ms)
        restarted = None not in starts and starts[0] != starts[1]
        keeps = snapshot.up and self.pair is not None and not restarted
        self.engines = carried(state.engines, snapshot.engines) if keeps else dict(snapshot.engines)
        self.breaks = snapshot.up and (self.pair is None or restarted or not continuous(state.engines, self.engines))
        bridged = self.breaks and self.pair is not None
        self.across = growth(state.engines, self.engines, restarted=restarted) if bridged else Growth()

    def covered_ms(self, window: OpenWindow, size_s: int) -> int:
        """How much of the window this pair covers."""
        if self.pair is None or not self.trusted:
            return 0
        end_ms = window.start_ms + size_s * 1000
        return max(0, min(self.pair[1], end_ms) - max(self.pair[0], window.start_ms))


def advance(
    state: InstanceState | None, message: Message, sizes_s: tuple[int, ...] = SIZES_S
) -> tuple[InstanceState | None, list[Message]]:
    """Fold one scrape (or tick) into the state of its instance; returns the windows that it closed, shortest first."""
    if isinstance(message, Tick):
        gone = state is not None and message.at_ms - state.clock_ms > FORGET_AFTER_S * 1000
        return (None if gone else state), []
    assert isinstance(message, MetricsSnapshot)  # noqa: S101 — the topic table admits nothing else
    if state is None:
        state = InstanceState(order=message.order, clock_ms=message.scraped_at_ms)
    elif message.order <= state.order:
        return state, []
    if message.scraper_epoch == state.order[0] and message.scraped_at_ms < state.clock_ms:
        # The life of one scraper has one monotonic clock: an earlier time is a note written late, not a step.
        message = message.model_copy(update={"scraped_at_ms": state.clock_ms})
    if message.left and not state.open:  # nobody was here, or it has left before
        return state.model_copy(update={"order": message.order, "clock_ms": message.scraped_at_ms}), []
    link = _Link(state, message)
    outputs: list[Message] = []
    windows: dict[int, OpenWindow] = {}
    closed_to = dict(state.closed_to_ms)
    for size_s in sizes_s:
        made = size_s >= 2 * message.interval_s  # a window must be able to hold two scrapes
        start_ms = window_start_ms(message.scraped_at_ms, size_s)
        window = state.open.get(size_s)
        if window is not None and (window.start_ms != start_ms or not made):
            covered_ms = window.covered_ms + link.covered_ms(window, size_s)
            outputs.append(_closed(state, window.model_copy(update={"covered_ms": covered_ms}), size_s, message))
            closed_to[size_s] = max(closed_to.get(size_s, 0), window.start_ms + size_s * 1000)
            window = None
        if not made:
            continue
        window = window or OpenWindow(start_ms=start_ms, newest_ms=state.last_ms or 0, base=state.engines)
        if link.breaks:
            up_to_now = add(window.carried, growth(window.base, state.engines, restarted=False), link.across)
            window = window.model_copy(update={"carried": up_to_now, "base": link.engines})
        grown = _grown(window, message, link.pair, link.covered_ms(window, size_s))
        windows[size_s] = window if message.left else grown

    seen: dict[str, object] = {}
    if message.up:
        seen = {"last_ms": message.scraped_at_ms, "incarnation_ms": message.incarnation_ms, "engines": link.engines}
    elif link.stepped_back:
        seen = {"last_ms": None}
    state = state.model_copy(
        update={
            "order": message.order,
            "clock_ms": message.scraped_at_ms,
            "steps_back": state.steps_back + int(link.stepped_back),
            "open": windows,
            "closed_to_ms": closed_to,
            **seen,
        }
    )
    if message.left:
        state, last = _ended(state, message)
        outputs += last
    return state, outputs


def _ended(state: InstanceState, departure: MetricsSnapshot) -> tuple[InstanceState, list[Message]]:
    """Close what is open at a departure; what remains of the state tells older scrapes and a return apart."""
    outputs: list[Message] = [_closed(state, window, size_s, departure) for size_s, window in state.open.items()]
    closed_to = dict(state.closed_to_ms)
    for size_s, window in state.open.items():
        closed_to[size_s] = max(closed_to.get(size_s, 0), window.start_ms + size_s * 1000)
    return InstanceState(
        order=state.order, clock_ms=state.clock_ms, steps_back=state.steps_back + 1, closed_to_ms=closed_to
    ), outputs


Advance = Callable[[InstanceState | None, Message], tuple[InstanceState | None, list[Message]]]


def windows_advance(sizes_s: tuple[int, ...]) -> Advance:
    """The fold for chosen window sizes, seconds."""
    return lambda state, message: advance(state, message, sizes_s)
