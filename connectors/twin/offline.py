"""The twin without a clock: a recorded hour of requests through simulated replicas, as fast as it can be computed.

It is the fleet and the engine that answer behind HTTP, driven by a trace: what the live twin would have done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from connectors.twin.fleet import Fleet, Phase, WorkloadSpec
from connectors.twin.load import LoadSpec
from connectors.twin.request import Request
from connectors.twin.request import Sequence as Held
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace, TraceSource
from contracts.errors import ConfigError
from contracts.scaling import LoadSeen, Scaler

Array = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]

_NAME = "trace"


@dataclass(frozen=True)
class Loss:
    """A spot loss: at `at_s` the newest `replicas` that serve are given notice, and are gone `notice_s` later."""

    at_s: float
    replicas: int = 1
    notice_s: float = 0.0


@dataclass(frozen=True)
class Moment:
    """How many replicas there were at a look of the scaler."""

    at_s: float
    ready: int
    starting: int
    draining: int


@dataclass(frozen=True)
class Served:
    """What became of each request, in the order of the trace.

    Times in seconds, NaN for a request that was not served: `ttft_s` from arrival to first token, `itl_s` the mean
    interval between tokens (NaN for a single one), `queue_s` in front of the batch, `e2e_s` in all. `endings` are
    `stop` (served), `lost` (with its replica), `unserved` (no replica was ready) and `refused` (too long).
    `replica_s` is what is billed: from the order of each replica until it was taken away or, drained, had ended its
    last request; `held_s` are these spans, one for each replica, in seconds of the trace.
    """

    ttft_s: Array
    itl_s: Array
    queue_s: Array
    e2e_s: Array
    preemptions: Counts
    prefix_hit_tokens: Counts
    endings: tuple[str, ...]
    replica_s: float
    end_s: float
    moments: tuple[Moment, ...]
    held_s: tuple[tuple[float, float], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Requests by ending."""
        return dict(Counter(self.endings))

    def mean_interval_s(self, output_tokens: Sequence[int]) -> float:
        """The mean of all intervals between tokens, those of long answers counting as often as they are."""
        gaps = np.maximum(np.asarray(output_tokens, dtype=np.float64) - 1, 0)
        known = ~np.isnan(self.itl_s)
        return float(np.sum(self.itl_s[known] * gaps[known]) / max(1.0, float(np.sum(gaps[known]))))


class _Book:
    """Told of every request; keeps what became of it."""

    def __init__(self, requests: int) -> None:
        self.rows: list[tuple[float, float, float, float, int, int]] = [(nan, nan, nan, nan, 0, 0)] * requests
        self.endings = [""] * requests
        self.last_end_ms = 0.0
        self._silent: dict[int, Held] = {}

    def began(self, sequence: Held, at_ms: float) -> None:
        self._silent[sequence.request.request_id] = sequence

    def first_tokens_s(self) -> list[float]:
        """The times to first token of those who got it since the last call."""
        spoke = [each for each in self._silent.values() if each.first_token_ms >= 0]
        for each in spoke:
            del self._silent[each.request.request_id]
        return [(each.first_token_ms - each.submitted_ms) / 1000.0 for each in spoke]

    def turned_away(self, request: Request, reason: str) -> None:
        self.endings[request.request_id - 1] = reason

    def ended(self, sequence: Held, reason: str, at_ms: float) -> None:
        request, place = sequence.request, sequence.request.request_id - 1
        self.endings[place] = reason
        self.last_end_ms = max(self.last_end_ms, at_ms)
        if reason != "stop":
            self._silent.pop(request.request_id, None)
        else:
            said_ms, gaps = at_ms - sequence.first_token_ms, request.output_tokens - 1
            self.rows[place] = (
                (sequence.first_token_ms - sequence.submitted_ms) / 1000.0,
                said_ms / gaps / 1000.0 if gaps else nan,
                (sequence.scheduled_ms - sequence.submitted_ms) / 1000.0,
                (at_ms - sequence.submitted_ms) / 1000.0,
                sequence.preemptions,
                sequence.cached,
            )


