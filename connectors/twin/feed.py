"""A recorded trace as the live load of a workload: over and over, as fast as is asked, on the clock's event time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

from connectors.twin.request import Request
from connectors.twin.trace import Trace
from contracts.errors import ConfigError


@dataclass(frozen=True)
class Feed:
    """`trace`, which begins anew in the second after its last request; `speed`: seconds of it in an event second. A
    client without a first token after `patience_s` gives up."""

    trace: Trace
    speed: float = 1.0
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        if not len(self.trace) or not self.speed > 0:
            raise ConfigError(
                f"{len(self.trace)} requests at {self.speed:g} times their speed",
                where="feed",
                fix="Name a trace with requests, and a speed above 0.",
            )

    @property
    def length_s(self) -> float:
        """Seconds of the trace until it begins anew."""
        return floor(self.trace.arrival_s[-1]) + 1.0


class FeedSource:
    """A feed that began at event time `origin_ms`, from `start_ms` on: started again, it is where it would have been.
    Request ids count from 1 at the origin."""

    def __init__(self, feed: Feed, start_ms: float, origin_ms: float) -> None:
        self.factor = 1.0
        self._feed, self._origin_ms = feed, origin_ms
        self._turn, passed_s = self._place(start_ms)
        self._next = bisect_left(feed.trace.arrival_s, passed_s)

    def arrivals(self, to_ms: float) -> Iterator[Request]:
        """The requests that arrive after the last call and by `to_ms`."""
        feed, trace = self._feed, self._feed.trace
        while True:
            if self._next == len(trace):
                self._turn, self._next = self._turn + 1, 0
            place = self._next
            passed_s = self._turn * feed.length_s + trace.arrival_s[place]
            at_ms = self._origin_ms + passed_s / feed.speed * 1000.0
            if at_ms > to_ms:
                return
            self._next = place + 1
            yield Request(
                request_id=self._turn * len(trace) + place + 1,
                arrival_ms=at_ms,
                prompt_tokens=trace.prompt_tokens[place],
                output_tokens=trace.output_tokens[place],
                max_tokens=trace.output_tokens[place] + 1,
                patience_ms=feed.patience_s * 1000.0,
                hashes=trace.hashes[place] if trace.hashes else (),
            )

    def rate_per_s(self, at_ms: float) -> float:
        """Requests in the event second that ends then."""
        return float(self._before(at_ms) - self._before(at_ms - 1000.0))

    def set_factor(self, factor: float, at_ms: float) -> None:
        """Refused: the requests are given. Raises ConfigError."""
        if factor != 1.0:
            raise ConfigError(
                "a recorded trace has the rate it had", where="feed", fix="Set the workload's speed instead."
            )

    def _before(self, at_ms: float) -> int:
        """Requests from the origin until then."""
        turn, passed_s = self._place(at_ms)
        trace = self._feed.trace
        return turn * len(trace) + bisect_right(trace.arrival_s, passed_s)

    def _place(self, at_ms: float) -> tuple[int, float]:
        """Turns of the trace since the origin, and seconds into the present one."""
        passed_s = max(0.0, (at_ms - self._origin_ms) / 1000.0 * self._feed.speed)
        turn, rest_s = divmod(passed_s, self._feed.length_s)
        return int(turn), rest_s
