"""A whole `up` that a test asks and answers, with rules that propose as soon as its load says so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from typer.testing import CliRunner

from contracts.events import Decision, Message
from contracts.topics import BY_MESSAGE
from optiinfra.cli import app
from optiinfra.statedir import RunInfo
from streams.brokers import admin
from tests.optiinfra.test_up import Up, has

M = TypeVar("M", bound=Message)

RULES = """\
pack: asked
version: 1
doc: Adds a replica while there is much to do, gives one back while there is nothing to do.

conditions:
  much: {sli: load_per_replica, window: latest, above: 5, on_missing: false, doc: Much to do.}
  little: {sli: load_per_replica, window: 10s, below: 0.5, for: 10s, on_missing: false, doc: Nothing to do.}

rules:
  more:
    version: 1
    priority: 900
    doc: Much to do asks for a replica.
    runbook: This is a test.
    cooldown: COOLDOWN
    all: [much]
    action: {kind: scale_up, replicas: 1}
    effect:
      expect: {sli: replicas_up, window: latest, at_least: {now: replicas_up, plus: replicas}}
      by: 120s
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
    cooldown: COOLDOWN
    all: [little]
    action: {kind: scale_down, replicas: 1}
    effect:
      expect: {sli: replicas_up, window: latest, at_most: {now: replicas_up, minus: replicas}}
      by: 120s
      guards: [{sli: requests_waiting, window: latest, at_most: 1}]
      settle: 10s
    tests:
      little:
        given: [{at: 0s, values: {"load_per_replica@10s": 0, replicas_up: 3}}]
        until: 60s
        expect: {fires_at: 10s, replicas: 1}
      nothing: *nothing
"""

BUSY, CALM, IDLE = 16.0, 1.0, 0.0
"""Load factors: above the rule `more`, between both rules, below the rule `less`."""


class Asked:
    """One workload, `chat`, of which something is told; the settings are further variables of the environment."""

    def __init__(self, place: Path, cooldown_s: int, settings: Mapping[str, str] | None = None) -> None:
        self.up = Up(place)
        rules = place / "rules.yaml"
        rules.write_text(RULES.replace("COOLDOWN", f"{cooldown_s}s"), encoding="utf-8")
        self.environment = {
            "OPTIINFRA_RULES": str(rules),
            "OPTIINFRA_RULE_ENGINE": "python",
            "OPTIINFRA_TWIN__DAY_S": "1000000",
            "OPTIINFRA_TWIN__WORKLOADS__CHAT__REPLICAS": "2",
            "OPTIINFRA_TWIN__WORKLOADS__CHAT__REQUESTS_PER_S": "1",
            "OPTIINFRA_TWIN__WORKLOADS__CODE__REPLICAS": "1",
            "OPTIINFRA_TWIN__WORKLOADS__CODE__REQUESTS_PER_S": "0.01",
            "OPTIINFRA_LIMITS__UP_COOLDOWN_S": "0",
            "OPTIINFRA_LIMITS__DOWN_COOLDOWN_S": "0",
            **(settings or {}),
        }

    async def start(self, *words: str, acts: bool = True) -> None:
        """Start it, and wait until everything works."""
        await self.up.start(*words, environment=self.environment)
        parts = ("scraper", "rules", "arbiter", "reviewer", "alerts", *(["executor"] if acts else []))
        await self.up.running(has(*parts))

    async def stop(self) -> str:
        """Ctrl-C; what it had printed. It ends cleanly."""
        process = self.up.process
        assert process is not None
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def ended(self) -> None:
        """Whatever a test left of it is gone."""
        process = self.up.process
        if process is not None and process.returncode is None:
            process.kill()
            await process.communicate()

    @property
    def run(self) -> RunInfo:
        """What it wrote of itself."""
        run = self.up.state.run_info()
        assert run is not None, "it does not run"
        return run

    def told(self, kind: type[M]) -> list[M]:
        """Every message of a kind that its broker holds, in the order of each partition."""
        found = admin.tail(self.run.bootstrap, BY_MESSAGE[kind].name, from_beginning=True, follow=False)
        return [seen.message for seen in found if isinstance(seen.message, kind)]

    async def until(self, holds: Callable[[], object], what: str, within_s: float = 90) -> None:
        """Wait until something holds; it runs in a thread."""
        deadline_s = time.monotonic() + within_s
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < deadline_s, f"waited {within_s} s for {what}"
            await asyncio.sleep(0.3)

    def decided(self, holds: Callable[[Decision], bool]) -> list[Decision]:
        """The decisions on `chat` of which something holds, in the order of the log."""
        return [each for each in self.told(Decision) if each.workload == "chat" and holds(each)]

    async def decision(self, holds: Callable[[Decision], bool], what: str) -> Decision:
        """The newest of them, once there is one."""
        await self.until(lambda: self.decided(holds), what)
        return self.decided(holds)[-1]

    async def ask(self, *words: str, code: int = 0) -> str:
        """A command with the state directory of the `up`; what it printed, and what it said on stderr."""
        others = {name: None for name in os.environ if name.startswith(("OPTIINFRA_", "OPENAI_"))}
        result = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            [*words, "--state", str(self.up.state.path)],
            env={**others, **self.environment},
        )
        assert result.exit_code == code, result.output
        return result.output

    async def told_of(self, *words: str) -> Any:
        """What a command says in JSON."""
        return json.loads(await self.ask(*words, "--json"))

    async def load(self, factor: float) -> None:
        """Set the load of the simulated fleet."""
        url = f"{await self.twin_url()}/load/chat"
        async with aiohttp.ClientSession() as session, session.put(url, json={"factor": factor}) as answer:
            assert answer.status < 300, await answer.text()

    async def twin_url(self) -> str:
        """The control port of the simulated fleet, once it is told."""
        await self.until(lambda: self.run.twin_url, "the address of the fleet")
        return self.run.twin_url
