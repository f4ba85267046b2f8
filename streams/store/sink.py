"""The sink: reads SLIs, findings, decisions, alerts and dead letters off their topics into the store, losing none.

Insert first, commit offsets after: a crash repeats rows, and repeats vanish in the store. While the store is away the
sink stops reading and tries again for as long as it takes; Kafka holds the data. A record that cannot be read, or that
the store refuses for what is in it, becomes a dead letter; one that came from the dead-letter topic itself is only
counted and logged, or it would go round for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from contracts.clock import Clock
from contracts.ports import Publisher, Store
from contracts.topics import (
    ACTIONS,
    ALERTS,
    APPROVALS,
    AUDIT,
    CANDIDATES,
    CONTROLS,
    DEADLETTER,
    DECISIONS,
    EVENTS,
    FINDINGS,
    OUTCOMES,
    REVIEWS,
    SLIS,
    group_of,
)
from streams.heartbeat import HEARTBEAT_S, Pulse
from streams.reader import GroupReader
from streams.store.delivery import Batch, Delivery

TOPICS = (
    *(SLIS, EVENTS, CONTROLS, FINDINGS, CANDIDATES, REVIEWS, APPROVALS, DECISIONS, ACTIONS, OUTCOMES, AUDIT),
    *(ALERTS, DEADLETTER),
)
_CHUNK = 200  # records a poll: a batch overshoots `batch_rows` by the rows of one chunk at most
_FETCH_WAIT_MS = 100  # nobody waits for a row: fewer fetches


@dataclass(frozen=True)
class SinkOptions:
    """How much goes into one insert, and how hard to try again; all in wall time.

    A batch closes at `batch_rows` rows, or `batch_s` after its first record: an insert of a hundred rows costs as much
    as one of a thousand.
    """

    batch_rows: int = 1000
    batch_s: float = 1.0
    retry_first_s: float = 0.2
    retry_most_s: float = 5.0
    heartbeat_s: float = HEARTBEAT_S


class Sink:
    """What it has in hand; what becomes of its batches is `Delivery`'s."""

    def __init__(self, reader: GroupReader, delivery: Delivery, pulse: Pulse, options: SinkOptions) -> None:
        self._reader, self._delivery, self._pulse, self._options = reader, delivery, pulse, options
        self._ahead: list[ConsumerRecord] = []
        self._in_hand = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Batch after batch until `stop`. Each is finished first, unless the store is away: then it is read again."""
        while not stop.is_set():
            batch = await self._gather(stop)
            await self._reader.report_gaps(self._delivery.tell, self._delivery.clock.now_ms())
            if not batch.records or not await self._delivery.deliver(batch, lambda s: self._idle(s, stop), stop):
                continue
            self._reader.resume()
            await self._reader.commit(batch.offsets)
            self._in_hand -= batch.records
            self._pulse.handled += batch.records

    async def lag(self) -> int | None:
        """Messages on the topics that are not yet in the store; None while the broker does not say."""
        lag = await self._reader.lag()
        return None if lag is None else lag + self._in_hand

    async def _gather(self, stop: asyncio.Event) -> Batch:
        """Fill a batch: until it has its rows, or its time is over."""
        batch, loop = Batch(), asyncio.get_running_loop()
        ahead, self._ahead = self._ahead, []
        for record in ahead:
            batch.take(record)
        closes_at = loop.time() + self._options.batch_s
        while batch.size < self._options.batch_rows and not stop.is_set():
            left_s = closes_at - loop.time()
            if left_s <= 0:
                break
            for record in await self._poll(left_s):
                if not batch.records:
                    closes_at = loop.time() + self._options.batch_s
                batch.take(record)
        return batch

    async def _poll(self, wait_s: float) -> Sequence[ConsumerRecord]:
        records = await self._reader.poll(wait_s, _CHUNK)
        self._in_hand += len(records)
        return records

    async def _idle(self, wait_s: float, stop: asyncio.Event) -> None:
        """Wait without reading on, but keep asking the consumer: one that stops asking is taken for dead."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not stop.is_set() and (left_s := until - loop.time()) > 0:
            # Partitions that a rebalance brings come unpaused: what they have given is kept for the next batch.
            self._reader.pause()
            self._ahead.extend(await self._poll(min(left_s, 0.2)))


async def run_sink(
    *,
    bootstrap: str,
    embedded: bool,
    store: Store,
    publisher: Publisher,
    clock: Clock,
    group: str = group_of("sink"),
    worker: str = "sink",
    options: SinkOptions | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Fill the store until `stop` is set or the task is cancelled, and send heartbeats meanwhile.

    `embedded` says that the broker is the mock cluster: one worker a group, and batches whose checksums it does not
    keep. Raises Unavailable when the broker cannot be reached at the start, or a dead letter cannot be written;
    OptiInfraError when the client skipped records. Whatever it raises, a new run reads again what was not committed.
    """
    options, stop = options or SinkOptions(), stop or asyncio.Event()
    reader = GroupReader(
        TOPICS, bootstrap=bootstrap, embedded=embedded, group=group, worker=worker, fetch_wait_ms=_FETCH_WAIT_MS
    )
    pulse = Pulse(worker, "sink")
    delivery = Delivery(store, publisher, clock, pulse, options.retry_first_s, options.retry_most_s)
    sink = Sink(reader, delivery, pulse, options)
    async with reader.working(publisher, pulse, sink.lag, options.heartbeat_s):
        await sink.run(stop)
