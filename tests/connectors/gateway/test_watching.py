"""What gateways let through is told when it changes and once a minute; one that is away is told to people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog.testing

from connectors.gateway.client import HttpGateway
from connectors.gateway.watching import follow_gateways
from contracts.errors import Unavailable
from contracts.events import GATEWAY_CHANGE, Alert, FleetEvent, Message
from contracts.ports import GATEWAY_LIMITS, Gateway, GatewayState
from tests.connectors.gateway.proxy import proxying
from tests.connectors.twin.running import until


class Clock:
    def now_ms(self) -> int:
        return 1_000

    def wall_s(self, event_s: float) -> float:
        return event_s


class Heard:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[FleetEvent] = []
        self.alerts: list[Alert] = []

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        if isinstance(message, Alert):
            self.alerts.append(message)
        else:
            assert isinstance(message, FleetEvent)
            self.events.append(message)


async def follows(gateways: dict[str, Gateway], heard: Heard, stop: asyncio.Event) -> asyncio.Task[None]:
    return asyncio.create_task(follow_gateways(gateways, heard, Clock(), stop, poll_wall_s=0.01))


async def test_limits_that_stand_and_those_that_are_set_are_told_once_each() -> None:
    heard, stop = Heard(), asyncio.Event()
    async with (
        proxying() as proxy,
        proxying() as untouched,
        HttpGateway(proxy.url) as one,
        HttpGateway(untouched.url) as other,
        HttpGateway("http://127.0.0.1:9") as away,
    ):
        await one.write("chat", {"max_in_flight": 40}, if_version=0, note="")
        task = await follows({"gone": away, "chat": one}, heard, stop)
        idle = await follows({"chat": other}, heard, stop)

        async def told() -> bool:
            return len(heard.events) == 1

        await until(told)
        await one.write("chat", {"max_in_flight": 0}, if_version=1, note="")

        async def told_again() -> bool:
            return len(heard.events) == 2

        await until(told_again)
        proxy.broken = 500
        await asyncio.sleep(0.05)
        proxy.broken = 0
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(task, idle)
    assert [(each.name, each.workload, each.number) for each in heard.events] == [
        (GATEWAY_CHANGE, "chat", 1),
        (GATEWAY_CHANGE, "chat", 2),
    ]
    assert [each.limits["max_in_flight"] for each in heard.events] == [40, 0]
    assert "max_in_flight 40" in heard.events[0].summary


class Standing(Gateway):
    """A gateway at which nothing was ever set, that can be `away`, and counts how often it is `asked`."""

    def __init__(self) -> None:
        self.state = GatewayState(0, dict.fromkeys(GATEWAY_LIMITS, 0))
        self.away, self.asked = False, 0

    async def read(self, workload: str) -> GatewayState:
        self.asked += 1
        if self.away:
            raise Unavailable("no answer", where="gateway")
        return self.state

    async def write(self, workload: str, limits: Mapping[str, int], *, if_version: int, note: str) -> GatewayState:
        raise Unavailable("it is only read", where="gateway")


class Stuck(Standing):
    """One that never answers."""

    async def read(self, workload: str) -> GatewayState:
        self.asked += 1
        await asyncio.sleep(3600)
        return self.state


class Watch:
    """Follows a gateway by a clock of its own."""

    def __init__(self) -> None:
        self.gateway, self.heard, self.now_s = Standing(), Heard(), 100.0

    async def after(self, seconds: float) -> None:
        """So much later it has been looked at twice."""
        self.now_s += seconds
        seen = self.gateway.asked

        async def looked() -> bool:
            return self.gateway.asked >= seen + 3

        await until(looked)


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    watch, stop = Watch(), asyncio.Event()
    gateways: dict[str, Gateway] = {"stuck": Stuck(), "chat": watch.gateway}
    task = asyncio.create_task(follow_gateways(gateways, watch.heard, Clock(), stop, 0.001, lambda: watch.now_s))
    try:
        await watch.after(0)
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_stands_is_told_again_every_minute_and_a_slow_gateway_holds_up_no_other() -> None:
    async with watching() as watch:
        await watch.after(59)
        assert watch.heard.events == []
        await watch.after(1)
        await watch.after(59)
        assert len(watch.heard.events) == 1
        await watch.after(1)
        assert [each.number for each in watch.heard.events] == [0, 0]


async def test_a_gateway_that_is_away_is_logged_once_and_told_to_people_after_a_minute_and_when_it_is_back() -> None:
    with structlog.testing.capture_logs() as logs:
        async with watching() as watch:
            await watch.after(1)
            watch.gateway.away = True
            await watch.after(58)
            assert watch.heard.alerts == []
            await watch.after(5)
            await watch.after(5)
            watch.gateway.away = False
            await watch.after(1)
    assert [(each.name, each.severity, each.workload) for each in watch.heard.alerts] == [
        ("gateway_away", "warning", "chat"),
        ("gateway_back", "info", "chat"),
    ]
    assert [each["event"] for each in logs] == ["gateway_away", "gateway_back"]
