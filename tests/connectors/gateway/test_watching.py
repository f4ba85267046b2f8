"""What gateways let through is told when it changes, and of what was set before somebody looked, once."""

from __future__ import annotations

import asyncio

from connectors.gateway.client import HttpGateway
from connectors.gateway.watching import follow_gateways
from contracts.events import GATEWAY_CHANGE, FleetEvent, Message
from contracts.ports import Gateway
from tests.connectors.gateway.proxy import proxying
from tests.connectors.twin.running import until


class Clock:
    def now_ms(self) -> int:
        return 1_000


class Heard:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[FleetEvent] = []

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
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
