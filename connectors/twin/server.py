"""The twin as a running process: the fleet follows the clock, its replicas listen, a scraper can discover them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from connectors.twin.actuation import Actuation
from connectors.twin.control import Control, fleet_state
from connectors.twin.face import Face, bind
from connectors.twin.feed import Feed, FeedSource
from connectors.twin.fleet import Fleet, Phase, Replica, WorkloadSpec, default_workloads
from connectors.twin.journal import Journal
from connectors.twin.members import restored_fleet
from contracts.clock import Clock

log = structlog.get_logger(__name__)

_TICK_WALL_S = 0.05
_SLICE_MS = 5_000
"""Event time simulated before the loop may answer a scrape again: some 5 ms of work at the default load."""


@dataclass(frozen=True)
class TwinInfo:
    """What `on_ready` is told: where the control port is, and the address of each replica."""

    control_url: str
    replicas: dict[str, str]


class Twin:
    """One fleet with its faces. `step` is its life: advance to the clock, let the ports follow, tell discovery."""

    def __init__(
        self,
        fleet: Fleet,
        clock: Clock,
        file_sd: Path,
        *,
        base_port: int = 0,
        warn_behind_s: float,
        journal: Journal | None = None,
    ) -> None:
        self.fleet, self._clock, self._file_sd = fleet, clock, file_sd
        self.actuation = Actuation(fleet, journal)
        self._base_port, self._warn_behind_s = base_port, warn_behind_s
        self._faces: dict[str, Face] = {}
        self._written = ""
        self._advancing, self._following = asyncio.Lock(), asyncio.Lock()
        self._warned = False

    @property
    def behind_s(self) -> float:
        """Event seconds by which the model trails the clock."""
        return max(0.0, (self._clock.now_ms() - self.fleet.now_ms) / 1000.0)

    async def catch_up(self) -> float:
        """Advance the fleet to now, in slices between which the ports stay alive; the time reached, event ms."""
        async with self._advancing:
            if self.behind_s > self._warn_behind_s and not self._warned:
                self._warned = True
                log.warning("twin_behind", behind_s=round(self.behind_s, 1), fix="It catches up; lower --speed if not.")
            now_ms = self._clock.now_ms()
            while self.fleet.now_ms < now_ms:
                self.fleet.advance(min(now_ms, self.fleet.now_ms + _SLICE_MS))
                self.actuation.progress()
                await asyncio.sleep(0)
            if self._warned:
                self._warned = False
                log.info("twin_caught_up", behind_s=round(self.behind_s, 3))
            return self.fleet.now_ms

    async def follow(self) -> None:
        """Open and close ports as replicas came and went, and rewrite the discovery file when it changed."""
        async with self._following:
            for number, replica in enumerate(self.fleet.replicas.values()):
                await self._follow_one(number, replica)
            self._discover(self.fleet.discoverable())

    async def _follow_one(self, number: int, replica: Replica) -> None:
        face = self._faces.get(replica.replica_id)
        if replica.phase is Phase.GONE:
            if face is not None:
                del self._faces[replica.replica_id]
                await face.close()
            return
        if face is None:
            port = self._base_port + number if self._base_port else 0
            face = self._faces[replica.replica_id] = Face(replica, self.catch_up, port)
        await face.follow()

    async def step(self) -> None:
        """One beat of the twin."""
        await self.catch_up()
        await self.follow()

    async def close(self) -> None:
        """Close every port, and leave nothing to discover."""
        with suppress(OSError):
            self._discover([])
        for face in self._faces.values():
            await face.close()

    def address_of(self, replica_id: str) -> str | None:
        """`host:port` of a replica, None once it is gone."""
        face = self._faces.get(replica_id)
        return face.address if face else None

    def addresses(self) -> dict[str, str]:
        """`host:port` of every replica that is not gone."""
        return {name: face.address for name, face in self._faces.items()}

    def state(self) -> dict[str, Any]:
        """What `GET /fleet` answers."""
        return fleet_state(self.fleet, self.address_of, self.behind_s)

    def _discover(self, replicas: Sequence[Replica]) -> None:
        groups = [
            {
                "targets": [self._faces[r.replica_id].address],
                "labels": {"workload": r.workload.name, "instance": r.replica_id, "model": r.workload.model},
            }
            for r in replicas
        ]
        text = json.dumps(groups, indent=2) + "\n"
        if text != self._written:
            # A reader sees the old list or the new one, never half of one.
            fresh = self._file_sd.with_name(f".{self._file_sd.name}.new")
            fresh.write_text(text)
            os.replace(fresh, self._file_sd)
            self._written = text


async def run_twin(
    *,
    clock: Clock,
    file_sd: Path,
    control_port: int = 0,
    base_port: int = 0,
    seed: int = 1,
    day_s: float = 3600.0,
    day_origin_ms: int | None = None,
    workloads: tuple[WorkloadSpec, ...] | None = None,
    feeds: Mapping[str, Feed] | None = None,
    warn_behind_s: float = 60.0,
    journal: Path | None = None,
    on_ready: Callable[[TwinInfo], None] | None = None,
) -> None:
    """Run the twin until it is cancelled; then close its ports and empty the discovery file.

    `day_s` is the length of a simulated day in event seconds (for the default workloads), so that the daily rise and
    fall is seen within minutes; it is anchored at event time `day_origin_ms` (by default now: hand over the clock's
    event anchor, and a restarted twin keeps the time of day). A workload in `feeds` gets the requests of a recorded
    trace, which begins at `day_origin_ms` and goes round, instead of drawn ones. Replicas listen on `base_port`,
    `base_port + 1`, ... or on free ports. `on_ready` is called once, when every initial replica listens and
    `file_sd` is written.

    `journal` is the file in which replicas, orders and changes by hand outlive the process; without one each start is
    from the workloads as they are specified. Raises Conflict for a port in use, ConfigError for a file that is no
    journal, Unavailable when it cannot be written.
    """
    specs = default_workloads(day_s) if workloads is None else workloads
    book = Journal(journal)
    start_ms = clock.now_ms()
    origin_ms = start_ms if day_origin_ms is None else day_origin_ms
    sources = {name: FeedSource(feed, start_ms, origin_ms) for name, feed in (feeds or {}).items()}
    fleet = restored_fleet(specs, book, seed=seed, start_ms=start_ms, day_origin_ms=day_origin_ms, sources=sources)
    file_sd.parent.mkdir(parents=True, exist_ok=True)
    twin = Twin(fleet, clock, file_sd, base_port=base_port, warn_behind_s=warn_behind_s, journal=book)
    control = Control(twin.actuation, twin.state, twin.catch_up, twin.follow)
    runner = web.AppRunner(control.app(), access_log=None, shutdown_timeout=1.0)
    try:
        await twin.follow()
        await runner.setup()
        control_socket = bind(control_port)
        await web.SockSite(runner, control_socket).start()
        if on_ready is not None:
            host, port = control_socket.getsockname()
            on_ready(TwinInfo(f"http://{host}:{port}", twin.addresses()))
        while True:
            await twin.step()
            await asyncio.sleep(_TICK_WALL_S)
    finally:
        await runner.cleanup()
        await twin.close()
