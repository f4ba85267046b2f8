"""The loop, whole: a simulated fleet is scaled up and down by rules, with no hand on it, and answers when asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from contracts.events import Alert, Decision, EndState, Message, Outcome
from contracts.topics import BY_MESSAGE
from rules.book import BUILT_IN
from streams.brokers import admin
from tests.conftest import Broker
from tests.optiinfra.test_up import Up, clean_environment, has

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.platform]

M = TypeVar("M", bound=Message)


class Loop:
    """A running `up` at fifteen times speed, its topics, and a command line beside it."""

    def __init__(self, up: Up, kafka: str | None) -> None:
        self.up, self._kafka = up, kafka
        self.rules = up.place / "rules.yaml"

    @property
    def environment(self) -> dict[str, str]:
        return {"OPTIINFRA_RULES": str(self.rules)} | ({"OPTIINFRA_KAFKA": self._kafka} if self._kafka else {})

    async def start(self) -> None:
        shutil.copy(BUILT_IN / "performance.yaml", self.rules)
        await self.up.start("--speed", "15", environment=self.environment)
        await self.up.running(has("scraper", "executor", "rules", "arbiter"))

    def told(self, kind: type[M]) -> list[M]:
        run = self.up.state.run_info()
        assert run is not None
        found = admin.tail(run.bootstrap, BY_MESSAGE[kind].name, from_beginning=True, follow=False)
        return [seen.message for seen in found if isinstance(seen.message, kind)]

    async def until(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < deadline_s, f"waited {within_s} s for {what}"
            await asyncio.sleep(0.5)

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

    def verified(self, kind: str) -> list[Outcome]:
        return [
            outcome
            for outcome in self.told(Outcome)
            if outcome.action.spec.kind == kind and outcome.end_state is EndState.VERIFIED
        ]


@pytest.fixture
async def loop(tmp_path: Path, own_broker: Broker) -> AsyncIterator[Loop]:
    made = Loop(Up(tmp_path), None if own_broker.embedded else own_broker.bootstrap)
    await made.start()
    yield made
    process = made.up.process
    if process is not None and process.returncode is None:
        process.kill()
        await process.communicate()


async def test_a_fleet_is_scaled_up_and_down_verified_and_explained(loop: Loop) -> None:
    await loop.until(lambda: bool(loop.verified("scale_up")), 150, "a verified scale-up")
    await loop.until(lambda: bool(loop.verified("scale_down")), 150, "a verified scale-down")

    [action, *_] = loop.verified("scale_up")
    story = await loop.ask("explain", action.action.id[:10])
    for part in ("proposed to add", "deterministic reviewer says approve", "approved it", "It ended: verified"):
        assert part in story
    assert "scale-down-on-slack" in await loop.ask("explain", action.action.workload, "--at", "now")
    assert action.action.decision_id[:10] in await loop.ask("decisions", "-n", "1000")
    assert "unbroken" in await loop.ask("audit", "verify")

    loop.rules.write_text(loop.rules.read_text().replace("ttft_burn_rate", "ttft_burn_rat"))
    await loop.until(lambda: "rules_refused" in {a.name for a in loop.told(Alert)}, 30, "an alert for bad rules")

    assert "heard by ledger and arbiter" in await loop.ask("kill", "--as", "ann", "--reason", "enough")
    assert "heard by ledger and arbiter" in await loop.ask("mode", "set", "all", "semi-autonomous", "--as", "ann")
    killed_from = len(loop.told(Decision))
    assert "KILL" in (await loop.ask("audit", "show")).upper()

    process = loop.up.process
    assert process is not None
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    report = loop.up.report()
    assert report["dead_letters"] == 0
    assert report["candidates"] >= 2
    assert report["decisions"]["approved"] >= 2
    assert set(report["actions"]) <= {state.value for state in EndState}
    assert report["actions"]["verified"] >= 2
    assert report["actions_under_way"] == 0
    assert all(0 < ratio <= 1 for ratio in report["slo_attainment"].values())
    assert report["latency_s"]["scrape_to_action_p99"] > 0
    assert sum(report["decisions"].values()) >= killed_from
    assert json.dumps(report)
