"""The guard: reads offsets, heartbeats and health at intervals, lets the watchdog judge, and restarts what is stuck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from contracts.errors import OptiInfraError
from contracts.events import Severity, WorkerState
from contracts.topics import group_of
from optiinfra.announcer import Announcer
from optiinfra.health import Check
from optiinfra.live import LiveState
from optiinfra.plan import STAGES
from optiinfra.supervisor import Phase, Supervisor
from optiinfra.watchdog import Finding, Health, Limits, Memory, Offsets, Reading, judge
from streams.brokers import admin
from streams.core.slis import SliSettings
from streams.stages import stages
from streams.store.client import HttpStore

LOOK_EVERY_S = 5.0

BEATING = ("sink", "scraper", "ticker")
"""Workers that are judged by their heartbeats alone: a sink that waits for its store is not stuck."""

INPUTS: dict[str, tuple[str, ...]] = {
    stage.name: tuple(topic.name for topic in stage.inputs) for stage in stages(SliSettings())
}


class Guard:
    """Looks after the workers of a supervisor; `findings`, `broker` and `store` hold the newest look."""

    def __init__(
        self, supervisor: Supervisor, live: LiveState, announcer: Announcer, limits: Limits | None = None
    ) -> None:
        self._supervisor, self._live, self._announcer = supervisor, live, announcer
        self._limits = limits or Limits()
        self._memory: dict[str, Memory] = {}
        self.findings: dict[str, Finding] = {}
        self.broker = Check(False, "not asked yet")
        self._away = False
        self.store: Check | None = Check(False, "not asked yet") if "store" in supervisor.kept else None

    def finding(self, name: str) -> Finding:
        """The newest verdict on a child; unknown for those that are not watched."""
        return self.findings.get(name, Finding(Health.UNKNOWN, None))

    async def run(self, bootstrap: Callable[[], str]) -> None:
        """Look every few seconds until cancelled."""
        while True:
            address = bootstrap()
            if address:
                await self.look(address)
            if self.store is not None:
                self.store = await self._ask_store()
            await asyncio.sleep(LOOK_EVERY_S if address else 0.2)

    async def look(self, bootstrap: str) -> None:
        """Look once at the broker and at every worker."""
        answers = await asyncio.to_thread(admin.reachable, bootstrap)
        self._tell_broker(bootstrap, answers)
        for name in (*STAGES, *BEATING):
            kept = self._supervisor.kept.get(name)
            if kept is None or kept.phase is not Phase.RUNNING or kept.child is None:
                continue
            offsets = await self._offsets(bootstrap, name) if answers and name in INPUTS else None
            await self._judge(name, kept.child.pid, kept.started_wall_ms, offsets, answers)

    def _tell_broker(self, bootstrap: str, answers: bool) -> None:
        """Note whether the broker answers, and say so when that changed."""
        before, self.broker = self.broker, Check(answers, bootstrap if answers else f"{bootstrap} does not answer")
        if before.ok and not answers:
            self._away = True
            fix = "Start it again; scrapes are kept meanwhile, as far as memory goes, and nothing else is lost."
            self._announcer.alert("broker_away", Severity.CRITICAL, bootstrap, "the broker does not answer", fix)
        elif answers and self._away:
            self._away = False
            self._announcer.alert("broker_back", Severity.INFO, bootstrap, "the broker answers again")

    async def _offsets(self, bootstrap: str, stage: str) -> Offsets | None:
        try:
            found = await asyncio.to_thread(admin.group_lag, bootstrap, group_of(stage), INPUTS[stage])
        except OptiInfraError:
            return None
        return {(place.topic, place.partition): marks for place, marks in found.items()}

    async def _judge(self, name: str, pid: int, started_wall_ms: int, offsets: Offsets | None, answers: bool) -> None:
        beats = [beat for beat in self._live.beats.values() if beat.pid == pid]
        reading = Reading(
            pid=pid,
            started_wall_ms=started_wall_ms,
            offsets=offsets,
            beat_wall_ms=max((beat.at_wall_ms for beat in beats), default=None),
            working=any(beat.state is WorkerState.WORKING for beat in beats),
            broker_answers=answers,
        )
        now_wall_ms = int(time.time() * 1000)
        memory, finding = judge(self._memory.get(name, Memory()), reading, now_wall_ms, self._limits)
        self._memory[name], self.findings[name] = memory, finding
        if finding.health.stuck and self._supervisor.restart(name, f"stuck: {finding.detail}"):
            self._announcer.alert(
                "stage_stuck" if name in STAGES else "worker_stuck",
                Severity.CRITICAL,
                name,
                f"{finding.detail}; the worker is killed and started again",
                f"If it comes back, look into logs/{name}.jsonl of the state directory.",
            )

    async def _ask_store(self) -> Check:
        url = self._supervisor.endpoints.get("store_url")
        if url is None:
            return Check(False, "not started yet")
        try:
            async with HttpStore(url, query_timeout_s=3.0) as store:
                health = await store.health()
        except OptiInfraError as error:
            return Check(False, str(error))
        return Check(True, str(health.get("engine", url)))
