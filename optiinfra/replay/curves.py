"""How a fleet went through the scored span: replicas ready and billed, who waited, who was late; for pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from connectors.twin.fluid import DRAIN_S, LATE_AFTER_S, Outcome
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.course import Race
from optiinfra.replay.frontier import Point
from optiinfra.replay.lateness import late_each
from optiinfra.replay.oracle import SLOT_S
from optiinfra.replay.policy import Policy
from optiinfra.replay.report import ORACLE, knobs_line

MOST_POINTS = 1500
MOST_STRETCHES = 500
DEMAND_MEAN_S = 60

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """Values over time: `at_s` seconds of the trace, ascending; each value holds until the next, [points] both."""

    at_s: Values
    value: Values


@dataclass(frozen=True, eq=False)
class Curve:
    """One fleet in the scored span. `ready`, `billed` in replicas; `waiting` requests, the most of each stretch of a
    scaler; `late_ratio` the share of the requests of a stretch that are not in time. None where it is not known."""

    name: str
    note: str
    ready: Line
    billed: Line | None = None
    waiting: Line | None = None
    late_ratio: Line | None = None


@dataclass(frozen=True, eq=False)
class Staged(Outcome):
    """A run in a scene, where replicas also vanish that nobody gave up: ready and billed of each second, [seconds]."""

    ready: Values = field(kw_only=True, repr=False)
    billed: Values = field(kw_only=True, repr=False)


def demand(race: Race) -> Line:
    """Load over the capacity of a replica, means of a minute, in the scored span."""
    scored = race.scored
    arrived = race.load.per_second[scored.begin_s : scored.end_s]
    whole = arrived[: len(arrived) // DEMAND_MEAN_S * DEMAND_MEAN_S].reshape(-1, DEMAND_MEAN_S).mean(axis=1)
    at_s = scored.begin_s + np.arange(len(whole), dtype=np.float64) * DEMAND_MEAN_S
    return thinned(at_s, whole / race.capacity_rps)


def of_oracle(race: Race, startup_s: float) -> Curve:
    """The oracle has nobody waiting longer than is in time, by what it is."""
    scored = race.scored
    ready = race.plan(startup_s).ready[scored.begin_s // SLOT_S : -(-scored.end_s // SLOT_S)]
    at_s = scored.begin_s + np.arange(len(ready), dtype=np.float64) * SLOT_S
    return Curve(ORACLE, "knows the future", thinned(at_s, ready.astype(np.float64)))


def of_scaler(race: Race, policy: Policy, point: Point) -> Curve:
    """Runs the scaler once more at one operating point."""
    outcome = race.run(policy, point.knobs, point.startup_s)
    return of_outcome(race, outcome, policy.name, knobs_line(point.knobs), point.startup_s)


def of_outcome(race: Race, outcome: Outcome, name: str, note: str, startup_s: float) -> Curve:
    """A run that is over, drawn from its orders, or from what was there where that was kept (`Staged`)."""
    begin_s = len(race.load.per_second) - len(outcome.queue)
    arrived = race.load.per_second[begin_s:].astype(float)
    if isinstance(outcome, Staged):
        ready, billed = outcome.ready, outcome.billed
    else:
        ready, billed = replicas(outcome, race.first_replicas(begin_s), startup_s)
    late = late_requests(arrived, outcome.queue) if outcome.late is None else outcome.late
    scored = slice(race.scored.begin_s - begin_s, race.scored.end_s - begin_s)
    at_s = np.arange(race.scored.begin_s, race.scored.end_s, dtype=float)
    return Curve(
        name,
        note,
        thinned(at_s, ready[scored]),
        thinned(at_s, billed[scored]),
        _peaks(at_s, outcome.queue[scored]),
        _shares(at_s, late[scored], arrived[scored]),
    )


def of_account(result: PipelineResult, name: str) -> Curve:
    """The whole policy, from the moments that its account keeps; the shares are those since the moment before."""
    kept = [each for each in result.timeline if result.scored_from_s <= each.at_s <= result.end_s]
    at_s = [each.at_s for each in kept]

    def line(values: Sequence[float]) -> Line:
        return thinned(np.array(at_s, dtype=float), np.array(values, dtype=float))

    apart_s = f", seen every {at_s[1] - at_s[0]} s" if len(at_s) > 1 else ""
    return Curve(
        name,
        f"as it stands in life{apart_s}",
        line([each.serving for each in kept]),
        line([each.billed for each in kept]),
        line([each.waiting for each in kept]),
        line([each.late_ratio for each in kept]),
    )


def replicas(outcome: Outcome, initial: int, startup_s: float) -> tuple[Values, Values]:
    """Ready and billed in each second of a run, [seconds] both, from its orders: as the fluid fleet keeps them."""
    size = len(outcome.queue)
    ready, billed = np.zeros(size + 1), np.zeros(size + 1)
    ready[0] = billed[0] = initial
    starting: deque[int] = deque()

    def serves(until_s: int) -> None:
        while starting and starting[0] <= until_s:
            ready[min(size, starting.popleft())] += 1

    for at_s, by in outcome.orders:
        serves(at_s)
        if by > 0:
            starting.extend([at_s + ceil(startup_s)] * by)
            billed[at_s] += by
            continue
        billed[min(size, at_s + DRAIN_S)] += by
        for _ in range(-by):
            if starting:
                starting.pop()
            else:
                ready[at_s] -= 1
    serves(size)
    return np.cumsum(ready)[:size], np.cumsum(billed)[:size]


def late_requests(arrived: Values, queue: Values) -> Values:
    """Requests of each second that are not in time, [seconds]; `queue`: those that wait when each second ends."""
    size = len(queue)
    total, waiting = (np.concatenate(([0.0], each)) for each in (np.cumsum(arrived), queue))
    late = late_each(total, waiting, 0, size - LATE_AFTER_S + 1, LATE_AFTER_S)
    return np.concatenate((late, np.zeros(size - len(late))))


def thinned(at_s: Values, value: Values, most: int = MOST_POINTS) -> Line:
    """At most `most` points: the least and the greatest of each stretch, so that no peak is lost."""
    if len(at_s) <= most:
        return Line(at_s, value)
    kept: list[int] = []
    for part in np.array_split(np.arange(len(at_s)), most // 2):
        held = value[part]
        kept += sorted({int(part[held.argmin()]), int(part[held.argmax()])})
    return Line(at_s[kept], value[kept])


def _peaks(at_s: Values, value: Values) -> Line:
    """The greatest of each stretch."""
    firsts = _stretches(at_s)
    return Line(at_s[firsts], np.maximum.reduceat(value, firsts))


def _stretches(at_s: Values) -> NDArray[np.int64]:
    """Where stretches of about equal length begin."""
    count = min(MOST_STRETCHES, len(at_s))
    return np.arange(count, dtype=np.int64) * len(at_s) // max(1, count)


def _shares(at_s: Values, late: Values, arrived: Values) -> Line:
    """Late over arrived, of each stretch."""
    firsts = _stretches(at_s)
    came = np.add.reduceat(arrived, firsts)
    return Line(at_s[firsts], np.add.reduceat(late, firsts) / np.where(came > 0, came, 1.0))
