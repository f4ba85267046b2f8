"""The supervisor: starts children in the order of their dependencies, restarts what dies, stops in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from contracts.errors import OptiInfraError
from optiinfra.backoff import Backoff, Deaths, after_death
from optiinfra.child import Child, ChildSpec


class Change(StrEnum):
    """What happened to a child; it fell when it ended because a part that it needs had died or was away."""

    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not_ready"
    DIED = "died"
    FELL = "fell"
    LOOPING = "looping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """A change of one child, with a sentence for people."""

    child: str
    change: Change
    detail: str = ""
    pid: int = 0
    endpoints: Mapping[str, str] | None = None


class Phase(StrEnum):
    """Where a child stands."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


class Kept:
    """What the supervisor knows of one child."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.phase = Phase.WAITING
        self.child: Child | None = None
        self.restarts = 0
        self.started_s = 0.0
        self.ready = asyncio.Event()
        self.why = ""
        self.fell = False
        self.code = 0


Listener = Callable[[Event], Awaitable[None]]
Excuse = Callable[[str], Awaitable[bool]]
"""Whether a child of this name that gave up may have done so for want of the broker."""


class Supervisor:
    """Keeps a set of children running until `stop`.

    `listener` hears every event, in order; what it raises is logged. `after_ready` of a name runs before the child
    counts as ready (topics are made there); an OptiInfraError from it counts as a failed start. Whoever watches the
    broker sets `excuse` and keeps `broker_answers`: a child that is excused fell, and starts again once it answers.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        logs: Path,
        listener: Listener,
        backoff: Backoff | None = None,
        after_ready: Mapping[str, Callable[[Mapping[str, str]], Awaitable[None]]] | None = None,
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        self.kept = {spec.name: Kept(spec) for spec in specs}
        self.order = start_order(specs)
        self.endpoints: dict[str, str] = dict(endpoints or {})
        self._logs = logs
        self._listener = listener
        self._backoff = backoff or Backoff()
        self._after_ready = dict(after_ready or {})
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self.excuse: Excuse | None = None
        self.broker_answers = asyncio.Event()
        self.broker_answers.set()
        self._log = structlog.get_logger("supervisor")

    @property
    def restarts(self) -> int:
        """Starts beyond the first of each child."""
        return sum(kept.restarts for kept in self.kept.values())

    @property
    def pids(self) -> dict[str, int]:
        """The pid of every child that runs."""
        return {n: k.child.pid for n, k in self.kept.items() if k.child is not None and k.child.running}

    def start(self) -> None:
        """Begin to start everything; each child waits for those it depends on."""
        for name in self.order:
            self._tasks[name] = asyncio.create_task(self._keep(self.kept[name]), name=f"keep-{name}")

    async def all_ready(self) -> None:
        """Wait until every child is ready."""
        await asyncio.gather(*(kept.ready.wait() for kept in self.kept.values()))

    def restart(self, name: str, why: str) -> bool:
        """End a child with SIGKILL so that it is started again; False when it does not run."""
        kept = self.kept[name]
        if kept.child is None or not kept.child.running:
            return False
        kept.why = why
        kept.child.kill()
        return True

    async def stop(self) -> None:
        """Stop everything in reverse order of dependence; returns when no child is left."""
        self._stop.set()  # whoever waits or backs off starts no more, and nothing is cancelled half-way through a start
        for layer in reversed(layers([self.kept[name].spec for name in self.order])):
            ends = await asyncio.gather(*(self._stop_one(self.kept[name]) for name in layer), return_exceptions=True)
            for name, error in zip(layer, ends, strict=True):
                if error is not None:  # the layers below are to be stopped all the same
                    self._log.error("stopping failed", child=name, exc_info=error)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _stop_one(self, kept: Kept) -> None:
        try:
            if kept.child is not None and kept.child.running:
                await kept.child.stop()
                await self._tell(kept, Change.STOPPED)
        finally:
            kept.phase = Phase.STOPPED

    async def _keep(self, kept: Kept) -> None:
        """One child's life: wait for its dependencies, run, mourn, back off, again."""
        deaths = Deaths()
        while not self._stop.is_set():
            kept.phase, kept.child = Phase.WAITING, None
            for needed in kept.spec.depends_on:
                if not await self._unless_stopped(self.kept[needed].ready.wait()):
                    return
            started_s = time.monotonic()
            why = await self._run_once(kept)
            kept.ready.clear()
            if self._stop.is_set():
                return
            kept.phase = Phase.BACKING_OFF
            kept.restarts += 1
            if kept.fell:  # not its own fault: it starts again as soon as what it fell with is back
                kept.fell = False
                await self._tell(kept, Change.FELL, why)
                continue
            if kept.code > 0 and self.excuse is not None and await self.excuse(kept.spec.name):
                await self._tell(kept, Change.FELL, why)
                kept.phase = Phase.WAITING
                await self._unless_stopped(self.broker_answers.wait())
                await self._unless_stopped(asyncio.sleep(self._backoff.fell_s))
                continue
            deaths, verdict = after_death(deaths, self._backoff, started_s, time.monotonic())
            self._log.warning("child died", child=kept.spec.name, why=why, again_in_s=verdict.delay_s)
            await self._tell(kept, Change.DIED, why)
            self._fell(kept.spec.name)
            if verdict.alarm:
                many = f"{self._backoff.alarm_deaths} deaths in {self._backoff.alarm_within_s:g} s"
                await self._tell(kept, Change.LOOPING, f"{many}; trying again every {self._backoff.slow_s:g} s. {why}")
            await self._unless_stopped(asyncio.sleep(verdict.delay_s))

    async def _unless_stopped(self, work: Coroutine[Any, Any, object]) -> bool:
        """Wait for `work`; False when the stop came first."""
        waiting, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()
        return not self._stop.is_set()

    async def _run_once(self, kept: Kept) -> str:
        """Start, wait for readiness, wait for the end. Returns why it ended."""
        spec, kept.why, kept.code = kept.spec, "", 0
        kept.phase = Phase.STARTING
        kept.started_s = time.monotonic()
        try:
            child = kept.child = await Child.start(spec, self.endpoints, self._logs)
        except OptiInfraError as error:
            return str(error)
        await self._tell(kept, Change.STARTING)
        if self._stop.is_set():
            child.kill()
        if not all(self.kept[needed].ready.is_set() for needed in spec.depends_on):
            kept.why, kept.fell = "a part it needs died while it started", True
            child.kill()
        endpoints = await child.ready()
        if endpoints is not None:
            self.endpoints.update(endpoints)
            kept.why = await self._follow_up(spec.name, endpoints)
            if kept.why:
                child.kill()
            else:
                kept.phase = Phase.RUNNING
                await self._tell(kept, Change.READY, endpoints=endpoints)
                kept.ready.set()
        elif child.running:
            kept.why = f"not ready within {spec.ready_within_s:g} s"
            await self._tell(kept, Change.NOT_READY, kept.why)
            child.kill()
        code = kept.code = await child.wait()
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = kept.why or child.last_words()
        return f"{ended}: {why}" if why else ended

    async def _follow_up(self, name: str, endpoints: Mapping[str, str]) -> str:
        """Do what is due once a child is ready. Returns what went wrong: whatever it is, this child starts afresh.

        It runs in a task of its own, since Kafka clients let stray cancellations out, which would end ours.
        """
        if name not in self._after_ready:
            return ""
        task = asyncio.ensure_future(self._after_ready[name](endpoints))
        await asyncio.wait({task})
        if task.cancelled():
            return "cancelled while connecting"
        error = task.exception()
        if error is not None and not isinstance(error, OptiInfraError):
            self._log.error("step after readiness failed", child=name, exc_info=error)
        return "" if error is None else str(error) or type(error).__name__

    def _fell(self, name: str) -> None:
        """End those who are useless without the child that just died."""
        for other in self.kept.values():
            if name in other.spec.falls_with and self.restart(other.spec.name, f"{name} died"):
                other.fell = True

    async def _tell(
        self, kept: Kept, change: Change, detail: str = "", endpoints: Mapping[str, str] | None = None
    ) -> None:
        pid = kept.child.pid if kept.child is not None else 0
        self._log.info("child", child=kept.spec.name, change=change.value, pid=pid, detail=detail)
        try:
            await self._listener(Event(kept.spec.name, change, detail, pid, endpoints))
        except Exception:  # noqa: BLE001 - whoever shows and alerts may fail; no child is left unkept for that
            self._log.exception("listener failed", child=kept.spec.name, change=change.value)


def layers(specs: Sequence[ChildSpec]) -> list[list[str]]:
    """Names in layers, each depending only on earlier ones. Raises ValueError for a circle or an unknown name."""
    left = {spec.name: set(spec.depends_on) for spec in specs}
    found: list[list[str]] = []
    while left:
        layer = [name for name, needs in left.items() if not needs & left.keys() and needs <= _done(found)]
        if not layer:
            raise ValueError(f"these children wait for one another or for nobody: {left}")
        found.append(layer)
        for name in layer:
            del left[name]
    return found


def _done(found: list[list[str]]) -> set[str]:
    return {name for layer in found for name in layer}


def start_order(specs: Sequence[ChildSpec]) -> list[str]:
    """Names, dependencies first."""
    return [name for layer in layers(specs) for name in layer]
