"""A handler on a real broker: in order, nothing lost, patient while something is away, dead letters for the rest."""

from __future__ import annotations

import asyncio
import signal
import uuid

import pytest

from contracts.codec import Record, encode, trace_of
from contracts.errors import BadMessage, Reason, Unavailable
from contracts.events import FleetEvent, WorkerState
from contracts.topics import ALERTS, EVENTS
from streams.brokers.admin import tail
from streams.handler import run_handler
from streams.publisher import KafkaPublisher
from tests.conftest import Broker
from tests.streams.faults import PATIENCE_S, Producer, until
from tests.streams.handling import (
    CLOCK,
    Answering,
    answers,
    beats,
    caught_up,
    committed,
    event,
    handling,
    letters,
    life,
)

pytestmark = pytest.mark.broker


@pytest.fixture
def name() -> str:
    """Group, worker and workload of this test alone."""
    return f"handler-{uuid.uuid4().hex[:8]}"


def send(broker: Broker, workload: str, numbers: range) -> None:
    producer = Producer(broker.bootstrap)
    producer.send(event(workload, number) for number in numbers)
    producer.flush()


async def test_messages_are_handled_in_order_and_answered(broker: Broker, name: str) -> None:
    handler = Answering(name)
    send(broker, name, range(100))
    async with handling(broker, name, handler):
        await until(lambda: len(answers(broker, name)) == 100)
    assert handler.given == list(range(100))
    assert answers(broker, name) == list(range(100))


async def test_an_answer_stays_in_the_trace_of_its_question(broker: Broker, name: str) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    producer = Producer(broker.bootstrap)
    producer.raw(encode(event(name, 0), source="test", trace_id=trace_id))
    producer.flush()
    async with handling(broker, name, Answering(name)):
        await until(lambda: bool(answers(broker, name)))
    found = tail(broker.bootstrap, ALERTS.name, from_beginning=True, follow=False)
    (record,) = [each.record for each in found if each.record.key == name.encode()]
    assert trace_of(record) == trace_id


async def test_a_new_run_goes_on_where_the_group_stood(own_broker: Broker, name: str) -> None:
    broker = own_broker  # on a shared one other tests leave what cannot be read
    broker.make_topics([])
    for turn in range(2):
        handler, numbers = Answering(name), range(20 * turn, 20 * turn + 20)
        send(broker, name, numbers)
        async with handling(broker, name, handler):
            await until(lambda most=numbers.stop: len(answers(broker, name)) == most)  # type: ignore[misc]
        assert handler.given == list(numbers)
    states = [beat.state for beat in beats(broker, name) if beat.state is not WorkerState.WORKING]
    assert states == [WorkerState.STARTING, WorkerState.LEAVING] * 2
    last = beats(broker, name)[-1]
    assert (last.kind, last.emitted, last.dead_letters) == (f"handler:{name}", 20, 0)


class Away(Answering):
    """Needs something that is away for the first `times` tries of one event."""

    def __init__(self, workload: str, number: int, times: int) -> None:
        super().__init__(workload)
        self.number, self.times = number, times

    async def work(self, message: FleetEvent) -> None:
        if message.number == self.number and self.given.count(self.number) <= self.times:
            raise Unavailable("away")


async def test_what_is_away_is_waited_for_and_nothing_overtakes(broker: Broker, name: str) -> None:
    handler = Away(name, 3, times=6)
    send(broker, name, range(10))
    async with handling(broker, name, handler):
        await until(lambda: len(answers(broker, name)) == 10)
    assert handler.given == [0, 1, 2, *[3] * 7, *range(4, 10)]
    assert letters(broker, name) == []


async def test_a_worker_that_waits_longer_than_its_session_keeps_its_place(broker: Broker, name: str) -> None:
    """The embedded broker takes a silent member for dead after 3 s, Kafka after 6."""
    handler = Away(name, 0, times=75)
    send(broker, name, range(3))
    async with handling(broker, name, handler):
        await until(lambda: len(answers(broker, name)) == 3)
    assert handler.given == [*[0] * 76, 1, 2]


async def test_an_answer_that_the_broker_does_not_take_is_sent_again_and_the_work_not_redone(
    broker: Broker, name: str
) -> None:
    handler = Answering(name)
    send(broker, name, range(5))
    async with handling(broker, name, handler, refusals=4):
        await until(lambda: len(answers(broker, name)) == 5)
    assert handler.given == list(range(5))
    assert answers(broker, name) == list(range(5))


class Failing(Answering):
    async def work(self, message: FleetEvent) -> None:
        if message.number == 1:
            raise BadMessage(Reason.UNDELIVERED, "nobody took it")
        if message.number == 3:
            raise ZeroDivisionError("seven by nought")


async def test_what_cannot_be_handled_is_a_dead_letter_and_the_rest_goes_on(broker: Broker, name: str) -> None:
    handler = Failing(name)
    producer = Producer(broker.bootstrap)
    producer.send(event(name, number) for number in range(4))
    producer.raw(Record(EVENTS.name, name.encode(), b"{not json", (("ce_type", EVENTS.message.TYPE.encode()),)))
    producer.send([event(name, 4)])
    producer.flush()
    async with handling(broker, name, handler):
        await until(lambda: answers(broker, name) == [0, 2, 4])
        await until(lambda: any(beat.dead_letters >= 3 for beat in beats(broker, name)))
        await until(lambda: caught_up(broker, name))  # with what other tests left on the topic, too
    found = {letter.reason: letter for letter in letters(broker, name)}
    assert found.keys() == {Reason.UNDELIVERED, Reason.HANDLER_FAILED, Reason.NOT_JSON}
    assert "ZeroDivisionError: seven by nought" in found[Reason.HANDLER_FAILED].detail
    assert found[Reason.HANDLER_FAILED].topic == EVENTS.name
    assert found[Reason.UNDELIVERED].offset >= 0


