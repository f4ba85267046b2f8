"""A real executor and a real simulated fleet as processes that can be killed, and what feeds them."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import multiprocessing
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from agents.executor import Executor
from agents.ledger import RedisLedger
from connectors.twin.controller import TwinController
from connectors.twin.fleet import WorkloadSpec
from connectors.twin.load import LoadSpec
from connectors.twin.server import TwinInfo, run_twin
from contracts.clock import ClockAnchor, EventClock
from contracts.errors import Unavailable
from contracts.events import Action, Alert, AuditEntry, Message, Outcome, Sli, Tick
from contracts.ledger import ClaimLimits
from tests.agents.redis_process import RedisProcess, plan_of
from tests.agents.saga_help import MAX_AGE_S, NOW, WORKLOAD, sli

MESSAGES: dict[str, type[Message]] = {each.TYPE: each for each in (Action, Alert, AuditEntry, Outcome, Sli, Tick)}
SPEED = 50.0
LEASE_S = 0.2
FLEET = (WorkloadSpec(WORKLOAD, "a/model", 3, LoadSpec(0.02, day_s=600), startup_s=2.0),)

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.agents.executor_process"])


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def twin_main(folder: Path, port: int, ready: Connection) -> None:
    """The simulated fleet, with its memory in `folder`."""
    _quiet()
    wall_ms = int(time.time() * 1000)
    anchor = ClockAnchor(wall_anchor_ms=1_700_000_000_000, event_anchor_ms=1_700_000_000_000, speed=1)
    clock = EventClock(anchor.model_copy(update={"wall_anchor_ms": wall_ms, "speed": SPEED}), time.time, time.monotonic)

    def tell(info: TwinInfo) -> None:
        ready.send(info.control_url)

    asyncio.run(
        run_twin(
            clock=clock,
            file_sd=folder / "sd.json",
            control_port=port,
            workloads=FLEET,
            journal=folder / "journal",
            on_ready=tell,
        )
    )


class HandClock:
    """Event time is that of the newest tick."""

    def __init__(self) -> None:
        self.at_ms = NOW

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s


@dataclass(frozen=True)
class Orders:
    """What an executor process is told at its start."""

    redis_url: str
    twin_url: str
    expected: bool
    actions: tuple[str, ...] = ()  # what the broker still holds, for a ledger that was lost
    outcomes: tuple[str, ...] = ()


def executor_main(orders: Orders, pipe: Connection) -> None:
    """An executor whose topics are a pipe: messages come in, what it publishes goes out, and so do its checkpoints."""
    _quiet()
    asyncio.run(_execute(orders, pipe))


async def _execute(orders: Orders, pipe: Connection) -> None:
    clock, kill = HandClock(), {"at": "", "pid": 0}

    class Pipe:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            if isinstance(message, Outcome):
                log.append(message)
            pipe.send({"type": message.TYPE, "body": message.model_dump_json(), "id": message.id})

    def checkpoint(name: str) -> None:
        pipe.send({"passed": name})
        if name == kill["at"]:
            pid, kill["at"] = int(kill["pid"]), ""
            pipe.send({"killed": pid})
            os.kill(pid or os.getpid(), signal.SIGKILL)

    log: list[Message] = [Action.model_validate_json(each) for each in orders.actions]
    log += [Outcome.model_validate_json(each) for each in orders.outcomes]

    async def history() -> tuple[Sequence[Action], Sequence[Outcome]]:
        return [m for m in log if isinstance(m, Action)], [m for m in log if isinstance(m, Outcome)]

    class Watched(RedisLedger):
        async def audit(self, *, after: int = 0, limit: int = 500) -> list[AuditEntry]:
            """The last thing that the executor asks in each look."""
            lines = await super().audit(after=after, limit=limit)
            pipe.send({"looked": clock.at_ms})
            return lines

    async with Watched(orders.redis_url, timeout_s=1.0) as ledger, TwinController(orders.twin_url) as controller:
        executor = Executor(
            ledger,
            lambda asked: controller,
            Pipe(),
            clock,
            owner="executor-under-test",
            limits=ClaimLimits(per_hour=1_000_000, lease_s=LEASE_S),  # who takes over waits so long
            max_age_s=MAX_AGE_S,
            expected=orders.expected,
            history=history,
            checkpoint=checkpoint,
            idle_s=0.05,
        )
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: inbox.put_nowait(pipe.recv()))
        running = asyncio.create_task(executor.run(asyncio.Event()))
        while not running.done():
            told = await inbox.get()
            if "kill" in told:
                kill.update(at=told["kill"], pid=told["pid"])
                continue
            message = MESSAGES[told["type"]].model_validate_json(told["body"])
            if isinstance(message, Action):
                log.append(message)
            if isinstance(message, Tick):
                clock.at_ms = message.at_ms
            while True:  # as the worker does: again until it is taken, in order
                try:
                    await executor.handle(message)
                    break
                except Unavailable:
                    await asyncio.sleep(0.02)
            pipe.send({"handled": message.id})
        await running


class MortalRedis(RedisProcess):
    """One that others may kill."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def died(self) -> bool:
        return self._process is None or self._process.poll() is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Scene:
    """Redis, the fleet and the executor, each a process; time and evidence are the test's. What dies is started anew.

    `load` is what is measured as load a replica; where not `measured`, no SLIs come at all.
    """

    redis: MortalRedis
    folder: Path
    at_ms: int = NOW
    load: float | None = 2.0
    measured: bool = True
    step_ms: int = 1000
    expected: bool = False
    actions: list[Action] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    deaths: int = 0
    next_turn_s: float = 0.0

    def __post_init__(self) -> None:
        self.twin_port = free_port()
        self.twin_url = f"http://127.0.0.1:{self.twin_port}"
        self._start_twin()
        self._start_executor()

    def _start_twin(self) -> None:
        ready, told = _processes.Pipe(duplex=False)
        self.twin = _processes.Process(target=twin_main, args=(self.folder, self.twin_port, told), daemon=True)
        self.twin.start()
        assert ready.poll(20), "the twin did not get ready"
        ready.recv()

    def _start_executor(self) -> None:
        outcomes = tuple(each.model_dump_json() for each in self.of(Outcome))
        known = tuple(each.model_dump_json() for each in self.actions)
        orders = Orders(self.redis.url, self.twin_url, self.expected, known, outcomes)
        self.pipe, theirs = _processes.Pipe()
        self.executor = _processes.Process(target=executor_main, args=(orders, theirs), daemon=True)
        self.executor.start()
        theirs.close()
        for action in self.actions[-1:]:  # the broker gives again what was not committed
            self._send(action)

    def close(self) -> None:
        for process in (self.executor, self.twin):
            process.kill()
            process.join()
            process.close()

    def _send(self, message: Message) -> None:
        try:
            self.pipe.send({"type": message.TYPE, "body": message.model_dump_json()})
        except OSError:
            return  # it died: what it did not take is given to the next
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            told = self._hear(0.05)
            if told == {"handled": message.id} or not self.executor.is_alive():
                return
            if self.redis.died():
                return
        raise AssertionError(f"{message.TYPE} was not taken")

    def _hear(self, within_s: float) -> dict[str, Any] | None:
        try:
            if not self.pipe.poll(within_s):
                return None
            told: dict[str, Any] = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if "passed" in told:
            self.passed.append(told["passed"])
        elif "killed" in told:
            self.killed.append(told["killed"])
        elif "body" in told:
            self.published.append(MESSAGES[told["type"]].model_validate_json(told["body"]))
        return told

    def revive(self) -> None:
        """Start what has died on what it left behind."""
        if self.redis.died():
            self.deaths += 1
            self.redis.restart()
        if not self.twin.is_alive():
            self.deaths += 1
            self._start_twin()
        if not self.executor.is_alive():
            self.deaths += 1
            while self._hear(0) is not None:
                pass
            self._start_executor()
            self.wait(LEASE_S)

    def kill_at(self, name: str, victim: str) -> None:
        """Have `executor`, `redis` or `twin` killed when the executor passes a point for the next time."""
        pid = {"executor": 0, "redis": self.redis.pid, "twin": self.twin.pid}[victim]
        self.pipe.send({"kill": name, "pid": pid})

    def act(self, action: Action) -> None:
        self.actions.append(action)
        self._send(action)

    def turn(self) -> None:
        """One second passes, as fast as at the fleet: what died is there again, the fleet is measured, time is told."""
        self.revive()
        self.wait(self.next_turn_s - time.monotonic())
        self.next_turn_s = time.monotonic() + self.step_ms / 1000 / SPEED
        self.at_ms += self.step_ms
        if self.measured:
            self._send(sli(self.at_ms, replicas_up=self.replicas(), load_per_replica=self.load))
        self._send(Tick(at_ms=self.at_ms, partition=0))
        give_up = time.monotonic() + 0.3  # when something has died, it has not looked
        while time.monotonic() < give_up and self.executor.is_alive() and not self.redis.died():
            told = self._hear(0.01)
            if told is not None and told.get("looked", 0) >= self.at_ms:
                break
        while self._hear(0) is not None:
            pass

    def until_ended(self, action: Action, turns: int = 400) -> Outcome:
        """Let time pass until the action has an outcome and everything is told."""
        for _ in range(turns):
            self.turn()
            found = [each for each in self.of(Outcome) if each.action.id == action.id]
            points = [name for name in self.passed if name != "recorded"]  # which comes again with the action
            ends = [n for n, name in enumerate(points) if found and name == f"{found[-1].end_state}_saved"]
            if found and {"outcome_told", "audit_published"} <= set(points[max(ends, default=-1) + 1 :]):
                return found[-1]
        raise AssertionError(f"no end of {action.id} after {turns} turns; passed {self.passed[-20:]}")

    def until_passed(self, name: str, turns: int = 400) -> None:
        for _ in range(turns):
            if name in self.passed:
                return
            self.turn()
        raise AssertionError(f"{name} was not passed after {turns} turns; passed {self.passed[-20:]}")

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.published if isinstance(each, kind)]

    def wait(self, wall_s: float) -> None:
        """Listen for so long, and let nothing happen."""
        give_up = time.monotonic() + wall_s
        while (left := give_up - time.monotonic()) > 0:
            self._hear(left)

    def alerts(self) -> list[str]:
        return [each.name for each in self.of(Alert)]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A question to the fleet's control port."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.twin_url + path, data=data, method=method)
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)  # one that was killed takes a moment to be gone
                self.revive()
        raise AssertionError("the twin does not answer")

    def fleet(self) -> dict[str, list[str]]:
        seen: dict[str, list[str]] = self.ask("GET", f"/actuation/{WORKLOAD}")
        return seen

    def replicas(self) -> int:
        """How many would answer a scrape: draining ones do."""
        seen = self.fleet()
        return len(seen["serving"]) + len(seen["draining"])

    def effects(self) -> dict[str, int]:
        found: dict[str, int] = self.ask("GET", "/actuation/effects")["effects"]
        return found


@contextmanager
def a_scene(folder: Path) -> Iterator[Scene]:
    """All three processes, gone when it is left."""
    (folder / "redis").mkdir()
    redis = MortalRedis(plan_of("system"), folder / "redis")
    try:
        redis.start()
        scene = Scene(redis, folder)
        try:
            yield scene
        finally:
            scene.close()
    finally:
        redis.kill()
