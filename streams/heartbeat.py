"""What a worker counts of itself, and the heartbeat made of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from contracts.events import Heartbeat, WorkerState

HEARTBEAT_S = 2.0


class Pulse:
    """Counters since the process started. Heartbeats are in wall time: they speak of processes, not of data."""

    def __init__(self, worker: str, kind: str, wall: Callable[[], float] = time.time) -> None:
        self.worker, self._kind, self._wall = worker, kind, wall
        self._started_wall_ms = int(wall() * 1000)
        self.handled = self.emitted = self.dead_letters = 0

    def beat(self, state: WorkerState, lag: int | None = None) -> Heartbeat:
        """The heartbeat of this moment; `lag` in messages, None when unknown."""
        return Heartbeat(
            worker=self.worker,
            kind=self._kind,
            pid=os.getpid(),
            state=state,
            started_wall_ms=self._started_wall_ms,
            at_wall_ms=int(self._wall() * 1000),
            handled=self.handled,
            emitted=self.emitted,
            dead_letters=self.dead_letters,
            lag=lag,
        )
