"""Topics are made as the table says, once; what a broker holds and a group lacks is told without joining."""

from __future__ import annotations

import uuid

import pytest

from contracts.codec import Record
from contracts.errors import ConfigError, Reason
from contracts.topics import ALERTS, METRICS, PARTITIONS, TOPICS, changelog_of, group_of
from streams.brokers import admin
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
    assert {committed for committed, _ in found.values()} == {None}
    assert sum(end for _, end in found.values()) >= 20
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
        assert {worker.process.poll()} == {None}  # asked while it works: the group did not notice


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
