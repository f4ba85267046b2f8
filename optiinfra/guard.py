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
from optiinfra.plan import STAGES, WORKERS
from optiinfra.supervisor import Phase, Supervisor
from optiinfra.watchdog import Finding, Health, Limits, Memory, Offsets, Reading, judge
from optiinfra.wiring import default_stages, is_ours
from streams.brokers import admin
from streams.store.client import HttpStore

LOOK_EVERY_S = 5.0
LOOK_SOON_S = 1.0
"""How often a broker that is away is asked."""
AFTERMATH_S = 20.0
"""So long after a broker is back, whoever gives up still does so for its absence: groups and leaders come back last."""

BEATING = WORKERS
"""Workers that are judged by their heartbeats alone: a sink that waits for its store is not stuck."""

INPUTS: dict[str, tuple[str, ...]] = {
    name: tuple(topic.name for topic in stage.inputs) for name, stage in default_stages().items()
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
        self._back_s: float | None = None
        self._bootstrap = ""
        self._asking = asyncio.Lock()
        supervisor.excuse = self.excuses
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
            await asyncio.sleep((LOOK_SOON_S if self._away else LOOK_EVERY_S) if address else 0.2)

    async def look(self, bootstrap: str) -> None:
        """Look once at the broker and at every worker."""
        answers = await self._ask_broker(bootstrap)
        for name in (*STAGES, *BEATING):
            kept = self._supervisor.kept.get(name)
            if kept is None or kept.phase is not Phase.RUNNING or kept.child is None:
                self.findings.pop(name, None)  # its phase says more than the last verdict on it
                continue
            offsets = await self._offsets(bootstrap, name) if answers and name in INPUTS else None
            if kept.child is not None:  # it may have ended while the broker was asked
                self._judge(name, kept.child.pid, kept.started_s, offsets, answers)

    async def excuses(self, name: str) -> bool:
        """Whether a worker that gave up just now may have done so because the broker is away, or was until lately."""
        if name not in (*STAGES, *BEATING) or not self._bootstrap or "broker" in self._supervisor.kept:
            return False  # an embedded broker is a child itself, and who falls with it is known
        if not await self._ask_broker(self._bootstrap):
            return True
        return self._back_s is not None and time.monotonic() - self._back_s < AFTERMATH_S

    async def _ask_broker(self, bootstrap: str) -> bool:
        self._bootstrap = bootstrap
        async with self._asking:  # answers that overtake one another would tell of an outage twice
            answers = await asyncio.to_thread(admin.reachable, bootstrap)
            self._tell_broker(bootstrap, answers)
        return answers

    def _tell_broker(self, bootstrap: str, answers: bool) -> None:
        """Note whether the broker answers, and say so when that changed."""
        before, self.broker = self.broker, Check(answers, bootstrap if answers else f"{bootstrap} does not answer")
        if before.ok and not answers:
            self._away = True
            self._supervisor.broker_answers.clear()
            fix = "Start it again; scrapes are kept meanwhile, as far as memory goes, and nothing else is lost."
            self._announcer.alert("broker_away", Severity.CRITICAL, bootstrap, "the broker does not answer", fix)
        elif answers and self._away:
            self._away, self._back_s = False, time.monotonic()
            self._supervisor.broker_answers.set()
            self._announcer.alert("broker_back", Severity.INFO, bootstrap, "the broker answers again")

    async def _offsets(self, bootstrap: str, stage: str) -> Offsets | None:
        try:
            found = await asyncio.to_thread(admin.group_lag, bootstrap, group_of(stage), INPUTS[stage])
        except OptiInfraError:
            return None
        return {(place.topic, place.partition): marks for place, marks in found.items()}

    def _judge(self, name: str, pid: int, started_s: float, offsets: Offsets | None, answers: bool) -> None:
        # Others may share this Kafka: their workers have other names, though perhaps our pids.
        own = [b for b in self._live.beats.values() if b.pid == pid and is_ours(b.worker, name)]
        reading = Reading(
            pid=pid,
            started_s=started_s,
            offsets=offsets,
            beat_s=max((self._live.beats_heard_s[beat.worker] for beat in own), default=None),
            heard_s=self._live.heard_s,
            working=any(beat.state is WorkerState.WORKING for beat in own),
            broker_answers=answers,
        )
        memory, finding = judge(self._memory.get(name, Memory()), reading, time.monotonic(), self._limits)
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
