"""A run: what ends it before its time is told, its directory is watched, alerts are printed, `--for` always holds."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import Unavailable
from contracts.events import Severity
from optiinfra.child import ChildSpec
from optiinfra.plan import Plan, free_port
from optiinfra.report import Report
from optiinfra.run import Run
from optiinfra.settings import Settings
from optiinfra.statedir import StateDir
from streams.brokers.embedded import MockCluster

DEADLINE_S = 30.0


class Bench:
    """A run with children of the test's own beside a real broker."""

    def __init__(self, run: Run, printed: io.StringIO) -> None:
        self.run, self._printed = run, printed

    @property
    def printed(self) -> str:
        return self._printed.getvalue()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def going(self) -> AsyncIterator[asyncio.Task[Report]]:
        """The run once it is past its start."""
        task = asyncio.create_task(self.run.run(None))
        await self.until(lambda: self.run.state.run_info() or task.done())
        assert not task.done()
        yield task
        self.run.stop_asked.set()
        await asyncio.wait_for(task, DEADLINE_S)


@pytest.fixture
def bench(tmp_path: Path, mock_cluster: MockCluster) -> Any:
    state, printed = StateDir(tmp_path / "state"), io.StringIO()
    mock_cluster.make_topics([])

    def make(*specs: ChildSpec) -> Bench:
        settings = Settings.from_blob({"kafka": mock_cluster.bootstrap, "health_port": free_port()})
        plan = Plan(specs, {"bootstrap": mock_cluster.bootstrap}, "broker", "none", "none", "none", "acts: no")
        now_ms = int(time.time() * 1000)
        anchor = ClockAnchor(wall_anchor_ms=now_ms, event_anchor_ms=now_ms, speed=1)
        clock = EventClock(anchor, time.time, time.monotonic)
        return Bench(Run(settings, state, plan, clock, Console(file=printed), headless=True), printed)

    with state.owned():
        yield make


def child(code: str) -> ChildSpec:
    return ChildSpec(name="twin", argv=(sys.executable, "-c", code))


@pytest.fixture
def in_a_terminal() -> Iterator[None]:
    """Whoever runs the suite under nohup has the signal ignored, and a run honours that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("in_a_terminal")
async def test_alerts_are_printed_once_each_and_a_closed_terminal_is_a_clean_stop(bench: Any) -> None:
    made: Bench = bench()
    async with made.going() as task:
        made.run.announcer.alert("stage_stuck", Severity.CRITICAL, "slis", "4 messages wait")
        await made.until(lambda: "critical stage_stuck slis: 4 messages wait" in made.printed)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    assert made.run.failure is None
    assert made.printed.count("stage_stuck") == 1


async def test_a_run_whose_directory_is_removed_ends_with_an_error_and_its_report(bench: Any) -> None:
    made: Bench = bench()
    async with made.going() as task:
        shutil.rmtree(made.run.state.path)
        report = await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    assert isinstance(made.run.failure, Unavailable)
    assert "removed or replaced" in str(made.run.failure)
    assert report.alerts_by_name["supervision_failing"] == 1
    assert not made.run.state.path.exists()  # nothing was written into what is not ours any more


async def test_a_guard_that_keeps_failing_ends_the_run(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Bench = bench()

    async def broken(bootstrap: str) -> None:
        raise KeyError("offsets")

    monkeypatch.setattr(made.run.guard, "look", broken)
    async with made.going() as task:
        await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    assert "guard failed 3 times, last: KeyError: 'offsets'" in str(made.run.failure)
    assert made.run.live.alerts_by_name["supervision_failing"] == 3
    assert "critical supervision_failing guard" in made.printed


async def test_a_collector_that_fails_ends_the_run(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Bench = bench()
    async with made.going() as task:
        alert = made.run.announcer.alert("known", Severity.INFO, "x", "y")

        def broken(*args: object) -> None:
            raise ZeroDivisionError("by zero")

        with monkeypatch.context() as patch:
            patch.setattr(made.run.collector, "_take", broken)
            assert made.run.announcer.publisher is not None
            await made.run.announcer.publisher.publish(alert)
            await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
    assert "collector: ZeroDivisionError: by zero" in str(made.run.failure)


async def test_the_time_given_holds_while_a_part_does_not_get_ready(bench: Any) -> None:
    made: Bench = bench(child("import time; time.sleep(600)"))
    await asyncio.wait_for(made.run.run(0.5), DEADLINE_S)
    assert "still not ready: twin" in made.printed
    assert made.run.failure is None


async def test_a_part_that_dies_while_all_starts_is_shown_with_its_reason(bench: Any) -> None:
    made: Bench = bench(child("raise SystemExit('no such engine')"))
    task = asyncio.create_task(made.run.run(None))
    await made.until(lambda: "no such engine" in made.printed)
    made.run.stop_asked.set()
    await asyncio.wait_for(task, DEADLINE_S)
    assert "warning worker_restarted twin: twin died (exit code 1: no such engine)" in made.printed
