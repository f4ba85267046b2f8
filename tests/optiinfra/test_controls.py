"""A switch that a person throws is heard by whoever can be reached, the ledger first, and nobody is said to have heard
what nobody did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.ledger import RedisLedger
from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, Unavailable
from contracts.events import Control, ControlKind, Mode, Sli, SliValue
from contracts.ports import Publisher
from contracts.topics import CONTROLS
from optiinfra import controls
from optiinfra.wiring import open_publisher
from streams.brokers import admin
from tests.agents.redis_process import RedisProcess, plan_of
from tests.conftest import Broker

pytestmark = pytest.mark.broker

ANCHOR = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=1.0)
NOBODY = "127.0.0.1:1"


def made(kind: ControlKind, mode: Mode | None = None, reason: str = "incident 7") -> controls.Made:
    return lambda workload: controls.control(workload, kind, ANCHOR, actor="ann", reason=reason, mode=mode)


@pytest.fixture
async def redis_url(tmp_path: Path) -> AsyncIterator[str]:
    """A ledger that an executor has opened."""
    server = RedisProcess(plan_of("system"), tmp_path)
    try:
        await asyncio.to_thread(server.start)
        async with RedisLedger(server.url) as ledger:
            await ledger.open(expected=False, at_ms=0)
        yield server.url
    finally:
        server.kill()


@pytest.fixture
async def publisher(own_broker: Broker) -> AsyncIterator[Publisher]:
    own_broker.make_topics([])
    opened = await open_publisher(own_broker.bootstrap, "test")
    yield opened
    await opened.stop()


def on_topic(broker: Broker) -> list[tuple[str, str]]:
    tailed = admin.tail(broker.bootstrap, CONTROLS.name, from_beginning=True, follow=False)
    return sorted((each.message.workload, each.message.kind) for each in tailed if isinstance(each.message, Control))


def seen(workload: str) -> Sli:
    return Sli(
        workload=workload,
        size_s=10,
        start_ms=0,
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=9_000,
        instances=1,
        instances_up=1,
        values={"requests_per_s": SliValue(value=1.0)},
    )


async def test_a_kill_of_the_fleet_reaches_ledger_and_arbiter_and_a_resume_takes_it_back(
    own_broker: Broker, publisher: Publisher, redis_url: str
) -> None:
    for workload in ("chat", "code"):
        await publisher.publish(seen(workload))
    said = await controls.say(
        made(ControlKind.KILL), None, redis_url=redis_url, bootstrap=own_broker.bootstrap, source="test"
    )
    assert (said.workloads, said.ledger, said.topic, said.trouble) == (("chat", "code"), True, True, ())
    assert await asyncio.to_thread(on_topic, own_broker) == [("chat", "kill"), ("code", "kill")]
    async with RedisLedger(redis_url) as ledger:
        assert [(await ledger.switches(each)).killed for each in ("chat", "code", "new")] == [True, True, True]
        await controls.say(
            made(ControlKind.RESUME), None, redis_url=redis_url, bootstrap=own_broker.bootstrap, source="test"
        )
        assert [(await ledger.switches(each)).killed for each in ("chat", "code", "new")] == [False, False, False]


async def test_a_kill_holds_though_the_broker_is_away(redis_url: str) -> None:
    said = await controls.say(made(ControlKind.KILL), None, redis_url=redis_url, bootstrap=NOBODY)
    assert (said.workloads, said.ledger, said.topic) == ((), True, False)
    async with RedisLedger(redis_url) as ledger:
        assert (await ledger.switches("chat")).killed


async def test_a_word_to_one_workload_is_heard_by_the_arbiter_alone_where_there_is_no_ledger(
    own_broker: Broker, publisher: Publisher
) -> None:
    said = await controls.say(made(ControlKind.KILL), ("chatt",), redis_url="", bootstrap=own_broker.bootstrap)
    assert (said.ledger, said.topic, said.unseen) == (False, True, ("chatt",))
    again = await controls.say(made(ControlKind.KILL), ("chatt",), redis_url="", bootstrap=own_broker.bootstrap)
    assert (again.unseen, again.known) == (("chatt",), ()), "what people say makes no workload known"
    await publisher.publish(seen("chat"))
    right = await controls.say(made(ControlKind.RESUME), ("chat",), redis_url="", bootstrap=own_broker.bootstrap)
    assert (right.unseen, right.known) == ((), ("chat",))
    whole = await controls.say(made(ControlKind.RESUME), None, redis_url="", bootstrap=own_broker.bootstrap)
    assert whole.workloads == ("chat", "chatt"), "what stands for a name that nobody saw is lifted with the fleet's"
    away = await controls.say(
        made(ControlKind.KILL), ("chat",), redis_url="redis://127.0.0.1:1/0", bootstrap=own_broker.bootstrap
    )
    assert (away.ledger, away.topic, len(away.trouble)) == (False, True, 1)


async def test_what_nobody_heard_is_an_error(own_broker: Broker, publisher: Publisher) -> None:
    with pytest.raises(Unavailable, match="neither ledger nor broker answers"):
        await controls.say(made(ControlKind.KILL), None, redis_url="", bootstrap="")
    advisory = made(ControlKind.MODE, Mode.ADVISORY)
    with pytest.raises(Unavailable, match="no workload is known yet"):
        await controls.say(advisory, None, redis_url="", bootstrap=own_broker.bootstrap)
    with pytest.raises(ConfigError, match="at most 200 characters"):
        await controls.say(advisory, ("w" * 201,), redis_url="", bootstrap=own_broker.bootstrap)
    with pytest.raises(ConfigError, match="at most 1000 characters"):
        await controls.say(made(ControlKind.KILL, reason="r" * 1001), None, redis_url="", bootstrap=NOBODY)
    assert await asyncio.to_thread(on_topic, own_broker) == []


async def test_what_the_ledger_does_not_heed_is_told_with_what_to_do_and_a_kill_is_always_heeded(
    redis_url: str,
) -> None:
    def slow(kind: ControlKind) -> controls.Made:
        return lambda workload: made(kind)(workload).model_copy(update={"at_wall_ms": 1})

    await controls.say(made(ControlKind.RESUME), ("chat",), redis_url=redis_url, bootstrap=NOBODY)
    said = await controls.say(slow(ControlKind.KILL), ("chat",), redis_url=redis_url, bootstrap=NOBODY)
    assert (said.ledger, said.trouble) == (True, ())
    async with RedisLedger(redis_url) as ledger:
        assert (await ledger.switches("chat")).killed
        with pytest.raises(Unavailable, match="something newer stands, resume changed nothing there"):
            await controls.say(slow(ControlKind.RESUME), ("chat",), redis_url=redis_url, bootstrap=NOBODY)
        assert (await ledger.switches("chat")).killed