class _Run:
    """One trace through one fleet, from look to look."""

    def __init__(self, trace: Trace, engine: EngineSpec, replicas: int, startup_s: float, late_after_s: float) -> None:
        self.book, self._late_after_s = _Book(len(trace)), late_after_s
        workload = WorkloadSpec(_NAME, _NAME, replicas, LoadSpec(1.0), engine, startup_s=startup_s)
        source = TraceSource(trace)
        self.fleet = Fleet((workload,), seed=0, start_ms=0, sources={_NAME: source}, watch=self.book)
        self.moments: list[Moment] = []
        self._arrivals = np.bincount(np.asarray(trace.arrival_s, dtype=np.float64).astype(np.int64)).tolist()
        self._ordered_s = dict.fromkeys(self.fleet.replicas, 0.0)
        self._ended_s: dict[str, float] = {}
        self._let_go_s: dict[str, float] = {}
        self._looked_s = 0

    def advance(self, to_s: float) -> None:
        """Go on to `to_s`, and give up the replicas that have ended what they had."""
        self.fleet.advance(to_s * 1000.0)
        for replica in list(self.fleet.members(_NAME)):
            if replica.drained and replica.engine is not None:
                name, ended_s = replica.replica_id, replica.engine.last_end_ms / 1000.0
                self._ended_s[name] = max(self._ended_s[name], ended_s)
                self.fleet.remove(name)

    def look(self, scaler: Scaler, now_s: int) -> None:
        """Ask the scaler, and do what it says."""
        members = self.fleet.members(_NAME)
        phases = Counter(each.phase for each in members)
        ready, starting = phases[Phase.READY], phases[Phase.STARTING]
        self.moments.append(Moment(now_s, ready, starting, phases[Phase.DRAINING]))
        engines = [each.engine for each in members if each.engine is not None]
        seconds = range(self._looked_s, now_s)
        ttft_s = self.book.first_tokens_s()
        seen = LoadSeen(
            now_s=now_s,
            arrived=[self._arrivals[at_s] if at_s < len(self._arrivals) else 0 for at_s in seconds],
            waiting=float(sum(engine.waiting for engine in engines)),
            running=float(sum(engine.running for engine in engines)),
            ready=ready,
            starting=starting,
            done=float(len(ttft_s)),
            late=float(sum(each_s > self._late_after_s for each_s in ttft_s)),
        )
        self._looked_s = now_s
        self._scale(scaler.decide(seen) - ready - starting, now_s)

    def _scale(self, more: int, now_s: int) -> None:
        for _ in range(more):
            self._ordered_s[self.fleet.add_replica(_NAME).replica_id] = float(now_s)
        members = self.fleet.members(_NAME)
        starting = [each for each in members if each.phase is Phase.STARTING]
        serving = [each for each in members if each.phase is Phase.READY and each.engine is not None]
        serving.sort(key=lambda each: each.engine.outstanding if each.engine else 0)
        for replica in [*reversed(starting), *serving][: max(0, -more)]:
            self._ended_s[replica.replica_id] = self._let_go_s[replica.replica_id] = float(now_s)
            if replica.listens:
                self.fleet.drain(replica.replica_id)
            else:
                self.fleet.remove(replica.replica_id)

    def lose(self, loss: Loss) -> None:
        """Take the newest replicas that serve."""
        serving = [each for each in self.fleet.members(_NAME) if each.phase is Phase.READY]
        for replica in serving[len(serving) - min(loss.replicas, len(serving)) :]:
            self._ended_s[replica.replica_id] = loss.at_s
            self.fleet.lose(replica.replica_id, loss.notice_s)

    def held_s(self, end_s: float, drain_s: float) -> Iterator[tuple[float, float]]:
        """From when to when each replica is billed, up to the end of the run."""
        for name, ordered_s in self._ordered_s.items():
            lost_ms, until_s = self.fleet.replicas[name].lost_at_ms, self._ended_s.get(name, end_s)
            if lost_ms is not None:
                until_s = lost_ms / 1000.0
            elif name in self._let_go_s:
                until_s = max(until_s, self._let_go_s[name] + drain_s)
            yield min(end_s, ordered_s), min(end_s, until_s)

    @property
    def busy(self) -> bool:
        """Somebody still waits for an answer."""
        return any(each.engine is not None and each.engine.outstanding for each in self.fleet.members(_NAME))


def simulate(
    trace: Trace,
    engine: EngineSpec,
    *,
    replicas: int,
    startup_s: float | None = None,
    scaler: Scaler | None = None,
    decide_s: int = 15,
    late_after_s: float = 2.0,
    drain_s: float = 0.0,
    losses: Sequence[Loss] = (),
) -> Served:
    """Send a trace to `replicas` that stand ready, each request to the one with the fewest outstanding.

    With a scaler their number follows what it says every `decide_s`; a new one serves `startup_s` later, by default
    when its profile has loaded its weights, and one too many is drained, and billed for no less than `drain_s`. What
    the scaler is told of as done and late are first tokens, late ones those after `late_after_s`. The same arguments
    give the same bytes.
    """
    if replicas < 1 or decide_s < 1:
        raise ConfigError(
            f"{replicas} replicas, a look every {decide_s} s", where="simulate", fix="Give at least one of each."
        )
    if startup_s is None:
        startup_s = engine.profile.startup_s()
    run = _Run(trace, engine, replicas, startup_s, late_after_s)
    last_s = trace.arrival_s[-1] if len(trace) else 0.0
    left = sorted(losses, key=lambda loss: loss.at_s, reverse=True)
    now_s = 0
    while scaler is not None and (now_s <= last_s or run.busy):
        _lose_until(run, left, now_s)
        run.advance(now_s)
        run.look(scaler, now_s)
        now_s += decide_s
    _lose_until(run, left, inf)
    run.advance(max(last_s, run.fleet.now_ms / 1000.0))
    while run.busy:
        run.advance(run.fleet.now_ms / 1000.0 + 60.0)
    return _served(run, last_s, drain_s)


def _lose_until(run: _Run, left: list[Loss], to_s: float) -> None:
    while left and left[-1].at_s <= to_s:
        loss = left.pop()
        run.advance(loss.at_s)
        run.lose(loss)


def _served(run: _Run, last_s: float, drain_s: float) -> Served:
    book = run.book
    end_s = max(last_s, book.last_end_ms / 1000.0)
    held_s = tuple(run.held_s(end_s, drain_s))
    columns = np.ascontiguousarray(np.array(book.rows, dtype=np.float64).reshape(-1, 6).T)
    return Served(
        ttft_s=columns[0],
        itl_s=columns[1],
        queue_s=columns[2],
        e2e_s=columns[3],
        preemptions=columns[4].astype(np.int64),
        prefix_hit_tokens=columns[5].astype(np.int64),
        endings=tuple(book.endings),
        replica_s=sum(until_s - from_s for from_s, until_s in held_s),
        end_s=end_s,
        moments=tuple(run.moments),
        held_s=held_s,
    )
