"""A trace through replicas that may differ, each request to the one that a router names: what routing is worth.

The engines are those of the twin; only the router is another than its fleet's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from connectors.twin.engine import Engine
from connectors.twin.request import Request
from connectors.twin.request import Sequence as Held
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace, TraceSource

Seconds = NDArray[np.float64]

Router = Callable[[int, Sequence[int]], int]
"""From the tokens of a prompt and the requests outstanding at each replica to the replica that takes it."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Of each request in the order of the trace: seconds to its first token, the mean interval between its tokens (NaN
    for a single one), seconds in all and of those in the queue, and which replica took it. NaN and -1 for one that is
    too long for its replica."""

    ttft_s: Seconds
    itl_s: Seconds
    e2e_s: Seconds
    queue_s: Seconds
    replica: NDArray[np.int64]

    def in_time(self, ttft_s: float, itl_s: float) -> NDArray[np.bool_]:
        """Which requests met both limits: [requests]."""
        met: NDArray[np.bool_] = (self.ttft_s <= ttft_s) & ~(self.itl_s > itl_s)
        return met


class _Book:
    """Told of every request; keeps its times."""

    def __init__(self, requests: int) -> None:
        self.rows = [(nan, nan, nan, nan)] * requests

    def began(self, sequence: Held, at_ms: float) -> None:
        """Not kept."""

    def turned_away(self, request: Request, reason: str) -> None:
        """Not kept."""

    def ended(self, sequence: Held, reason: str, at_ms: float) -> None:
        request, gaps = sequence.request, sequence.request.output_tokens - 1
        self.rows[request.request_id - 1] = (
            (sequence.first_token_ms - sequence.submitted_ms) / 1000.0,
            (at_ms - sequence.first_token_ms) / gaps / 1000.0 if gaps else nan,
            (at_ms - sequence.submitted_ms) / 1000.0,
            (sequence.scheduled_ms - sequence.submitted_ms) / 1000.0,
        )


def serve(trace: Trace, replicas: Sequence[EngineSpec], route: Router) -> Answered:
    """Send each request where `route` says. The same arguments give the same bytes, if `route` does."""
    book = _Book(len(trace))
    engines = [Engine(spec, book) for spec in replicas]
    taken = np.full(len(trace), -1, dtype=np.int64)
    for request in TraceSource(trace).arrivals(inf):
        for engine in engines:
            engine.advance(request.arrival_ms)
        place = route(request.prompt_tokens, [engine.outstanding for engine in engines])
        if engines[place].submit(request):
            taken[request.request_id - 1] = place
    end_ms = trace.arrival_s[-1] * 1000.0 if len(trace) else 0.0
    while any(engine.outstanding for engine in engines):
        end_ms += 60_000.0
        for engine in engines:
            engine.advance(end_ms)
    columns = np.ascontiguousarray(np.array(book.rows, dtype=np.float64).reshape(-1, 4).T)
    return Answered(columns[0], columns[1], columns[2], columns[3], taken)


def fewest(_: int, outstanding: Sequence[int]) -> int:
    """The replica with the fewest outstanding; the first of several."""
    return min(range(len(outstanding)), key=outstanding.__getitem__)
