"""What runs in the processes of a scene: a real executor, and a real simulated fleet."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import redis
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
from tests.agents.fakes import StillClock
from tests.agents.saga_help import MAX_AGE_S, WORKLOAD

MESSAGES: dict[str, type[Message]] = {each.TYPE: each for each in (Action, Alert, AuditEntry, Outcome, Sli, Tick)}
SPEED = 50.0
LEASE_S = 0.2
FLEET = (WorkloadSpec(WORKLOAD, "a/model", 3, LoadSpec(0.02, day_s=600), startup_s=2.0),)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.agents.executor_process"])


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
    clock, kill, empty = StillClock(), dict[str, int](), {"at": ""}

    class Pipe:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            if isinstance(message, Outcome):
                log.append(message)
            pipe.send({"type": message.TYPE, "body": message.model_dump_json(), "id": message.id})

    def checkpoint(name: str) -> None:
        pipe.send({"passed": name})
        if name == empty["at"]:
            empty["at"] = ""
            with redis.Redis.from_url(orders.redis_url, socket_timeout=5) as client:
                client.flushall()
        if name in kill:
            pid = kill.pop(name)
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
            if "empty" in told:
                empty["at"] = told["empty"]
                continue
            if "kill" in told:
                kill = {told["kill"]: told["pid"]}
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
