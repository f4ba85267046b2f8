"""One clock for all processes: event time runs from an anchor at a chosen speed, monotonic inside a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

AHEAD_S = 5.0
"""How far ahead of the ticks, one a second, a scraper's clock may be, event seconds."""


class Clock(Protocol):
    """Event time in int ms UTC, and how long a wait in event seconds takes on the wall."""

    def now_ms(self) -> int: ...

    def wall_s(self, event_s: float) -> float: ...


class ClockAnchor(BaseModel):
    """What the supervisor hands to every process and keeps over restarts: where event time began, and its speed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wall_anchor_ms: int
    event_anchor_ms: int
    speed: float = Field(default=1.0, gt=0, le=1000)

    def event_ms(self, wall_ms: float) -> int:
        """Event time at a wall time.

        >>> ClockAnchor(wall_anchor_ms=1000, event_anchor_ms=5000, speed=20).event_ms(1500)
        15000
        """
        return int(self.event_anchor_ms + (wall_ms - self.wall_anchor_ms) * self.speed)

    def wall_ms(self, event_ms: int) -> float:
        """Wall time at an event time: the inverse of `event_ms`."""
        return self.wall_anchor_ms + (event_ms - self.event_anchor_ms) / self.speed


class EventClock:
    """A running clock. It reads the wall once and the monotonic clock after that, so that a step of the wall clock
    (NTP, an administrator) does not move event time inside a process."""

    def __init__(self, anchor: ClockAnchor, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.anchor = anchor
        self._monotonic = monotonic
        self._wall_at_start_ms = wall() * 1000.0
        self._monotonic_at_start = monotonic()

    def now_ms(self) -> int:
        """Event time now."""
        elapsed_ms = (self._monotonic() - self._monotonic_at_start) * 1000.0
        return self.anchor.event_ms(self._wall_at_start_ms + elapsed_ms)

    def wall_s(self, event_s: float) -> float:
        """How many wall seconds `event_s` of event time take."""
        return event_s / self.anchor.speed
