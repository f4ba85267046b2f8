"""The guard with a real broker and a real child: it tells when the broker goes, and restarts who is stuck."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.events import Alert, Heartbeat, Message, Severity, WorkerState
from optiinfra.announcer import Announcer
from optiinfra.child import ChildSpec
from optiinfra.guard import Guard
from optiinfra.live import LiveState
from optiinfra.supervisor import Event, Supervisor
from optiinfra.watchdog import Health, Limits
from streams.brokers.embedded import MockCluster

WAITS = "import signal; print('{\"ready\": {}}', flush=True); signal.pause()"
STRICT = Limits(no_progress_s=0, beat_every_s=0, grace_s=-1)
"""Judges at the first look, so that no test waits."""


class Taken:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        self.messages.append(message)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    made = MockCluster(["slis"])
    yield made
    made.close()


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    async def hear(_: Event) -> None:
        return None

    made = Supervisor([ChildSpec("ticker", (sys.executable, "-c", WAITS))], logs=tmp_path, listener=hear)
    made.start()
    await asyncio.wait_for(made.all_ready(), 30)
    yield made
    await made.stop()


def guard_of(supervisor: Supervisor, live: LiveState, limits: Limits) -> Guard:
    return Guard(supervisor, live, Announcer(live, lambda: 1_000), limits)


def names(live: LiveState) -> list[str]:
    return [alert.name for alert in live.alerts]


async def test_a_broker_that_goes_and_comes_is_told_once_each(supervisor: Supervisor, cluster: MockCluster) -> None:
    live = LiveState(speed=1)
    guard = guard_of(supervisor, live, Limits())
    await guard.look(cluster.bootstrap)
    assert guard.broker.ok
    cluster.set_down()
    for _ in range(2):
        await guard.look(cluster.bootstrap)
    assert not guard.broker.ok
    assert guard.finding("ticker").health is Health.UNKNOWN
    cluster.set_up()
    await guard.look(cluster.bootstrap)
    assert names(live) == ["broker_away", "broker_back"]


async def test_a_silent_worker_is_killed_and_told(supervisor: Supervisor, cluster: MockCluster) -> None:
    live = LiveState(speed=1)
    pid = supervisor.pids["ticker"]
    await guard_of(supervisor, live, STRICT).look(cluster.bootstrap)
    assert names(live) == ["worker_stuck"]
    async with asyncio.timeout(30):
        while supervisor.pids.get("ticker", pid) == pid:  # noqa: ASYNC110 - a fact about a process
            await asyncio.sleep(0.01)
    assert supervisor.restarts == 1


async def test_a_worker_that_beats_is_left_alone(supervisor: Supervisor, cluster: MockCluster) -> None:
    live, pid = LiveState(speed=1), supervisor.pids["ticker"]
    soon = int(time.time() * 1000) + 3_600_000
    beat = Heartbeat(
        worker="ticker", kind="ticker", pid=pid, state=WorkerState.WORKING, started_wall_ms=1, at_wall_ms=soon
    )
    live.apply(beat, 0)
    guard = guard_of(supervisor, live, STRICT)
    await guard.look(cluster.bootstrap)
    assert guard.finding("ticker").health is Health.OK
    assert supervisor.pids["ticker"] == pid


async def test_alerts_wait_for_a_broker_and_are_then_published_in_order() -> None:
    live = LiveState(speed=1)
    announcer, taken = Announcer(live, lambda: 1_000), Taken()
    told: list[Alert] = [announcer.alert(f"a{n}", Severity.WARNING, "x", "y") for n in range(3)]
    running = asyncio.create_task(announcer.run())
    await asyncio.sleep(0)
    announcer.publisher = taken
    async with asyncio.timeout(30):
        while len(taken.messages) < 3:  # noqa: ASYNC110 - the fake has no event to wait for
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert taken.messages == told
    assert live.counts.alerts == 3
