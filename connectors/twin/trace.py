"""Requests as they were recorded: arrivals, lengths and block hashes in arrays, as a source for a fleet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from connectors.twin.request import Request
from contracts.errors import ConfigError


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival: seconds from the start, tokens in and out, and, where they were recorded, the
    hashes of each prompt's blocks, each standing for all that comes before it too."""

    arrival_s: Sequence[float]
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    hashes: Sequence[Sequence[Hashable]] = field(default=())

    def __post_init__(self) -> None:
        """Plain numbers, whatever kind of array they came in."""
        object.__setattr__(self, "arrival_s", [float(at_s) for at_s in self.arrival_s])
        object.__setattr__(self, "prompt_tokens", [int(tokens) for tokens in self.prompt_tokens])
        object.__setattr__(self, "output_tokens", [int(tokens) for tokens in self.output_tokens])
        lengths = {len(self.arrival_s), len(self.prompt_tokens), len(self.output_tokens)}
        if len(lengths | ({len(self.hashes)} if len(self.hashes) else set())) > 1:
            raise ConfigError("columns of different lengths", where="trace", fix="Give each request one entry in each.")
        if any(later < earlier for earlier, later in zip(self.arrival_s, self.arrival_s[1:], strict=False)):
            raise ConfigError("arrivals out of order", where="trace", fix="Sort the requests by arrival.")
        if self.arrival_s and not (self.arrival_s[0] >= 0 and self.arrival_s[-1] < inf):
            raise ConfigError("arrivals outside [0, inf)", where="trace", fix="Give seconds from the trace's start.")
        if min((*self.prompt_tokens, *self.output_tokens, 1)) < 1:
            raise ConfigError("requests without tokens", where="trace", fix="Leave out those that say nothing.")

    def __len__(self) -> int:
        return len(self.arrival_s)


class TraceSource:
    """A trace as a source that begins at event time `start_ms`. Nobody gives up; request ids count from 1."""

    def __init__(self, trace: Trace, start_ms: float = 0.0) -> None:
        self.factor = 1.0
        self._trace, self._start_ms = trace, start_ms
        self._next = 0

    def arrivals(self, to_ms: float) -> Iterator[Request]:
        trace = self._trace
        while self._next < len(trace):
            at_ms = self._start_ms + trace.arrival_s[self._next] * 1000.0
            if at_ms > to_ms:
                return
            place, self._next = self._next, self._next + 1
            yield Request(
                request_id=place + 1,
                arrival_ms=at_ms,
                prompt_tokens=trace.prompt_tokens[place],
                output_tokens=trace.output_tokens[place],
                max_tokens=trace.output_tokens[place] + 1,
                patience_ms=inf,
                hashes=trace.hashes[place] if trace.hashes else (),
            )

    def rate_per_s(self, at_ms: float) -> float:
        """Requests in the second that ends then."""
        at_s = (at_ms - self._start_ms) / 1000.0
        return float(bisect_right(self._trace.arrival_s, at_s) - bisect_left(self._trace.arrival_s, at_s - 1.0))

    def set_factor(self, factor: float, at_ms: float) -> None:
        if factor != 1.0:
            raise ConfigError(
                "a recorded trace has the rate it had", where="trace", fix="Run a workload with a load to change it."
            )
