"""A scene for the executor: Redis, the fleet and the executor as processes that can be killed, and what feeds them."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agents.ledger import RedisLedger
from contracts.errors import Unavailable
from contracts.events import Action, Alert, AuditEntry, Message, Outcome, Tick
from optiinfra.plan import free_port
from tests.agents.executor_process import LEASE_S, MESSAGES, SPEED, Orders, executor_main, processes, twin_main
from tests.agents.redis_process import RedisProcess, plan_of
from tests.agents.saga_help import NOW, WORKLOAD, sli

Kind = TypeVar("Kind", bound=Message)


class MortalRedis(RedisProcess):
    """One that others may kill."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def died(self) -> bool:
        return self._process is None or self._process.poll() is not None


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
        ready, told = processes.Pipe(duplex=False)
        self.twin = processes.Process(target=twin_main, args=(self.folder, self.twin_port, told), daemon=True)
        self.twin.start()
        assert ready.poll(20), "the twin did not get ready"
        ready.recv()

    def _start_executor(self) -> None:
        outcomes = tuple(each.model_dump_json() for each in self.of(Outcome))
        known = tuple(each.model_dump_json() for each in self.actions)
        orders = Orders(self.redis.url, self.twin_url, self.expected, known, outcomes)
        self.pipe, theirs = processes.Pipe()
        self.executor = processes.Process(target=executor_main, args=(orders, theirs), daemon=True)
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

    def empty_at(self, name: str) -> None:
        """Have somebody flush Redis at the moment in which the executor passes a point for the next time."""
        self.pipe.send({"empty": name})

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
            if found and self._all_told(action, found[-1].end_state):
                self.turn()  # in which the points come that were passed meanwhile
                return found[-1]
        raise AssertionError(f"no end of {action.id} after {turns} turns; passed {self.passed[-20:]}")

    def _all_told(self, action: Action, end_state: str) -> bool:
        """Whether the audit line of an end has come, and the ledger owes no outcome. Points do not tell: a Redis that
        is killed after it did a call and before it answered leaves one that nobody passes."""
        lines = [line for line in self.of(AuditEntry) if (line.subject, line.what) == (action.id, end_state)]
        return bool(lines) and asyncio.run(self._nothing_is_owed())

    async def _nothing_is_owed(self) -> bool:
        async with RedisLedger(self.redis.url) as ledger:
            try:
                return not await ledger.unpublished()
            except Unavailable:  # it was killed
                return False

    def until_alerted(self, name: str, turns: int = 400) -> None:
        """Let time pass until people were told."""
        for _ in range(turns):
            if name in self.alerts():
                return
            self.turn()
        raise AssertionError(f"nobody was told of {name} in {turns} turns, but of {self.alerts()}")

    def until_passed(self, name: str, turns: int = 400) -> None:
        for _ in range(turns):
            if name in self.passed:
                return
            self.turn()
        raise AssertionError(f"{name} was not passed after {turns} turns; passed {self.passed[-20:]}")

    def of(self, kind: type[Kind]) -> list[Kind]:
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
