"""The publisher: what it acknowledges is on the topic once and in order; a broker that is away is said to be away."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from contracts.errors import BadMessage, Unavailable
from contracts.events import Tick
from contracts.topics import METRICS, TICKS
from streams.brokers.admin import tail
from streams.brokers.embedded import MockCluster
from streams.publisher import KafkaPublisher
from tests.conftest import Broker
from tests.streams.counting_stage import snapshot

pytestmark = pytest.mark.broker


@pytest.fixture
def name() -> str:
    return f"publish-{uuid.uuid4().hex[:8]}"


async def test_what_is_published_is_there_once_in_order_and_says_who_wrote_it(broker: Broker, name: str) -> None:
    messages = [snapshot(name, "i", seq) for seq in range(200)]
    async with KafkaPublisher(broker.bootstrap, name, max_in_flight=10) as publisher:
        await asyncio.gather(*(publisher.publish(message, trace_id="ab" * 16) for message in messages))
    found = [
        each for each in tail(broker.bootstrap, METRICS.name, True, follow=False) if each.record.key == name.encode()
    ]
    assert [each.message for each in found] == messages
    assert {each.record.header("ce_source") for each in found} == {name}
    assert {(each.record.header("traceparent") or "")[3:35] for each in found} == {"ab" * 16}


async def test_a_tick_goes_to_its_own_partition(broker: Broker, name: str) -> None:
    async with KafkaPublisher(broker.bootstrap, name) as publisher:
        await asyncio.gather(*(publisher.publish(Tick(at_ms=7000, partition=n)) for n in range(4)))
    found = list(tail(broker.bootstrap, TICKS.name, True, follow=False))
    mine = [each for each in found if each.record.header("ce_source") == name]
    assert {each.partition: each.message for each in mine} == {n: Tick(at_ms=7000, partition=n) for n in range(4)}


async def test_a_message_too_large_is_refused_before_it_is_sent(broker: Broker, name: str) -> None:
    async with KafkaPublisher(broker.bootstrap, name) as publisher:
        fat = snapshot(name, "i", 1).model_copy(update={"problems": tuple("x" * 300_000 for _ in range(4))})
        with pytest.raises(BadMessage):
            await publisher.publish(fat)


async def test_nobody_at_the_address_is_unavailable_with_the_remedy(name: str) -> None:
    publisher = KafkaPublisher("127.0.0.1:1", name, timeout_s=1)
    with pytest.raises(Unavailable, match="OPTIINFRA_KAFKA"):
        await publisher.publish(snapshot(name, "i", 1))
    await publisher.stop()


async def test_a_broker_that_goes_away_and_comes_back_gets_the_rest(mock_cluster: MockCluster, name: str) -> None:
    async with KafkaPublisher(mock_cluster.bootstrap, name, timeout_s=1) as publisher:
        await publisher.publish(snapshot(name, "i", 1))
        mock_cluster.set_down()
        with pytest.raises(Unavailable):
            await publisher.publish(snapshot(name, "i", 2))
        mock_cluster.set_up()
        for _ in range(20):
            try:
                await publisher.publish(snapshot(name, "i", 3))
                break
            except Unavailable:
                continue
        else:
            pytest.fail("it never came back")
    found = [each.message for each in tail(mock_cluster.bootstrap, METRICS.name, True, follow=False)]
    assert [each for each in found if each != snapshot(name, "i", 2)] == [
        snapshot(name, "i", 1),
        snapshot(name, "i", 3),
    ]
