"""The driver of stages on a broker: nothing is lost or counted twice, whatever is thrown at it and whenever it dies."""

from __future__ import annotations

import asyncio
import base64
import random
import time
import uuid
from functools import partial

import pytest

from contracts.clock import ClockAnchor, EventClock
from contracts.codec import Record, encode
from contracts.errors import OptiInfraError, Reason
from contracts.events import Alert, Heartbeat, Message, Tick, WorkerState
from contracts.topics import ALERTS, HEARTBEATS, METRICS, TICKS, changelog_of, group_of
from streams.brokers.admin import tail
from streams.brokers.embedded import MockCluster
from streams.faust_client import StageClient
from streams.faust_driver import StageDriver
from streams.offset_gap import OffsetGap
from tests.conftest import Broker
from tests.streams.counting_stage import counting_stage, expected, snapshot
from tests.streams.faults import Feeder, Producer, Worker, dead_letters, drained, once, outputs, until

pytestmark = pytest.mark.broker

POINTS = ("outputs_sent", "outputs_acked", "state_sent", "state_acked", "settled")


@pytest.fixture
def name() -> str:
    """A stage, worker and workload name that no other test has."""
    return f"count-{uuid.uuid4().hex[:8]}"


def scrapes(name: str, count: int, instances: int = 6) -> list[Message]:
    """Scrapes of several instances of several workloads, with repeats and a late one now and then."""
    chance = random.Random(7)
    fresh = [snapshot(f"{name}-{n % 3}", f"{name}/{n % instances}", n // instances) for n in range(count)]
    mixed: list[Message] = []
    for number, message in enumerate(fresh):
        mixed.append(message)
        if chance.random() < 0.05:
            mixed.append(fresh[chance.randrange(number + 1)])
    return mixed


def mine(found: dict[str, list[Message]], name: str) -> dict[str, list[Message]]:
    return {instance: messages for instance, messages in found.items() if instance.startswith(name)}


@pytest.mark.slow
async def test_a_worker_killed_again_and_again_puts_out_what_the_pure_fold_does(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    messages, chance = scrapes(name, 3000), random.Random(11)

    def more_than(before: int) -> bool:
        return len(outputs(broker, name)) > before

    for first in range(0, len(messages), 700):
        before = len(outputs(broker, name))
        feeder = Feeder(broker.bootstrap, messages[first : first + 700], per_s=150)
        feeder.start()
        with Worker(broker, name) as worker:
            await until(partial(more_than, before), worker)
            await asyncio.sleep(chance.random() * 0.4)
            worker.kill()
        await asyncio.to_thread(feeder.join)
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
    assert mine(once(outputs(broker, name)), name) == expected(messages)


@pytest.mark.slow
async def test_a_kill_between_any_two_acts_loses_nothing(broker: Broker, name: str) -> None:
    stages = {point: f"{name}-{point}" for point in POINTS}
    broker.make_topics(list(stages.values()))
    producer, messages = Producer(broker.bootstrap), scrapes(name, 300)
    producer.send(messages[:150])
    producer.flush()

    async def killed_at(point: str) -> dict[str, list[Message]]:
        stage = stages[point]
        with Worker(broker, stage, "--crash-at", point) as worker:
            assert await asyncio.to_thread(worker.process.wait, 60) == -9
        producer.send(messages[150:] if point == POINTS[0] else [])
        producer.flush()
        with Worker(broker, stage) as worker:
            await until(lambda: len(mine(once(outputs(broker, stage)), name)) == 6, worker)
            await until(lambda: drained(broker, group_of(stage), METRICS.name), worker)
        return mine(once(outputs(broker, stage)), name)

    found = [await killed_at(POINTS[0])]
    found += await asyncio.gather(*(killed_at(point) for point in POINTS[1:]))
    wanted = expected(messages)
    assert [point for point, each in zip(POINTS, found, strict=True) if each != wanted] == []


async def test_what_cannot_be_read_is_dead_lettered_with_its_bytes_and_the_rest_goes_on(
    broker: Broker, name: str
) -> None:
    broker.make_topics([name])
    good = encode(snapshot(name, f"{name}/0", 1), source="test")
    newer = tuple((k, b"optiinfra.metrics.v2" if k == "ce_type" else v) for k, v in good.headers)
    bad = {
        Reason.MISSING_HEADER: Record(METRICS.name, b"k", b"\x00\xff poison", ()),
        Reason.UNKNOWN_VERSION: Record(METRICS.name, b"k", b'{"from": "the future"}', newer),
        Reason.NOT_JSON: Record(METRICS.name, b"k", b"{", good.headers),
        Reason.SCHEMA: Record(METRICS.name, b"k", b"{}", good.headers),
    }
    producer = Producer(broker.bootstrap)
    for record in bad.values():
        producer.raw(record)
    producer.raw(Record(TICKS.name, b"0", b"no tick", ()), partition=0)
    producer.raw(good)
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: bool(mine(once(outputs(broker, name)), name)), worker)
        await until(lambda: drained(broker, group_of(name), TICKS.name), worker)
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
    letters = dead_letters(broker, name)
    of_metrics = {each.reason: base64.b64decode(each.raw_base64) for each in letters if each.topic == METRICS.name}
    assert {reason: of_metrics.get(reason) for reason in bad} == {reason: each.value for reason, each in bad.items()}
    assert b"no tick" in {base64.b64decode(each.raw_base64) for each in letters if each.topic == TICKS.name}


async def test_a_step_that_raises_costs_one_message_and_a_fat_state_the_message_that_made_it_fat(
    broker: Broker, name: str
) -> None:
    broker.make_topics([name])
    bad = {1: "raise", 3: "fat", 5: "fat"}  # one fat message fits, the second makes 1.2 MB of state
    messages = [snapshot(name, f"{name}/0", seq, error=bad.get(seq)) for seq in range(8)]
    producer = Producer(broker.bootstrap)
    producer.send(messages)
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
    kept = [message for seq, message in enumerate(messages) if seq not in (1, 5)]
    assert mine(once(outputs(broker, name)), name) == expected(kept)
    letters = [each for each in dead_letters(broker, name) if each.message_key == name]
    assert [each.reason for each in letters] == [Reason.STEP_FAILED, Reason.STATE_TOO_LARGE]
    assert "ZeroDivisionError" in letters[0].detail


async def test_an_output_carries_the_trace_of_the_record_that_caused_it(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    messages = [snapshot(name, f"{name}/0", seq) for seq in range(5)]
    producer = Producer(broker.bootstrap)
    producer.send(messages)
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: len(mine(once(outputs(broker, name)), name).get(f"{name}/0", [])) == 5, worker)
    of_this = [each for each in outputs(broker, name) if each.message and each.message.key == name]
    traces = [(each.record.header("traceparent") or "").split("-")[1] for each in of_this]
    assert traces == [message.id for message in messages]


async def test_after_an_outage_ticks_wait_until_the_data_before_them_has_come(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    producer, count = Producer(broker.bootstrap), 1500
    begin_ms = 1_000_000_000_000  # later than what other tests leave on the topics
    at_ms = [begin_ms + 1000 * seq for seq in range(count)]
    for number in range(4):  # the ticks are all there before the data, as the worker finds them after an outage
        for at in at_ms[::100]:
            producer.raw(encode(Tick(at_ms=at, partition=number), source="test"), partition=number)
    producer.flush()
    producer.send(snapshot(name, f"{name}/0", seq, at) for seq, at in enumerate(at_ms))
    producer.flush()
    with Worker(broker, name, "--ticking") as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
        await until(lambda: drained(broker, group_of(name), TICKS.name), worker)
    found = mine(once(outputs(broker, name)), name)[f"{name}/0"]
    ticked = {each.at: each.model_dump()["scrapes"] for each in found if each.key == "ticked"}
    # Never before the scrapes that precede it; the first may find no state and then is nobody's.
    early = {seq: ticked.get(at_ms[seq]) for seq in range(100, count, 100) if ticked.get(at_ms[seq], 0) < seq}
    assert early == {}


async def test_a_worker_beats_and_commits_before_it_leaves(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    producer = Producer(broker.bootstrap)
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
        producer.send([snapshot(name, f"{name}/0", 1)])
        producer.flush()
        await until(lambda: bool(mine(once(outputs(broker, name)), name)), worker)
        assert await asyncio.to_thread(worker.terminate) == 0
    assert drained(broker, group_of(name), METRICS.name)
    found = tail(broker.bootstrap, HEARTBEATS.name, from_beginning=True, follow=False)
    beats = [each.message for each in found if each.message is not None and each.message.key == name]
    last = beats[-1]
    assert isinstance(last, Heartbeat)
    assert last.state is WorkerState.LEAVING
    assert last.handled >= 1
    assert last.lag == 0


async def test_a_worker_whose_broker_is_away_at_the_start_says_so_and_ends(name: str) -> None:
    nobody = Broker("127.0.0.1:1", True, lambda stages: None)
    with Worker(nobody, name) as worker:
        assert await asyncio.to_thread(worker.process.wait, 60) == 3


@pytest.mark.slow
async def test_a_worker_whose_broker_goes_away_ends_and_its_successor_carries_on(
    mock_cluster: MockCluster, name: str
) -> None:
    broker = Broker(mock_cluster.bootstrap, True, mock_cluster.make_topics)
    broker.make_topics([name])
    producer, messages = Producer(broker.bootstrap), scrapes(name, 200)
    producer.send(messages[:100])
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: bool(outputs(broker, name)), worker)
        mock_cluster.set_down()
        assert await asyncio.to_thread(worker.process.wait, 60) != 0
    mock_cluster.set_up()
    producer.send(messages[100:])
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
    assert mine(once(outputs(broker, name)), name) == expected(messages)


async def test_state_comes_back_from_the_changelog_and_what_was_forgotten_does_not(broker: Broker, name: str) -> None:
    broker.make_topics([name])
    messages = [snapshot(name, f"{name}/{seq % 2}", seq, error="forget" if seq == 28 else None) for seq in range(60)]
    producer = Producer(broker.bootstrap)
    for part in (messages[:30], messages[30:]):
        producer.send(part)
        producer.flush()
        with Worker(broker, name) as worker:
            await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
            assert await asyncio.to_thread(worker.terminate) == 0
    assert mine(once(outputs(broker, name)), name) == expected(messages)
    written = tail(broker.bootstrap, changelog_of(name), from_beginning=True, follow=False)
    keys = {counting_stage(name).state_key(message) for message in messages}
    assert {each.record.key.decode() for each in written} >= keys


async def test_what_the_broker_dropped_unread_is_an_alarm_and_the_rest_is_handled(
    mock_cluster: MockCluster, name: str
) -> None:
    broker = Broker(mock_cluster.bootstrap, True, mock_cluster.make_topics)
    broker.make_topics([name])
    producer = Producer(broker.bootstrap)
    producer.send([snapshot(name, f"{name}/0", 0)])
    producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
        assert await asyncio.to_thread(worker.terminate) == 0
    heavy = [snapshot(name, f"{name}/0", seq).model_copy(update={"problems": ("x" * 200_000,)}) for seq in range(1, 61)]
    for message in heavy:  # 12 MB where 5 MiB are kept; each in a batch of its own, since batches are what is dropped
        producer.send([message])
        producer.flush()
    with Worker(broker, name) as worker:
        await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
    (alert,) = [each.message for each in tail(broker.bootstrap, ALERTS.name, from_beginning=True, follow=False)]
    assert isinstance(alert, Alert)
    handled = [message for messages in once(outputs(broker, name)).values() for message in messages]
    lost = len(heavy) + 1 - len(handled)
    assert lost > 0
    assert (alert.name, f"lost {lost} messages" in alert.summary) == ("offset_gap", True)


@pytest.mark.parametrize(("earliest", "held"), [(0, "5 to 8"), (7, "7 to 8"), (9, None), (12, None)])
async def test_what_the_client_skipped_while_the_broker_has_it_ends_the_worker(
    name: str, earliest: int, held: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> int:
        return earliest

    monkeypatch.setattr(StageClient, "earliest", asked)
    gap = OffsetGap(METRICS.name, 0, expected=5, lost=4)
    driver = StageDriver(
        counting_stage(name),
        bootstrap="127.0.0.1:1",
        embedded=True,
        clock=EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), time.time, time.monotonic),
        worker_name=name,
        on_alert=lambda _: None,
        checkpoint=lambda _: None,
        fetch_wait_ms=20,
        session_timeout_s=None,
    )
    if held is None:
        assert await driver._checked(gap) == gap
    else:
        with pytest.raises(OptiInfraError, match=f"skipped offsets {held} of"):
            await driver._checked(gap)


async def test_a_worker_without_its_topics_says_which_and_ends(mock_cluster: MockCluster, name: str) -> None:
    with Worker(Broker(mock_cluster.bootstrap, True, mock_cluster.make_topics), name) as worker:
        assert await asyncio.to_thread(worker.process.wait, 60) == 2
