"""The publisher: what it acknowledges is on the topic once and in order; a broker that is away is said to be away."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownProducerId

from contracts.errors import BadMessage, Unavailable
from contracts.events import Tick
from contracts.topics import METRICS, TICKS
from streams.brokers.admin import tail
from streams.brokers.embedded import MockCluster
from streams.publisher import KafkaPublisher
from tests.conftest import Broker
from tests.streams.counting_stage import snapshot
from tests.streams.faults import clients_work, until

pytestmark = pytest.mark.broker


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaProducer]:
    """Every producer that the test's publishers make."""
    made: list[AIOKafkaProducer] = []

    class Counted(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka publishes no types
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)
            made.append(self)

    monkeypatch.setattr("aiokafka.AIOKafkaProducer", Counted)
    return made


@pytest.fixture
async def mute() -> AsyncIterator[tuple[str, set[asyncio.StreamWriter]]]:
    """Something that takes connections and never answers: its address, and the connections open now."""
    connections: set[asyncio.StreamWriter] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            await reader.read(-1)
        finally:
            connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    server.close()
    await server.wait_closed()


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


async def test_a_broker_that_never_answers_costs_no_producer_and_no_socket(
    mute: tuple[str, set[asyncio.StreamWriter]], made: list[AIOKafkaProducer], name: str
) -> None:
    address, connections = mute
    publisher = KafkaPublisher(address, name, timeout_s=0.2)
    for _ in range(4):
        with pytest.raises(Unavailable):
            await publisher.publish(Tick(at_ms=1, partition=0))
    assert len([producer for producer in made if not producer._closed]) <= 1  # one may still be trying
    with pytest.raises(Unavailable, match="OPTIINFRA_KAFKA"):
        async with publisher:
            pytest.fail("nobody answered")
    await publisher.stop()
    assert [producer for producer in made if not producer._closed] == []
    await until(lambda: not connections)


async def test_a_publish_that_is_cancelled_leaves_the_connecting_to_the_next(
    broker: Broker, made: list[AIOKafkaProducer], name: str
) -> None:
    publisher = KafkaPublisher(broker.bootstrap, name)
    first = asyncio.create_task(publisher.publish(Tick(at_ms=1, partition=0)))
    for _ in range(5):  # turns of the event loop: it has begun to connect, and is not done
        await asyncio.sleep(0)
    assert len(made) == 1
    first.cancel()
    await publisher.publish(Tick(at_ms=2, partition=0))
    await publisher.stop()
    assert [producer._closed for producer in made] == [True]
    assert first.cancelled()


async def test_only_the_producer_that_failed_is_dropped(
    broker: Broker, made: list[AIOKafkaProducer], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two messages wait on one producer; the second hears of its failure when its successor is at work already."""
    async with KafkaPublisher(broker.bootstrap, name) as publisher:
        (old,) = made
        acks: list[asyncio.Future[None]] = []

        async def send(*_: object, **__: object) -> asyncio.Future[None]:
            acks.append(asyncio.get_running_loop().create_future())
            return acks[-1]

        monkeypatch.setattr(old, "send", send)
        early, late = (asyncio.create_task(publisher.publish(snapshot(name, "i", seq))) for seq in (1, 2))
        await until(lambda: len(acks) == 2)
        acks[0].set_exception(UnknownProducerId())
        with pytest.raises(Unavailable):
            await early
        await publisher.publish(snapshot(name, "i", 3))
        acks[1].set_exception(UnknownProducerId())
        with pytest.raises(Unavailable):
            await late
        await publisher.publish(snapshot(name, "i", 4))
        assert len(made) == 2
        assert not made[1]._closed
    assert all(producer._closed for producer in made)


async def test_a_producer_whose_sender_ends_by_its_cancellation_leaves_no_connection_open(
    broker: Broker, made: list[AIOKafkaProducer], name: str
) -> None:
    async with KafkaPublisher(broker.bootstrap, name) as publisher:
        await publisher.publish(Tick(at_ms=1, partition=0))
        (producer,) = made
        connections = list(producer.client._conns.values())
        assert any(each.connected() for each in connections)
        await producer._sender.close()
        # What the sender is while it connects anew: its end is the cancellation, and `stop` raises that.
        producer._sender._sender_task = asyncio.create_task(asyncio.sleep(3600))
    assert not any(each.connected() for each in connections)


async def test_a_publisher_that_is_left_with_a_message_by_its_broker_leaves_nothing_at_work_and_nothing_unsaid(
    name: str,
) -> None:
    async def left_alone() -> None:
        cluster = MockCluster()
        publisher = KafkaPublisher(cluster.bootstrap, name, timeout_s=0.5)
        await publisher.publish(Tick(at_ms=1, partition=0))
        assert "Sender._sender_routine" in clients_work(asyncio.all_tasks() - before)
        cluster.close()
        with pytest.raises(Unavailable):
            await publisher.publish(Tick(at_ms=2, partition=0))
        await publisher.stop()

    before, unsaid = asyncio.all_tasks(), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unsaid.append(context["message"]))
    await left_alone()
    assert clients_work(asyncio.all_tasks() - before) == []
    gc.collect()
    assert unsaid == []
