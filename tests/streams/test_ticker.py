"""The ticker: whole event seconds, every partition, rising times, at any speed, and through an outage."""

from __future__ import annotations

import asyncio
import time

import pytest

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import Unavailable
from contracts.events import Message, Tick
from streams.ticker import run_ticker, step_ms


class Recorder:
    """A publisher that keeps what it gets and can be away."""

    def __init__(self, enough: int, away_for: int = 0) -> None:
        self.ticks: list[Tick] = []
        self.full, self._enough, self._away_for = asyncio.Event(), enough, away_for

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        assert isinstance(message, Tick)
        if self._away_for > 0:
            self._away_for -= 1
            raise Unavailable("away")
        self.ticks.append(message)
        if len(self.ticks) >= self._enough:
            self.full.set()


def clock(speed: float) -> EventClock:
    now_ms = int(time.time() * 1000)
    anchor = ClockAnchor(wall_anchor_ms=now_ms, event_anchor_ms=1_700_000_000_123, speed=speed)
    return EventClock(anchor, time.time, time.monotonic)


async def ticked(recorder: Recorder, speed: float) -> list[Tick]:
    await run_ticker(recorder, clock(speed), stop=recorder.full, partitions=3)
    return recorder.ticks


@pytest.mark.parametrize(("speed", "step"), [(1, 1000), (5, 1000), (20, 4000), (0.5, 1000), (1000, 200_000)])
def test_a_step_is_whole_seconds_and_at_most_five_a_wall_second(speed: float, step: int) -> None:
    assert step_ms(clock(speed)) == step


async def test_every_partition_gets_every_tick_on_whole_steps_in_order() -> None:
    ticks = await ticked(Recorder(enough=12), speed=20)
    times = [tick.at_ms for tick in ticks if tick.partition == 0]
    assert {tick.partition for tick in ticks} == {0, 1, 2}
    assert all(at % 4000 == 0 for at in times)
    assert times == sorted(set(times))
    assert {p: [t.at_ms for t in ticks if t.partition == p] for p in range(3)} == dict.fromkeys(range(3), times)


async def test_it_goes_on_when_the_broker_comes_back() -> None:
    ticks = await ticked(Recorder(enough=6, away_for=3), speed=20)
    times = [tick.at_ms for tick in ticks if tick.partition == 2]
    assert len(times) >= 2
    assert times == sorted(set(times))
