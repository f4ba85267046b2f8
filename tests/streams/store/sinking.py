"""A sink that runs while a test feeds its topics, and what the test reads of it: rows, dead letters and heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import Unavailable
from contracts.events import Alert, Heartbeat, Message
from contracts.ports import Store
from contracts.topics import HEARTBEATS
from streams.leaving import consumer_stopped
from streams.publisher import KafkaPublisher
from streams.store.client import HttpStore
from streams.store.sink import SinkOptions, run_sink
from tests.conftest import Broker

QUICK = SinkOptions(batch_s=0.1, retry_first_s=0.05, retry_most_s=0.2, heartbeat_s=0.1)
RECORDS_A_POLL = 200
CLOCK = EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=1_700_000_000_000), lambda: 0.0, lambda: 0.0)


class Wire(KafkaPublisher):
    """The publisher that runs in earnest, and bytes that it never would write."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker.bootstrap, "test")
        self._raw = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
        self.told: list[str] = []
        """Names of the alerts that the broker has taken from it."""

    async def start(self) -> None:
        await super().start()
        await self._raw.start()

    async def stop(self) -> None:
        await self._raw.stop()
        await super().stop()

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        await super().publish(message, trace_id=trace_id)
        if isinstance(message, Alert):
            self.told.append(message.name)

    async def send_all(self, messages: Sequence[Message]) -> None:
        await asyncio.gather(*(self.publish(message) for message in messages))

    async def junk(self, topic: str, key: str, value: bytes, kind: str) -> None:
        await self._raw.send_and_wait(topic, value, key=key.encode(), headers=[("ce_type", kind.encode())])


@asynccontextmanager
async def sinking(
    broker: Broker, wire: Wire, store: Store, name: str, options: SinkOptions = QUICK
) -> AsyncIterator[asyncio.Event]:
    """A sink that runs meanwhile; `name` is its worker and its group."""
    stop = asyncio.Event()
    running = asyncio.create_task(
        run_sink(
            bootstrap=broker.bootstrap,
            embedded=broker.embedded,
            store=store,
            publisher=wire,
            clock=CLOCK,
            group=name,
            worker=name,
            options=options,
            stop=stop,
        )
    )
    try:
        yield stop
    finally:
        stop.set()
        await running


async def windows_of(store: HttpStore, workload: str) -> list[object]:
    """Starts of the windows of one SLI that the store holds; none while it is away."""
    with suppress(Unavailable):
        rows = await store.query("sli_series", workload=workload, sli="ttft_p95_s", limit=100_000)
        return [row["start_ms"] for row in rows]
    return []


async def letters_of(store: HttpStore, source: str, workload: str) -> list[Mapping[str, object]]:
    """Dead letters that one sink wrote about records of one workload."""
    rows = await store.query("deadletters_recent", source=source)
    return [row for row in rows if row["message_key"] == workload]


async def heartbeats(broker: Broker, worker: str) -> list[Heartbeat]:
    """All heartbeats of a worker so far."""
    reader = AIOKafkaConsumer(
        HEARTBEATS.name,
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        check_crcs=not broker.embedded,
    )
    await reader.start()
    try:
        (tp,) = reader.assignment()
        end = (await reader.end_offsets([tp]))[tp]
        records = []
        while await reader.position(tp) < end:
            records += (await reader.getmany(timeout_ms=200)).get(tp, [])
        beats = [Heartbeat.model_validate_json(record.value) for record in records]
        return [beat for beat in beats if beat.worker == worker]
    finally:
        await consumer_stopped(reader, 30)
