"""A member of a group leaves it whatever its client is at: nothing stays open, and it says that it goes."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from contracts.events import WorkerState
from contracts.topics import TICKS
from optiinfra.child import ChildSpec
from streams.heartbeat import Pulse
from streams.leaving import END_WITHIN_S, consumer_stopped
from streams.publisher import KafkaPublisher
from streams.reader import STOP_WITHIN_S, GroupReader
from tests.conftest import Broker
from tests.streams.faults import clients_work
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


async def test_a_member_that_cannot_leave_is_not_waited_for_and_leaves_nothing_at_work(
    broker: Broker, name: str
) -> None:
    class Stuck(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
        """One whose partitions are never given back: `stop` waits for it."""

        def __init__(self) -> None:
            self.asked = asyncio.Event()

        async def on_partitions_revoked(self, revoked: object) -> None:
            if revoked:
                self.asked.set()
                await asyncio.Event().wait()

        async def on_partitions_assigned(self, assigned: object) -> None:
            pass

    broker.make_topics([name])
    before, stuck = asyncio.all_tasks(), Stuck()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        group_id=f"optiinfra-{name}",
        check_crcs=not broker.embedded,
        heartbeat_interval_ms=100,
    )
    consumer.subscribe([TICKS.name], listener=stuck)
    await consumer.start()
    while not consumer.assignment():
        await consumer.getmany(timeout_ms=50)
    connections = list(consumer._client._conns.values())
    assert any(each.connected() for each in connections)
    consumer._coordinator._rejoin_needed_fut.set_result(None)
    await stuck.asked.wait()
    await consumer_stopped(consumer, 0.05)
    await asyncio.sleep(0.3)  # three heartbeats: one that went on would have connected again
    assert not any(each.connected() for each in (*connections, *consumer._client._conns.values()))
    assert clients_work(asyncio.all_tasks() - before) == []


def test_a_member_has_left_before_its_process_is_killed() -> None:
    assert ChildSpec.stop_within_s > STOP_WITHIN_S + 3 * END_WITHIN_S
