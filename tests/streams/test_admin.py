"""Topics are made as the table says, once; what a broker holds and a group lacks is told without joining."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import confluent_kafka
import pytest

from contracts.codec import Record
from contracts.errors import ConfigError, Reason
from contracts.topics import ALERTS, METRICS, PARTITIONS, TOPICS, changelog_of, group_of
from streams.brokers import admin
from streams.brokers.embedded import MockCluster
from tests.conftest import Broker
from tests.streams.counting_stage import snapshot
from tests.streams.faults import Producer, Worker, drained, until

pytestmark = pytest.mark.broker


@pytest.fixture
def name() -> str:
    return f"admin-{uuid.uuid4().hex[:8]}"


def test_topics_are_made_as_the_table_says_and_a_second_time_nothing_happens(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    again = admin.apply_topics(broker.bootstrap, [name])
    assert {report.outcome for report in again} == {admin.Outcome.OK}
    found = {info.name: info.partitions for info in admin.list_topics(broker.bootstrap)}
    assert {topic.name: found[topic.name] for topic in TOPICS} == {topic.name: topic.partitions for topic in TOPICS}
    assert found[changelog_of(name)] == PARTITIONS


def test_the_list_counts_what_is_held(broker: Broker, name: str) -> None:
    before = {info.name: info for info in admin.list_topics(broker.bootstrap)}[METRICS.name]
    producer = Producer(broker.bootstrap)
    producer.send(snapshot(f"{name}-{n}", "i", n) for n in range(20))
    producer.flush()
    after = {info.name: info for info in admin.list_topics(broker.bootstrap)}[METRICS.name]
    assert (after.held - before.held, sum(after.ends) - sum(before.ends)) == (20, 20)


async def test_lag_is_known_before_a_group_exists_and_is_zero_when_all_is_handled(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    producer = Producer(broker.bootstrap)
    producer.send(snapshot(f"{name}-{n}", "i", n) for n in range(20))
    producer.flush()
    found = admin.group_lag(broker.bootstrap, group_of(name), [METRICS.name])
    assert sum(end - done for done, end in found.values()) >= 20  # without a commit: all that the log still holds
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
        assert {worker.process.poll()} == {None}  # asked while it works: the group did not notice


def test_what_the_broker_dropped_is_no_lag(name: str) -> None:
    cluster = MockCluster([name])
    try:
        producer = Producer(cluster.bootstrap)
        for _ in range(10):  # the embedded broker keeps 5 MiB a partition
            producer.raw(Record(METRICS.name, b"k", bytes(900_000), ()), partition=0)
            producer.flush()
        held = sum(info.held for info in admin.list_topics(cluster.bootstrap) if info.name == METRICS.name)
        lag = admin.group_lag(cluster.bootstrap, group_of(name), [METRICS.name])
    finally:
        cluster.close()
    assert 0 < held < 10
    assert sum(end - done for done, end in lag.values()) == held


class Wavering:
    """A consumer whose group finds its coordinator at the third try, or which says so of one partition only."""

    def __init__(self, *codes: int, inside: bool) -> None:
        self._codes, self._inside = list(codes), inside

    def committed(self, parts: Sequence[Any], timeout: float) -> list[Any]:
        error = confluent_kafka.KafkaError(self._codes.pop(0)) if self._codes else None
        if error is not None and not self._inside:
            raise confluent_kafka.KafkaException(error)
        return [SimpleNamespace(topic="t", partition=0, offset=4, error=error)]


@pytest.mark.parametrize("inside", [True, False])
def test_a_group_that_looks_for_its_coordinator_is_waited_for(inside: bool) -> None:
    codes = (confluent_kafka.KafkaError.NOT_COORDINATOR, confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    (part,) = admin.committed_patiently(Wavering(*codes, inside=inside), [])
    assert part.offset == 4


def test_an_error_that_stays_is_raised_at_once() -> None:
    wavering = Wavering(confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED, inside=False)
    with pytest.raises(confluent_kafka.KafkaException):
        admin.committed_patiently(wavering, [])


def test_tail_shows_what_cannot_be_read_with_the_reason(broker: Broker, name: str) -> None:
    producer = Producer(broker.bootstrap)
    producer.raw(Record(METRICS.name, name.encode(), b"poison", ()))
    producer.send([snapshot(name, "i", 1)])
    producer.flush()
    found = admin.tail(broker.bootstrap, METRICS.name, from_beginning=True, follow=False)
    shown = [each for each in found if each.record.key == name.encode()]
    assert [each.message for each in shown] == [None, snapshot(name, "i", 1)]
    assert shown[0].problem is not None
    assert (shown[0].problem.reason, shown[0].record.value) == (Reason.MISSING_HEADER, b"poison")


def test_tail_stops_after_n_and_refuses_an_unknown_topic(broker: Broker, name: str) -> None:
    producer = Producer(broker.bootstrap)
    producer.send(snapshot(name, "i", n) for n in range(5))
    producer.flush()
    assert len(list(admin.tail(broker.bootstrap, METRICS.name, from_beginning=True, n=3))) == 3
    with pytest.raises(ConfigError, match="topics list"):
        next(admin.tail(broker.bootstrap, "no.such.topic"))
    assert admin.missing_topics(broker.bootstrap, [ALERTS.name, "no.such.topic"]) == ["no.such.topic"]