class Gated(Answering):
    """Holds some events until their gate opens; `most` is the largest number in hand at once."""

    def __init__(self, workload: str, *held: int) -> None:
        super().__init__(workload)
        self.gates = {number: asyncio.Event() for number in held}
        self.in_hand = self.most = 0

    async def work(self, message: FleetEvent) -> None:
        self.in_hand += 1
        self.most = max(self.most, self.in_hand)
        if message.number in self.gates:
            await self.gates[message.number].wait()
        self.in_hand -= 1


async def test_messages_are_in_hand_together_up_to_the_concurrency(broker: Broker, name: str) -> None:
    handler = Gated(name, *range(6))
    send(broker, name, range(6))
    async with handling(broker, name, handler, concurrency=3):
        await until(lambda: len(handler.given) == 3)
        for gate in handler.gates.values():
            gate.set()
        await until(lambda: sorted(answers(broker, name)) == list(range(6)))
    assert handler.most == 3


async def test_nothing_is_committed_past_a_message_that_is_not_done(broker: Broker, name: str) -> None:
    handler = Gated(name, 2)
    before = committed(broker, name)  # on a broker that lasts, others have written to this topic
    send(broker, name, range(40))
    async with handling(broker, name, handler, concurrency=4) as running:
        await until(lambda: len(answers(broker, name)) == 39)
        await until(lambda: committed(broker, name) > before)
        await asyncio.sleep(0.6)  # longer than a commit takes to come
        assert not caught_up(broker, name)
        running.cancel()
    again = Answering(name)
    async with handling(broker, name, again, concurrency=4):
        await until(lambda: caught_up(broker, name))
    assert again.given == list(range(2, 40))


async def test_a_clean_stop_finishes_what_is_in_hand(broker: Broker, name: str) -> None:
    handler = Gated(name, 0)
    send(broker, name, range(3))
    async with handling(broker, name, handler):
        await until(lambda: handler.given == [0])
        asyncio.get_running_loop().call_later(0.3, handler.gates[0].set)
    again = Answering(name)
    async with handling(broker, name, again):
        await until(lambda: caught_up(broker, name))
    assert again.given == [1, 2]
    assert answers(broker, name) == [0, 1, 2]


async def test_a_stop_does_not_wait_for_what_is_away_and_the_next_run_handles_it(broker: Broker, name: str) -> None:
    handler = Away(name, 0, times=10**9)
    send(broker, name, range(3))
    async with handling(broker, name, handler):
        await until(lambda: len(handler.given) >= 3)
    again = Answering(name)
    async with handling(broker, name, again):
        await until(lambda: caught_up(broker, name))
    assert again.given == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", ["1", "3"])
async def test_killed_in_the_middle_it_loses_nothing(broker: Broker, name: str, concurrency: str) -> None:
    """Three lives end by SIGKILL, in the middle of an event or between an answer and its commit."""
    workloads = [f"{name}-{n}" for n in range(4)]
    for workload in workloads:
        send(broker, workload, range(200))
    for point, after in (("--die-handling", "150"), ("--die-published", "100"), ("--die-handling", "350")):
        with life(broker, name, workloads, "--concurrency", concurrency, point, after) as mortal:
            assert await asyncio.to_thread(mortal.wait, PATIENCE_S) == -signal.SIGKILL
    assert not caught_up(broker, name)
    with life(broker, name, workloads, "--concurrency", concurrency) as last:
        await until(lambda: caught_up(broker, name))
        last.terminate()
        assert await asyncio.to_thread(last.wait, PATIENCE_S) == 0
    for workload in workloads:
        first_times = list(dict.fromkeys(answers(broker, workload)))
        assert sorted(first_times) == list(range(200))
        if concurrency == "1":
            assert first_times == list(range(200))


async def test_an_answer_too_large_for_the_broker_is_a_dead_letter(broker: Broker, name: str) -> None:
    async def shouting(message: object) -> list[FleetEvent]:
        assert isinstance(message, FleetEvent)
        return [message.model_copy(update={"summary": "x" * 2_000_000})] if message.workload == name else []

    send(broker, name, range(1))
    async with handling(broker, name, shouting):
        await until(lambda: bool(letters(broker, name)))
    (letter,) = letters(broker, name)
    assert letter.reason is Reason.TOO_LARGE


async def test_a_broker_that_is_not_there_is_unavailable_with_a_fix(broker: Broker, name: str) -> None:
    async with KafkaPublisher(broker.bootstrap, name) as publisher:
        with pytest.raises(Unavailable, match="optiinfra doctor"):
            await run_handler(
                name,
                (EVENTS,),
                Answering(name),
                bootstrap="127.0.0.1:1",
                embedded=True,
                publisher=publisher,
                clock=CLOCK,
                worker=name,
                stop=asyncio.Event(),
            )
