"""A twin that runs in this process, over real sockets, and a client for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from connectors.twin.fleet import WorkloadSpec
from connectors.twin.load import LoadSpec
from connectors.twin.server import TwinInfo, run_twin
from contracts.clock import ClockAnchor, EventClock

WORKLOADS = (
    WorkloadSpec("chat", "a/chat-model", 2, LoadSpec(3.0, day_s=600, phase=0.4), startup_s=4.0),
    WorkloadSpec("code", "a/code-model", 1, LoadSpec(2.0, day_s=600, phase=0.4), route="/v1/completions"),
)
SPEED = 20.0


def clock() -> EventClock:
    wall_ms = int(time.time() * 1000)
    anchor = ClockAnchor(wall_anchor_ms=wall_ms, event_anchor_ms=wall_ms, speed=SPEED)
    return EventClock(anchor, time.time, time.monotonic)


class Running:
    """A twin that runs, and a client for it."""

    def __init__(self, info: TwinInfo, session: aiohttp.ClientSession, file_sd: Path) -> None:
        self.info, self.session, self.file_sd = info, session, file_sd

    def url(self, replica: str, path: str) -> str:
        return f"http://{self.info.replicas[replica]}{path}"

    async def page(self, replica: str) -> str:
        async with self.session.get(self.url(replica, "/metrics"), timeout=aiohttp.ClientTimeout(10)) as answer:
            assert answer.status == 200
            return await answer.text()

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session.request(method, self.info.control_url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def faults(self, **faults: Any) -> None:
        assert (await self.control("PUT", "/actuation/faults", faults))[0] == 200

    async def effects(self) -> dict[str, int]:
        found: dict[str, int] = (await self.control("GET", "/actuation/effects"))[1]["effects"]
        return found

    async def replica(self, name: str) -> dict[str, Any]:
        _, state = await self.control("GET", "/fleet")
        return next(r for r in state["replicas"] if r["replica"] == name)

    async def phases(self) -> dict[str, str]:
        _, state = await self.control("GET", "/fleet")
        return {r["replica"]: r["phase"] for r in state["replicas"] if r["phase"] != "gone"}

    def discovered(self) -> set[str]:
        return {group["labels"]["instance"] for group in json.loads(self.file_sd.read_text())}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that must come to pass; the suite's time-out ends what never does."""
    while not await holds():  # noqa: ASYNC110  # polls another server: there is no event to wait for
        await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(folder: Path, **options: Any) -> AsyncIterator[Running]:
    """A twin of `WORKLOADS` while the block runs; `options` are further ones of `run_twin`."""
    file_sd = folder / "sd" / "twin.json"
    ready: asyncio.Future[TwinInfo] = asyncio.get_running_loop().create_future()
    wanted = {"clock": clock(), "workloads": WORKLOADS, **options}
    task = asyncio.create_task(run_twin(file_sd=file_sd, on_ready=ready.set_result, **wanted))
    while not ready.done() and not task.done():  # noqa: ASYNC110  # whichever comes first
        await asyncio.sleep(0.01)
    if task.done():
        await task
    try:
        async with aiohttp.ClientSession() as session:
            yield Running(ready.result(), session, file_sd)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert json.loads(file_sd.read_text()) == []
