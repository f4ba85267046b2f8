"""A member of a group leaves it whatever its client is at: nothing stays open, and it says that it goes."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer

from contracts.events import WorkerState
from contracts.topics import TICKS
from optiinfra.child import ChildSpec
from streams.heartbeat import Pulse
from streams.publisher import KafkaPublisher
from streams.reader import _END_WITHIN_S, STOP_WITHIN_S, GroupReader, stopped
from tests.conftest import Broker
from tests.streams.store.sinking import heartbeats

pytestmark = pytest.mark.broker


@pytest.fixture
def name() -> str:
    return f"r-{uuid.uuid4().hex[:8]}"


async def _unknown() -> int | None:
    return None


def _reader(broker: Broker, name: str) -> GroupReader:
    return GroupReader(
        (TICKS,),
        bootstrap=broker.bootstrap,
        embedded=broker.embedded,
        group=f"optiinfra-{name}",
        worker=name,
        fetch_wait_ms=50,
    )


async def test_a_member_whose_fetches_are_cancelled_while_it_leaves_leaves_nothing_at_work_and_says_that_it_goes(
    broker: Broker, name: str
) -> None:
    broker.make_topics([name])
    reader = _reader(broker, name)
    async with KafkaPublisher(broker.bootstrap, source=name) as publisher:
        async with reader.working(publisher, Pulse(name, "test"), _unknown, 60.0):
            await reader.poll(0.1, 10)
            # What aiokafka waits for while it connects anew: its `stop` cancels one, and raises that.
            fetches = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(3)]
            reader._consumer._fetcher._pending_tasks.update(fetches)
            connections = list(reader._consumer._client._conns.values())
            assert any(each.connected() for each in connections)
        assert not any(each.connected() for each in connections)
        assert all(each.done() for each in fetches)
    assert [beat.state for beat in await heartbeats(broker, name)][-1] is WorkerState.LEAVING


async def test_a_consumer_that_does_not_stop_is_not_waited_for_and_leaves_no_connection_open(
    broker: Broker, name: str
) -> None:
    class Stuck(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka publishes no types
        async def stop(self) -> None:
            self._closed = True  # as it says of itself at once
            await asyncio.Event().wait()

    broker.make_topics([name])
    consumer = Stuck(TICKS.name, bootstrap_servers=broker.bootstrap, check_crcs=not broker.embedded)
    await consumer.start()
    connections, coordinator = list(consumer._client._conns.values()), consumer._coordinator
    assert any(each.connected() for each in connections)
    await stopped(consumer, 0.05)
    assert not any(each.connected() for each in connections)
    assert consumer._fetcher._fetch_task.done()
    await coordinator.close()


def test_a_member_has_left_before_its_process_is_killed() -> None:
    assert ChildSpec.stop_within_s > STOP_WITHIN_S + 2 * _END_WITHIN_S
