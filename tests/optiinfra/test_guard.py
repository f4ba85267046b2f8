"""The guard with a real broker and real children: it tells when the broker goes, and restarts who is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from contracts.events import Alert, Heartbeat, Message, Severity, Tick, WorkerState
from optiinfra.announcer import Announcer
from optiinfra.child import ChildSpec
from optiinfra.guard import Guard
from optiinfra.live import LiveState
from optiinfra.supervisor import Change, Event, Phase, Supervisor
from optiinfra.watchdog import Health, Limits
from optiinfra.wiring import worker_name
from streams.brokers.embedded import MockCluster
from streams.publisher import KafkaPublisher

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
    made = MockCluster(["windows", "slis"])
    yield made
    made.close()


class Kept(Supervisor):
    """A supervisor of one child, and what it told."""

    def __init__(self, logs: Path, name: str, code: str) -> None:
        self.told: list[Change] = []
        super().__init__([ChildSpec(name, (sys.executable, "-c", code))], logs=logs, listener=self._hear)

    async def _hear(self, event: Event) -> None:
        self.told.append(event.change)


Keep = Callable[..., Kept]


@pytest.fixture
async def keep(tmp_path: Path) -> AsyncIterator[Keep]:
    kept: list[Kept] = []

    def make(name: str, code: str = WAITS) -> Kept:
        kept.append(Kept(tmp_path, name, code))
        kept[-1].start()
        return kept[-1]

    yield make
    for made in kept:
        await made.stop()


@pytest.fixture
async def supervisor(keep: Keep) -> Kept:
    made = keep("ticker")
    await asyncio.wait_for(made.all_ready(), 30)
    return made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - facts about processes, of which no event tells
            await asyncio.sleep(0.01)


def beat(worker: str, pid: int, at_wall_ms: int = 1) -> Heartbeat:
    return Heartbeat(
        worker=worker, kind="x", pid=pid, state=WorkerState.WORKING, started_wall_ms=1, at_wall_ms=at_wall_ms
    )


def own_name(name: str) -> str:
    return worker_name(name, Path("state"))


def guard_of(supervisor: Supervisor, live: LiveState, limits: Limits) -> Guard:
    return Guard(supervisor, live, Announcer(live, lambda: 1_000), limits)


def names(live: LiveState) -> list[str]:
    return [alert.name for alert in live.alerts]


async def test_a_broker_that_goes_and_comes_is_told_once_each(supervisor: Supervisor, cluster: MockCluster) -> None:
    live = LiveState(speed=1)
    guard = guard_of(supervisor, live, Limits())
    await guard.look(cluster.bootstrap)
    there = guard.broker
    cluster.set_down()
    for _ in range(2):
        await guard.look(cluster.bootstrap)
    assert (there.ok, guard.broker.ok) == (True, False)
    assert guard.finding("ticker").health is Health.UNKNOWN
    cluster.set_up()
    await guard.look(cluster.bootstrap)
    assert names(live) == ["broker_away", "broker_back"]


async def test_a_silent_worker_is_killed_and_told(supervisor: Supervisor, cluster: MockCluster) -> None:
    live = LiveState(speed=1)
    pid = supervisor.pids["ticker"]
    live.apply(beat("somebody", 1), 0, time.monotonic())
    await guard_of(supervisor, live, STRICT).look(cluster.bootstrap)
    assert names(live) == ["worker_stuck"]
    await until(lambda: supervisor.pids.get("ticker", pid) != pid)
    assert supervisor.restarts == 1


async def test_who_hears_nobody_takes_nobody_for_silent(supervisor: Supervisor, cluster: MockCluster) -> None:
    live = LiveState(speed=1)
    await guard_of(supervisor, live, STRICT).look(cluster.bootstrap)
    assert names(live) == []


async def test_a_stage_that_is_stopped_in_its_work_is_killed_and_told(keep: Keep, cluster: MockCluster) -> None:
    live, supervisor = LiveState(speed=1), keep("windows")
    await asyncio.wait_for(supervisor.all_ready(), 30)
    pid = supervisor.pids["windows"]
    os.kill(pid, signal.SIGSTOP)
    publisher = KafkaPublisher(cluster.bootstrap, "test")
    await publisher.start()
    await publisher.publish(Tick(at_ms=1, partition=0))
    await publisher.stop()
    live.apply(beat(own_name("windows"), pid), 0, time.monotonic() + 3600)  # it is not its silence that tells
    await guard_of(supervisor, live, STRICT).look(cluster.bootstrap)
    assert [(alert.name, alert.subject) for alert in live.alerts] == [("stage_stuck", "windows")]
    assert "1 messages wait" in live.alerts[0].summary
    await until(lambda: supervisor.pids.get("windows", pid) != pid)


class Jump:
    """Monotonic time that can be moved on, as it moves while a process is held."""

    def __init__(self) -> None:
        self.ahead_s, self._real = 0.0, time.monotonic

    def __call__(self) -> float:
        return self._real() + self.ahead_s


async def test_a_supervisor_that_was_held_blames_no_worker(
    supervisor: Supervisor, cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, pid, jump = LiveState(speed=1), supervisor.pids["ticker"], Jump()
    monkeypatch.setattr("optiinfra.guard.time.monotonic", jump)
    guard = guard_of(supervisor, live, Limits(grace_s=-1))
    live.apply(beat(own_name("ticker"), pid), 0, jump())
    await guard.look(cluster.bootstrap)
    jump.ahead_s = 600
    live.apply(beat("somebody", 1), 0, jump())  # what waited for us comes in, and ours not first
    await guard.look(cluster.bootstrap)
    assert (names(live), guard.finding("ticker").health) == ([], Health.OK)
    assert supervisor.pids["ticker"] == pid


async def test_the_beats_of_another_hosts_worker_with_our_pid_do_not_count(
    supervisor: Supervisor, cluster: MockCluster
) -> None:
    live = LiveState(speed=1)
    live.apply(beat("ticker.some-other-host.0a1b2c3d", supervisor.pids["ticker"]), 0, time.monotonic() + 3600)
    guard = guard_of(supervisor, live, STRICT)
    await guard.look(cluster.bootstrap)
    assert guard.finding("ticker").health is Health.SILENT


async def test_who_gives_up_while_the_broker_is_away_falls_and_comes_back_with_it(
    keep: Keep, cluster: MockCluster, tmp_path: Path
) -> None:
    flag = tmp_path / "broker-is-there"
    body = f"import pathlib, signal\nif not pathlib.Path({str(flag)!r}).exists(): raise SystemExit(3)\n" + WAITS
    live = LiveState(speed=1)
    supervisor = keep("sink", body)
    guard = guard_of(supervisor, live, Limits())  # before the first child can have ended
    await guard.look(cluster.bootstrap)
    cluster.set_down()
    await until(lambda: Change.FELL in supervisor.told and supervisor.kept["sink"].phase is Phase.WAITING)
    assert not guard.broker.ok
    await guard.look(cluster.bootstrap)
    assert supervisor.told.count(Change.FELL) == 1
    flag.touch()
    cluster.set_up()
    await guard.look(cluster.bootstrap)
    await asyncio.wait_for(supervisor.all_ready(), 30)
    assert Change.DIED not in supervisor.told
    assert names(live) == ["broker_away", "broker_back"]


async def test_who_ends_for_reasons_of_its_own_is_not_excused(keep: Keep, cluster: MockCluster) -> None:
    live, supervisor = LiveState(speed=1), keep("sink", "raise SystemExit(3)")
    guard = guard_of(supervisor, live, Limits())
    await guard.look(cluster.bootstrap)
    await until(lambda: Change.DIED in supervisor.told)
    assert Change.FELL not in supervisor.told


async def test_a_worker_that_beats_is_left_alone(supervisor: Supervisor, cluster: MockCluster) -> None:
    live, pid = LiveState(speed=1), supervisor.pids["ticker"]
    live.apply(beat(own_name("ticker"), pid), 0, time.monotonic() + 3600)
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
    await until(lambda: len(taken.messages) == 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert taken.messages == told
    assert live.counts.alerts == 3
