"""Small races for the tests of replay."""

from __future__ import annotations

import numpy as np

from connectors.traces import generated
from connectors.traces.shape import Counts, Load
from connectors.twin.fluid import Fluid, Outcome, Span, replay
from contracts.scaling import FleetFacts, LoadSeen, Scaler
from optiinfra.replay.course import Fleet, Race

PROFILE = generated.Profile(mean_rps=30.0, drift_s=1200.0, burst_s=40.0, bursts_per_day=150.0, gap_cv=2.0)


def counts(seconds: int, seed: int = 1) -> Counts:
    """Bursty requests of each second."""
    return generated.arrivals(PROFILE, seconds, seed).per_second


def race(seconds: int = 7200, *, instances: float = 6.0, blind: tuple[Span, ...] = ()) -> Race:
    return Race(Load("chat", counts(seconds), "a test"), Fleet(instances, 4.0), blind)


def seen(
    now_s: int,
    arrived: list[int] | None,
    *,
    waiting: float | None = 0.0,
    running: float | None = 0.0,
    ready: int = 1,
    starting: int = 0,
) -> LoadSeen:
    """One look at a workload."""
    return LoadSeen(now_s, arrived, waiting, running, ready, starting)


class Recorder:
    """Keeps what a scaler answered, and when."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self.answers: list[tuple[int, int]] = []

    def decide(self, seen: LoadSeen) -> int:
        answer = self._scaler.decide(seen)
        self.answers.append((seen.now_s, answer))
        return answer


def served(arrived: Counts, scaler: Scaler, facts: FleetFacts, initial: int = 3, begin_s: int = 0) -> Outcome:
    """All of it scored from `begin_s` on."""
    return replay(Fluid(np.asarray(arrived), Span(begin_s, len(arrived)), initial), facts, scaler)
