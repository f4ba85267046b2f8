"""The client of one stage: what its driver asks of it while partitions come and go, and what is left of it after."""

from __future__ import annotations

import uuid

import pytest
from aiokafka.conn import AIOKafkaConnection
from faust.types import TP

from contracts.topics import HEARTBEATS, METRICS
from streams.faust_client import StageClient
from tests.conftest import Broker
from tests.streams.counting_stage import counting_stage

pytestmark = pytest.mark.broker


@pytest.fixture
def name() -> str:
    """A stage and worker name that no other test has."""
    return f"client-{uuid.uuid4().hex[:8]}"


def client_of(broker: Broker, name: str) -> StageClient:
    return StageClient(
        counting_stage(name),
        bootstrap=broker.bootstrap,
        embedded=broker.embedded,
        worker_name=name,
        on_state=lambda *_: None,
        fetch_wait_ms=20,
        session_timeout_s=None,
    )


async def test_where_a_partition_stands_can_be_asked_when_a_rebalance_has_taken_it(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    client, never_its_own = client_of(broker, name), (HEARTBEATS.name, 0)
    await client.start()
    try:
        assert (await client.earliest(*never_its_own), await client.committed(*never_its_own)) == (0, None)
    finally:
        await client.leave()


async def test_who_asks_while_it_leaves_leaves_no_connection_open(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.make_topics([name])
    client = client_of(broker, name)
    await client.start()
    consumer, opened = client._app.consumer._thread._consumer, list[AIOKafkaConnection]()
    stop = consumer.stop

    async def stop_and_ask() -> None:
        await stop()
        await consumer.committed(TP(METRICS.name, 0))  # as a recovery does that was under way
        opened.extend(each for each in consumer._client._conns.values() if each.connected())

    monkeypatch.setattr(consumer, "stop", stop_and_ask)
    await client.leave()
    assert opened
    assert not any(each.connected() for each in opened)
