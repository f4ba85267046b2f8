"""A twin process that is killed in mid-work goes on, when it is started again, as a cloud would: nothing twice, nothing
forgotten."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from connectors.twin.controller import TwinController
from contracts.errors import Conflict, Unavailable
from contracts.events import PlanStep, StepKind
from contracts.ports import StepState
from tests.connectors.twin.running import until

ROOT = Path(__file__).parents[3]
ADD = PlanStep(kind=StepKind.ADD)
SPEED = 20


class TwinProcess:
    """A twin that can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.anchor_ms, self.port = folder, int(time.time() * 1000), 0

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.connectors.twin.twin_process",
            *map(str, (self.folder, self.port, SPEED, self.anchor_ms, self.anchor_ms)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = ""
        while not line.startswith("ready "):
            line = (await self.process.stdout.readline()).decode()
            assert line, "it ended before it was ready"
        self.url = line.split()[1]
        self.port = int(self.url.rsplit(":", 1)[1])

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


async def ended(controller: TwinController, token: str) -> StepState:
    async def over() -> bool:
        return (await controller.inspect(token)).state is not StepState.RUNNING

    await until(over)
    return (await controller.inspect(token)).state


async def test_a_twin_killed_while_orders_run_goes_on_with_them(tmp_path: Path) -> None:
    twin = TwinProcess(tmp_path)
    await twin.start()
    try:
        async with TwinController(twin.url) as controller:
            await controller.apply("chat", ADD, "t1", 4)
            assert await ended(controller, "t1") is StepState.DONE
            await controller.apply("chat", PlanStep(kind=StepKind.DRAIN, subject="chat-0"), "t2", 4)
            await controller.undo("chat", ADD, "t1", "t3", 4)
            await controller.apply("chat", ADD, "t4", 4)
            await twin.kill()
            with pytest.raises(Unavailable):
                await controller.observe("chat")
            with (tmp_path / "journal.jsonl").open("ab") as file:
                file.write(b'{"tokens":{"t9":{"workload":"chat","kind":"add"')
            await twin.start()
            assert [await ended(controller, token) for token in ("t2", "t3", "t4")] == [StepState.DONE] * 3
            assert (await controller.inspect("t9")).state is StepState.UNKNOWN
            seen = await controller.observe("chat")
            assert (seen.serving, seen.draining) == (("chat-1", "chat-3"), ("chat-0",))
            with pytest.raises(Conflict):
                await controller.apply("chat", ADD, "t5", 3)
            await controller.apply("chat", ADD, "t5", 4)
            assert (await controller.inspect("t5")).subject == "chat-4"
    finally:
        await twin.kill()


async def order_all(url: str, tokens: list[str], answered: set[str]) -> None:
    """Give an order under each token at once, and note which were answered; a killed twin answers no more."""
    async with TwinController(url, timeout_s=5.0) as controller:

        async def order(token: str) -> None:
            with suppress(Unavailable):
                await controller.apply("chat", ADD, token, 1)
                answered.add(token)

        await asyncio.gather(*(order(token) for token in tokens))


async def test_a_caller_who_repeats_through_kills_at_any_moment_has_each_effect_once(tmp_path: Path) -> None:
    twin, answered, tokens = TwinProcess(tmp_path), set[str](), list[str]()
    await twin.start()
    try:
        for kill_after in (1, 3, 6, 10):
            tokens += [f"t{len(tokens) + n}" for n in range(10)]
            in_doubt, before = [t for t in tokens if t not in answered], len(answered)
            work = asyncio.create_task(order_all(twin.url, in_doubt, answered))
            while len(answered) < before + kill_after:  # noqa: ASYNC110  # watches a set that another task fills
                await asyncio.sleep(0)
            await twin.kill()
            await work
            await twin.start()
            async with TwinController(twin.url) as controller:
                for token in answered:
                    assert (await controller.inspect(token)).subject, "what was answered is not forgotten"
        await order_all(twin.url, tokens, answered)
        async with TwinController(twin.url) as controller:
            made = [(await controller.inspect(token)).subject for token in tokens]
            seen = await controller.observe("chat")
    finally:
        await twin.kill()
    assert sorted(made) == sorted(f"chat-{number}" for number in range(2, 42))
    assert len(seen.serving) + len(seen.starting) == 42
