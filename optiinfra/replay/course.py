"""The race that all policies run: a trace, the span that is scored, a fleet sized for it, and the oracle's cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from connectors.traces.shape import Load
from connectors.twin.fluid import LATE_AFTER_S, Fluid, Outcome, Span, replay
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts
from optiinfra.replay import oracle
from optiinfra.replay.lateness import AFTER_S, judged, pooled
from optiinfra.replay.policy import DAY_S, Course, Knobs, Policy

if TYPE_CHECKING:
    from optiinfra.replay.account import PipelineResult

FULL_S, SCORED_FROM_S = 14 * DAY_S, 7 * DAY_S
LEAST_S = 240
WARM_START_RATIO = 1.5
"""Every fleet begins with so many times the replicas that the first minute asks for; the scored span begins later."""

_ALIGN_S = 3_600
_PEAK_S = 600


@dataclass(frozen=True)
class Fleet:
    """`instances`: replicas that the mean load of the trace keeps busy at capacity, from which capacity follows.
    `service_s`: seconds a request is in service, which makes the number of those running.
    """

    instances: float = 15.0
    service_s: float = 8.0


@dataclass(frozen=True)
class Race:
    """One trace to be run by any policy at any start-up. `blind`: spans of the trace without measurements."""

    load: Load
    fleet: Fleet
    blind: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.load.per_second)
        if size < LEAST_S:
            raise ConfigError(f"a trace of {size} s", where=self.load.origin, fix=f"Name one of {LEAST_S} s or more.")
        if not self.load.per_second[self.scored.begin_s :].any():
            raise ConfigError("no request in the scored span", where=self.load.origin, fix="Name another trace.")

    @property
    def scored(self) -> Span:
        """Days 8 to 14 of a trace that has them, else the second half."""
        size = len(self.load.per_second)
        return Span(SCORED_FROM_S, FULL_S) if size >= FULL_S else Span(size // 2 // oracle.SLOT_S * oracle.SLOT_S, size)

    @property
    def capacity_rps(self) -> float:
        """Of one replica."""
        return self.load.mean_rps / self.fleet.instances

    @cached_property
    def needs(self) -> oracle.Counts:
        """Replicas that the oracle needs in each of its slots."""
        return oracle.needs(self.load.per_second, self.capacity_rps)

    def plan(self, startup_s: float) -> oracle.Plan:
        """What the oracle does at this start-up."""
        return oracle.plan(self.needs, self.scored, startup_s)

    def first_replicas(self, begin_s: int) -> int:
        """Ready at the start of a run that begins at `begin_s` of the trace."""
        minute = self.load.per_second[begin_s : begin_s + oracle.SLOT_S]
        return max(1, ceil(float(minute.mean()) * WARM_START_RATIO / self.capacity_rps))

    def run(self, policy: Policy, knobs: Knobs, startup_s: float) -> Outcome:
        """One policy with these knobs; it begins as far before the scored span as it can make use of."""
        facts = FleetFacts(self.capacity_rps, self.fleet.service_s, startup_s, policy.decide_s)
        begin = 0
        if policy.memory_s is not None:
            begin = max(0, self.scored.begin_s - policy.memory_s) // _ALIGN_S * _ALIGN_S
        arrived, shown_s = self.load.per_second[begin:], self.load.begin_s + begin
        fluid = Fluid(
            arrived,
            _moved(self.scored, begin),
            self.first_replicas(begin),
            begin_s=shown_s,
            blind=tuple(_moved(span, begin) for span in self.blind),
        )
        return replay(fluid, facts, policy.build(Course(facts, arrived, shown_s), knobs))

    def tried(self, policy: Policy, startup_s: float) -> Policy:
        """The policy with the knobs that are tried at this start-up: all of its grid."""
        return policy

    def oracle_measures(self, startup_s: float) -> dict[str, float | None]:
        """What else is known of the oracle at this start-up: nothing in a fluid, where it is what it was made to be."""
        return {}

    def account_measures(self, result: PipelineResult, startup_s: float) -> dict[str, float | None]:
        """What else is to be told of the whole policy at this start-up: nothing, save where something was staged."""
        return {}

    @property
    def level(self) -> str:
        """`fluid`, or `requests` where single ones are replayed."""
        return "fluid"

    def about(self) -> dict[str, Any]:
        """What the report says of this level beside what it says of every race."""
        return {"level": self.level}

    def in_outage(self, outcome: Outcome) -> tuple[float | None, float | None]:
        """Share in time of the requests that came while nothing was measured, and of those of the hours after it."""
        if not self.blind:
            return None, None
        begin = len(self.load.per_second) - len(outcome.queue)
        # A run that begins later met no outage before it.
        spans = [_moved(span, begin) for span in self.blind if span.begin_s >= begin]
        during_s = [(span.begin_s, span.end_s) for span in spans]
        after_s = [(span.end_s, span.end_s + AFTER_S) for span in spans]
        if outcome.late is not None:
            came = self.load.per_second[begin:].astype(np.float64)
            return judged(came, outcome.late, during_s), judged(came, outcome.late, after_s)
        total = np.concatenate(([0.0], np.cumsum(self.load.per_second[begin:], dtype=np.float64)))
        queue = np.concatenate(([0.0], outcome.queue))
        return pooled(total, queue, during_s, LATE_AFTER_S), pooled(total, queue, after_s, LATE_AFTER_S)


def outages(load: Load, start_s: float | None, length_s: float, scored: Span) -> tuple[Span, ...]:
    """One outage at `start_s` of the trace; None for one around the busiest ten minutes of each scored day.

    Raises ConfigError for one that lies outside the trace.
    """
    size, length = len(load.per_second), round(length_s)
    if start_s is not None:
        if start_s >= size:
            raise ConfigError(f"the trace ends after {size} s", where="--outage", fix="Let it begin earlier.")
        return (Span(round(start_s), round(start_s) + length),)
    return tuple(_around(load, begin, min(begin + DAY_S, scored.end_s), length) for begin in _days(scored))


def held_in(spans: Iterable[Span], at_s: int) -> bool:
    """Whether a second lies in one of these spans."""
    return any(span.begin_s <= at_s < span.end_s for span in spans)


def unmeasured(load: Load) -> tuple[Span, ...]:
    """The spans of a load that nobody measured."""
    if load.measured is None:
        return ()
    edges = np.flatnonzero(np.diff(np.concatenate(([1], load.measured, [1]))))
    return tuple(Span(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True))


def _days(scored: Span) -> Sequence[int]:
    return range(scored.begin_s, scored.end_s, DAY_S)


def _around(load: Load, begin: int, end: int, length: int) -> Span:
    held = load.per_second[begin:end]
    sums = np.convolve(held, np.ones(min(_PEAK_S, len(held)), dtype=np.int64), mode="valid")
    middle = begin + int(sums.argmax()) + _PEAK_S // 2
    return Span(max(0, middle - length // 2), max(0, middle - length // 2) + length)


def _moved(span: Span, by_s: int) -> Span:
    return Span(span.begin_s - by_s, span.end_s - by_s)
