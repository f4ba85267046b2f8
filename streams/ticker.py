"""Sends the time of the data to every partition, so that silence, deadlines and expiries fire when data stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from contracts.clock import Clock
from contracts.errors import OptiInfraError
from contracts.events import Tick
from contracts.ports import Publisher
from contracts.topics import PARTITIONS

MAX_TICKS_PER_WALL_S = 5
"""At most this many a wall second: at twenty times speed a tick comes every four event seconds."""

_RETRY_WALL_S = 1.0

_log = logging.getLogger(__name__)


def step_ms(clock: Clock) -> int:
    """Event ms between ticks: whole seconds, one where the clock's speed allows it.

    >>> from contracts.clock import ClockAnchor, EventClock
    >>> step_ms(EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=20), lambda: 0.0, lambda: 0.0))
    4000
    """
    speed = 1.0 / clock.wall_s(1.0)
    return 1000 * max(1, round(speed / MAX_TICKS_PER_WALL_S))


async def run_ticker(
    publisher: Publisher,
    clock: Clock,
    *,
    stop: asyncio.Event | None = None,
    partitions: int = PARTITIONS,
    on_tick: Callable[[int], None] = lambda at_ms: None,
) -> None:
    """Send a Tick to every partition at each whole step of event time until `stop` is set.

    Times only rise. While the broker is away it tries again every second with the newest time: a tick that is late is
    worth no more than the next one. `on_tick` hears the event ms of each tick that all partitions have.
    """
    stopping, step = stop or asyncio.Event(), step_ms(clock)
    at_ms = clock.now_ms() // step * step
    while not stopping.is_set():
        at_ms = max(at_ms + step, clock.now_ms() // step * step)  # skips what passed while the broker was away
        await _sleep(stopping, clock.wall_s((at_ms - clock.now_ms()) / 1000))
        if stopping.is_set():
            return
        try:
            await asyncio.gather(*(publisher.publish(Tick(at_ms=at_ms, partition=n)) for n in range(partitions)))
        except OptiInfraError as error:
            _log.warning("no tick at %d: %s", at_ms, error)
            await _sleep(stopping, _RETRY_WALL_S)
        else:
            on_tick(at_ms)


async def _sleep(stopping: asyncio.Event, wall_s: float) -> None:
    """Wait, or less when told to stop."""
    if wall_s > 0:
        waiting = asyncio.ensure_future(stopping.wait())
        await asyncio.wait([waiting], timeout=wall_s)
        waiting.cancel()
