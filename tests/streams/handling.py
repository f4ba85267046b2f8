"""What the tests of handlers share: events to handle, a handler that answers each with an alert, and what came out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import Unavailable
from contracts.events import Alert, DeadLetter, FleetEvent, Heartbeat, Message, Severity
from contracts.ports import Handler
from contracts.topics import ALERTS, DEADLETTER, EVENTS, HEARTBEATS, Topic, group_of
from streams.brokers.admin import Tailed, group_lag, tail
from streams.handler import HandlerOptions, run_handler
from streams.publisher import KafkaPublisher
from tests.conftest import Broker
from tests.streams.faults import ROOT

CLOCK = EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=1_700_000_000_000), lambda: 0.0, lambda: 0.0)


def options(session_timeout_s: float | None = None) -> HandlerOptions:
    """Short waits."""
    return HandlerOptions(retry_first_s=0.02, retry_most_s=0.1, heartbeat_s=0.2, session_timeout_s=session_timeout_s)


def event(workload: str, number: int) -> FleetEvent:
    """Dated before what other tests write: on a broker that lasts, answers are not the newest alerts there are."""
    return FleetEvent(workload=workload, name="manual_change", number=number, at_ms=1_600_000_000_000 + number)


def answer(message: FleetEvent) -> Alert:
    """An alert whose subject is the event's number."""
    return Alert(
        workload=message.workload,
        name="handled",
        severity=Severity.INFO,
        subject=str(message.number),
        at_ms=message.at_ms,
        summary="handled",
    )


class Answering:
    """A handler that answers the events of its workloads, and remembers what it was given, in order."""

    def __init__(self, *workloads: str) -> None:
        self.workloads = workloads
        self.given: list[int] = []

    async def __call__(self, message: Message) -> Sequence[Message]:
        assert isinstance(message, FleetEvent)
        if message.workload not in self.workloads:
            return []  # another test's, on a broker that lasts
        self.given.append(message.number)
        await self.work(message)
        return [answer(message)]

    async def work(self, message: FleetEvent) -> None:
        """What a test makes of it."""


class Shaky(KafkaPublisher):
    """The publisher that runs in earnest, and refuses the next `refusals` alerts as if the broker were away."""

    refusals = 0

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        if isinstance(message, Alert) and self.refusals:
            self.refusals -= 1
            raise Unavailable("away")
        await super().publish(message, trace_id=trace_id)


@asynccontextmanager
async def handling(
    broker: Broker, name: str, handler: Handler, *, concurrency: int = 1, refusals: int = 0, worker: str | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs meanwhile and is stopped cleanly; `name` is its group and, by default, its worker."""
    stop = asyncio.Event()
    async with Shaky(broker.bootstrap, name) as publisher:
        publisher.refusals = refusals
        running = asyncio.create_task(
            run_handler(
                name,
                (EVENTS,),
                handler,
                bootstrap=broker.bootstrap,
                embedded=broker.embedded,
                publisher=publisher,
                clock=CLOCK,
                worker=worker or name,
                stop=stop,
                concurrency=concurrency,
                options=options(),
            )
        )
        try:
            yield running
        finally:
            stop.set()
            await asyncio.wait([running])
            if not running.cancelled():
                running.result()


def _all(broker: Broker, topic: Topic) -> Iterable[Tailed]:
    return tail(broker.bootstrap, topic.name, from_beginning=True, follow=False)


def answers(broker: Broker, workload: str) -> list[int]:
    """The numbers of the events answered so far, in the order of the log, repeats included."""
    found = [each.message for each in _all(broker, ALERTS)]
    return [int(m.subject) for m in found if isinstance(m, Alert) and m.workload == workload and m.name == "handled"]


def letters(broker: Broker, name: str) -> list[DeadLetter]:
    """The dead letters that a handler wrote about events of its own workload."""
    found = [each.message for each in _all(broker, DEADLETTER)]
    return [m for m in found if isinstance(m, DeadLetter) and m.source == m.message_key == name]


def beats(broker: Broker, worker: str) -> list[Heartbeat]:
    found = [each.message for each in _all(broker, HEARTBEATS)]
    return [m for m in found if isinstance(m, Heartbeat) and m.worker == worker]


def committed(broker: Broker, name: str) -> int:
    """How far the group stands, over all partitions."""
    return sum(done for done, _ in group_lag(broker.bootstrap, group_of(name), [EVENTS.name]).values())


def caught_up(broker: Broker, name: str) -> bool:
    """Whether the group has committed everything."""
    return all(done >= end for done, end in group_lag(broker.bootstrap, group_of(name), [EVENTS.name]).values())


@contextmanager
def life(broker: Broker, name: str, workloads: list[str], *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, which does not outlive the test; see its --help for flags."""
    command = [sys.executable, "-m", "tests.streams.handler_worker", "--bootstrap", broker.bootstrap, "--name", name]
    command += [*flags, *(["--embedded"] if broker.embedded else []), "--workloads", *workloads]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
