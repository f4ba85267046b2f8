"""A whole `up` over a simulated fleet that a test can load, break and ask, with rules that follow the load at once."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
import psutil

from agents.ledger import RedisLedger
from contracts.errors import Unavailable
from contracts.events import Action, Alert, Decision, EndState, Message, Outcome
from contracts.ledger import ActionRecord
from contracts.topics import BY_MESSAGE
from optiinfra.statedir import RunInfo
from streams.brokers import admin
from tests.optiinfra.test_up import Up, clean_environment, has

M = TypeVar("M", bound=Message)

RULES = """\
pack: faulted
version: 1
doc: Adds a replica while there is much to do, gives one back while there is nothing to do.

conditions:
  much: {sli: load_per_replica, window: latest, above: 5, on_missing: false, doc: Much to do.}
  little: {sli: load_per_replica, window: 10s, below: 0.5, for: 10s, on_missing: false, doc: Nothing to do.}
  several: {sli: replicas_up, window: latest, at_least: 2, on_missing: false, doc: The last one stays.}
  waiting: {sli: requests_waiting, window: latest, above: 1, on_missing: true, doc: Somebody waits.}

rules:
  more:
    version: 1
    priority: 900
    doc: Much to do asks for a replica.
    runbook: This is a test.
    cooldown: 20s
    all: [much]
    action: {kind: scale_up, replicas: 1}
    effect:
      expect: {sli: replicas_up, window: latest, at_least: {now: replicas_up, plus: replicas}}
      by: BY
    undo:
      guards: [{sli: load_per_replica, window: latest, at_most: 1000}]
    tests:
      much:
        given: [{at: 0s, values: {load_per_replica: 20, replicas_up: 2}}]
        until: 20s
        expect: {fires_at: 0s, replicas: 1}
      nothing: &nothing
        given: [{at: 0s, values: {load_per_replica: 3, "load_per_replica@10s": 3, replicas_up: 2}}]
        until: 20s
        expect: {fires: never}
  less:
    version: 1
    priority: 100
    doc: Nothing to do gives a replica back.
    runbook: This is a test.
    cooldown: 20s
    all: [little, several]
    none: [waiting]
    action: {kind: scale_down, replicas: 1}
    effect:
      expect: {sli: replicas_up, window: latest, at_most: {now: replicas_up, minus: replicas}}
      by: BY
      guards: [{sli: requests_waiting, window: latest, at_most: 1}]
      settle: 10s
    tests:
      little:
        given: [{at: 0s, values: {"load_per_replica@10s": 0, requests_waiting: 0, replicas_up: 3}}]
        until: 60s
        expect: {fires_at: 10s, replicas: 1}
      nothing: *nothing
