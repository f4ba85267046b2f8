"""The whole platform on the embedded broker: it runs, mends itself, reports, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from optiinfra.plan import free_port
from optiinfra.statedir import RunInfo, StateDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.platform]

KEYS = ["broker", "scrapes", "slis", "alerts", "dead_letters", "restarts"]
KEYS += ["candidates", "decisions", "actions", "actions_under_way", "slo_attainment", "latency_s"]


def clean_environment() -> dict[str, str]:
    """The environment without settings of ours, and with our packages on the path."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("OPTIINFRA_", "OPENAI_"))}
    return others | {"PYTHONPATH": str(Path(__file__).parents[2])}


class Up:
    """An `optiinfra up` of its own, in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.state = StateDir(place / "state")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *words: str, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
        command = ["up", "--headless", "--state", "state", "--port", str(self.port), "--json", "report.json", *words]
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "optiinfra", *command),
            cwd=self.place,
            env=clean_environment() | (environment or {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return self.process

    async def running(self, holds: Callable[[RunInfo], bool]) -> RunInfo:
        async with asyncio.timeout(90):
            while True:
                run = self.state.run_info()
                if run is not None and holds(run):
                    return run
                assert self.process is not None
                assert self.process.returncode is None, "it ended before its time"
                await asyncio.sleep(0.1)

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.place / "report.json").read_text(encoding="utf-8")))


def has(*names: str) -> Callable[[RunInfo], bool]:
    return lambda run: all(name in run.pids for name in names)


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path)
    yield made
    if made.process is not None and made.process.returncode is None:  # the test failed; its children die with it
        made.process.kill()
        await made.process.communicate()


async def nobody(children: list[psutil.Process]) -> None:
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 15)
    assert [one.name() for one in alive] == []


async def test_a_run_reports_slis_and_outlives_a_stage_that_is_killed(up: Up) -> None:
    process = await up.start("--for", "25s", "--speed", "10")
    run = await up.running(has("slis", "scraper", "ticker"))
    os.kill(run.pids["slis"], signal.SIGKILL)
    await up.running(lambda now: now.pids.get("slis", run.pids["slis"]) != run.pids["slis"])
    children = up.children()
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    report = up.report()
    assert list(report)[: len(KEYS)] == KEYS
    assert report["broker"] == "embedded, in memory"
    assert report["fleet"] == "simulated (twin)"
    assert report["scrapes"] > 0
    assert report["slis"] > 0
    assert report["dead_letters"] == 0
    assert report["restarts"] == 1
    assert report["alerts_by_name"]["worker_restarted"] == 1
    assert report["latency_s"]["scrape_to_sli_p50"] > 0
    assert report["workloads"]["chat"]["replicas_up"] > 0
    await nobody(children)


async def test_ctrl_c_ends_it_cleanly_and_the_clock_goes_on_next_time(up: Up) -> None:
    process = await up.start("--speed", "20")
    run = await up.running(has("scraper"))
    children = up.children()
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    assert b"nothing is left running" in output
    await nobody(children)
    assert up.state.anchor(0, 1).event_anchor_ms > run.anchor.event_anchor_ms


async def test_no_child_outlives_an_up_that_is_killed(up: Up) -> None:
    process = await up.start()
    await up.running(has("broker", "redis" if "redis" in _parts() else "broker", "windows"))
    children = up.children()
    assert len(children) >= 3
    process.kill()
    await process.communicate()
    await nobody(children)


def _parts() -> set[str]:
    from optiinfra.redis_child import find_redis

    return {"redis"} if find_redis().binary else set()
