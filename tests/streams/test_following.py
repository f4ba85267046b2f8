"""Reading along: all that a topic holds, or its end, and then what comes; nothing twice, nothing missed."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from contracts.codec import Record
from contracts.errors import ConfigError, Unavailable
from contracts.events import FleetEvent
from contracts.topics import EVENTS
from streams.brokers.following import Follower, following
from tests.conftest import Broker
from tests.streams.faults import Producer

pytestmark = pytest.mark.broker


def events(workload: str, *numbers: int) -> list[FleetEvent]:
    return [FleetEvent(workload=workload, name="manual_change", number=number, at_ms=number) for number in numbers]


def sent(broker: Broker, *messages: FleetEvent | Record) -> None:
    producer = Producer(broker.bootstrap)
    for message in messages:
        if isinstance(message, Record):
            producer.raw(message)
        else:
            producer.send([message])
    producer.flush()


def numbers(found: list[object], workload: str) -> list[int]:
    return [each.number for each in found if isinstance(each, FleetEvent) and each.workload == workload]


@pytest.fixture
def workload(broker: Broker) -> str:
    broker.make_topics([])
    return f"chat-{uuid.uuid4().hex[:8]}"


async def more(log: Follower, workload: str) -> list[int]:
    while not (found := numbers([*await asyncio.to_thread(log.more, 1.0)], workload)):
        pass
    return found


async def test_what_is_there_comes_first_and_then_what_is_written(broker: Broker, workload: str) -> None:
    sent(broker, *events(workload, 1, 2, 3), Record(EVENTS.name, workload.encode(), b"{", ()))
    with following(broker.bootstrap, {EVENTS.name: None}) as log:
        sent(broker, *events(workload, 4))
        there = numbers([*await asyncio.to_thread(log.there)], workload)
        assert there[:3] == [1, 2, 3]
        later = [] if 4 in there else await more(log, workload)
        assert [*there, *later] == [1, 2, 3, 4]
        assert list(log.records(0.1)) == []
        sent(broker, *events(workload, 5))
        assert await more(log, workload) == [5]


async def test_the_end_alone_can_be_read_and_by_its_bytes_alone(broker: Broker, workload: str) -> None:
    sent(broker, *events(workload, *range(20)))
    with following(broker.bootstrap, {EVENTS.name: 3}) as log:
        wanted = await asyncio.to_thread(log.there, lambda record: b'"number":18' in record.value)
        assert numbers([*wanted], workload) == [18]
    with following(broker.bootstrap, {EVENTS.name: 0}) as log:
        sent(broker, *events(workload, 20))
        assert numbers([*await asyncio.to_thread(log.there)], workload) == []
        assert await more(log, workload) == [20]


def test_a_topic_that_is_not_there_and_a_broker_that_is_away_are_told(broker: Broker) -> None:
    with pytest.raises(ConfigError, match="no topic 'nowhere'"), following(broker.bootstrap, {"nowhere": None}):
        raise AssertionError
    with pytest.raises(Unavailable), following("127.0.0.1:1", {EVENTS.name: None}):
        raise AssertionError
