"""What a scaler may know and what it answers, the same in life and in replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """One workload at one moment. Nothing here is younger than `now_s`.

    `now_s`: event seconds since an origin that is a midnight. `arrived`: requests that arrived in each whole second
    since the last look, oldest first; None while nothing is measured. `waiting`, `running`: requests in queue and in
    service now; None while nothing is measured. `ready`, `starting`: replicas, draining ones in neither. `done`,
    `late`: requests that began service since the last look, and those of them that had waited longer than the
    objective allows.
    """

    now_s: int
    arrived: Sequence[int] | None
    waiting: float | None
    running: float | None
    ready: int
    starting: int
    done: float = 0.0
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """What a scaler is told of its replicas beforehand.

    `capacity_rps`: requests a second that one replica serves within its latency objective. `service_s`: seconds a
    request is in service. `startup_s`: from the order until it serves. `decide_s`: seconds between looks.
    """

    capacity_rps: float
    service_s: float
    startup_s: float
    decide_s: int = 15
    least: int = 1
    most: int = 1000


class Scaler(Protocol):
    """Says how many replicas there should be, ready and starting together."""

    def decide(self, seen: LoadSeen) -> int:
        """Asked every `decide_s`, in order of time; keeps what it needs to know of the past itself."""
        ...