"""
"""Undo guards are wide, and `by` is what a test says: what ends an action here is the fault under test."""

BUSY, CALM, IDLE = 6.0, 1.0, 0.0
"""Load factors: above the rule `more` on the replicas that limits allow, between both rules, below the rule `less`."""

FEWEST, MOST = 2, 4


class Faulted:
    """A running `up`; what it told; its fleet's control port; and the ways to break it."""

    def __init__(self, up: Up, *, replicas: Mapping[str, int], by_s: int, **environment: str) -> None:
        """`replicas` of each workload at the start, `by_s` the event seconds that an effect may take."""
        self.up, self.replicas = up, {"chat": 1, "code": 1} | dict(replicas)
        self.workloads = tuple(replicas)
        self.rules = up.place / "rules.yaml"
        self.rules.write_text(RULES.replace("BY", f"{by_s}s"), encoding="utf-8")
        self._more = environment

    @property
    def environment(self) -> dict[str, str]:
        """About a request a second for each workload, none for those that the twin has beside them; no cooldowns."""
        workloads = {
            name: {"replicas": count, "requests_per_s": 0.4 if name in self.workloads else 0.001}
            for name, count in self.replicas.items()
        }
        return {
            "OPTIINFRA_TWIN__WORKLOADS": json.dumps(workloads),
            "OPTIINFRA_TWIN__DAY_S": "1000000",
            "OPTIINFRA_RULES": str(self.rules),
            "OPTIINFRA_LIMITS__MIN_REPLICAS": str(FEWEST),
            "OPTIINFRA_LIMITS__MAX_REPLICAS": str(MOST),
            "OPTIINFRA_LIMITS__UP_COOLDOWN_S": "0",
            "OPTIINFRA_LIMITS__DOWN_COOLDOWN_S": "0",
            "OPTIINFRA_FLEET__ACTIONS_PER_HOUR": "10000",
        } | self._more

    async def start(self, speed: int) -> None:
        """Start it, and wait until everything works and the fleet has been seen."""
        await self.up.start("--speed", str(speed), environment=self.environment)
        await self.up.running(has("scraper", "executor", "rules", "arbiter", "reviewer", "alerts"))

    async def stop(self) -> str:
        """Ctrl-C; what it had printed. It ends cleanly."""
        process = self.up.process
        assert process is not None
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        return output.decode()

    @property
    def run(self) -> RunInfo:
        """What it wrote of itself."""
        run = self.up.state.run_info()
        assert run is not None, "it does not run"
        return run

    def now_ms(self) -> int:
        """Event time."""
        return self.run.anchor.event_ms(time.time() * 1000)

    def told(self, kind: type[M]) -> list[M]:
        """Every message of a kind that its broker holds, in the order of each partition."""
        found = admin.tail(self.run.bootstrap, BY_MESSAGE[kind].name, from_beginning=True, follow=False)
        return [seen.message for seen in found if isinstance(seen.message, kind)]

    def outcomes(self, workload: str, kind: str = "", state: EndState | None = None) -> list[Outcome]:
        """The ends of a workload's actions, each once."""
        found = {each.id: each for each in self.told(Outcome) if each.action.workload == workload}
        return [
            each for each in found.values() if kind in ("", each.action.spec.kind) and state in (None, each.end_state)
        ]

    def alerts(self) -> set[str]:
        """The names of all alerts so far."""
        return {each.name for each in self.told(Alert)}

    def unsettled(self) -> set[str]:
        """Ids of the actions that have no outcome."""
        actions = {each.id for each in self.told(Action)}  # read first: what ends meanwhile is not missed
        return actions - {each.action.id for each in self.told(Outcome)}

    async def until(self, holds: Callable[[], object], what: str, within_s: float = 60) -> None:
        """Wait until something holds. What is a plain function looks at topics, and runs in a thread; a broker that is
        away holds nothing yet."""
        deadline_s = time.monotonic() + within_s
        while True:
            with suppress(Unavailable):
                if await holds() if inspect.iscoroutinefunction(holds) else await asyncio.to_thread(holds):
                    return
            assert time.monotonic() < deadline_s, f"waited {within_s} s for {what}\n{self._story()}"
            await asyncio.sleep(0.3)

    def _story(self) -> str:
        """What was decided and done last, for whoever reads why a test failed."""
        decided, ended = (
            sorted(self.told(Decision), key=lambda d: d.at_ms),
            sorted(self.told(Outcome), key=lambda o: o.at_ms),
        )
        decisions = [f"{d.workload} {d.candidate.rule} {d.code}: {'; '.join(d.detail)}" for d in decided]
        ends = [f"{o.action.workload} {o.action.spec.kind} {o.end_state} {o.reasons}" for o in ended]
        return "\n".join([*decisions[-12:], *ends[-12:], str(sorted(self.alerts()))])

    async def ask(self, *words: str, code: int = 0) -> str:
        """A command in the directory of the `up`; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "optiinfra", *words),
            cwd=self.up.place,
            env=clean_environment() | self.environment | {"OPTIINFRA_STATE": "state"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == code, output.decode()
        return output.decode()

    async def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request to the fleet's control port, again while it is being restarted."""
        deadline_s = time.monotonic() + 60
        while True:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.request(method, f"{self.run.twin_url}{path}", json=body) as answer,
                ):
                    assert answer.status < 300, await answer.text()
                    return await answer.json()
            except (aiohttp.ClientError, OSError):
                assert time.monotonic() < deadline_s, "the twin does not answer"
                await asyncio.sleep(0.2)

    async def load(self, factor: float, *workloads: str) -> None:
        """Set the load of these workloads, by default of all."""
        for name in workloads or self.workloads:
            await self.control("PUT", f"/load/{name}", {"factor": factor})

    async def capacity(self, workload: str) -> int:
        """How many replicas serve or will."""
        seen = await self.control("GET", f"/actuation/{workload}")
        return len(seen["serving"]) + len(seen["starting"])

    async def effects(self) -> dict[str, int]:
        """How often each token changed the fleet."""
        return dict((await self.control("GET", "/actuation/effects"))["effects"])

    async def next_action(self, workload: str, kind: str, known: set[str]) -> Action:
        """The first action of this kind that is not among the known ids."""
        found: list[Action] = []

        def there() -> bool:
            found[:] = [
                each
                for each in self.told(Action)
                if each.workload == workload and each.spec.kind == kind and each.id not in known
            ]
            return bool(found)

        await self.until(there, f"a {kind} of {workload}")
        return found[0]

    async def holds(self, action: Action) -> bool:
        """Whether the ledger holds it as under way."""
        return action.id in {each.action.id for each in await self.under_way()}

    async def under_way(self) -> list[ActionRecord]:
        """What the ledger holds that has not ended."""
        async with RedisLedger(self.run.redis_url) as ledger:
            return await ledger.under_way()

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a part and to all that it runs."""
        parent = psutil.Process(self.run.pids[name])
        for each in [*parent.children(recursive=True), parent]:
            os.kill(each.pid, number)

    async def killed(self, name: str) -> None:
        """SIGKILL a part, and wait until another is there in its place."""
        before = self.run.pids[name]
        os.kill(before, signal.SIGKILL)
        await self.up.running(lambda run: run.pids.get(name, before) != before)
