"""The sink: reads SLIs, alerts and dead letters off their topics and puts them into the store, losing none.

Insert first, commit offsets after: a crash repeats rows, and repeats vanish in the store. While the store is away the
sink stops reading and tries again for as long as it takes; Kafka holds the data. A record that cannot be read, or that
the store refuses for what is in it, becomes a dead letter; one that came from the dead-letter topic itself is only
counted and logged, or it would go round for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from contracts.clock import Clock
from contracts.errors import OptiInfraError, Unavailable
from contracts.events import WorkerState
from contracts.ports import Publisher, Store
from contracts.topics import ALERTS, DEADLETTER, SLIS, group_of
from streams.heartbeat import HEARTBEAT_S, Pulse
from streams.offset_gap import OffsetGap, Positions
from streams.store.delivery import Batch, Delivery

log = structlog.get_logger(__name__)

TOPICS = (SLIS, ALERTS, DEADLETTER)
_CHUNK = 200  # records a poll: a batch overshoots `batch_rows` by the rows of one chunk at most


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


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """One consumer and where it stands; what becomes of its batches is `Delivery`'s."""

    def __init__(self, consumer: AIOKafkaConsumer, delivery: Delivery, pulse: Pulse, options: SinkOptions) -> None:
        self._consumer, self._delivery, self._pulse, self._options = consumer, delivery, pulse, options
        self._positions = Positions()
        self._gaps: list[OffsetGap] = []
        self._ahead: list[ConsumerRecord] = []
        self._in_hand = 0

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Forget where we stood: the partitions are handed out anew."""
        self._positions.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin where the group stands, and see what the broker has dropped since."""
        earliest = await self._consumer.beginning_offsets(list(assigned)) if assigned else {}
        for tp in assigned:
            committed = await self._consumer.committed(tp)
            if gap := self._positions.start(tp.topic, tp.partition, committed, earliest[tp]):
                self._gaps.append(gap)

    async def run(self, stop: asyncio.Event) -> None:
        """Batch after batch until `stop`. Each is finished first, unless the store is away: then it is read again."""
        while not stop.is_set():
            batch = await self._gather(stop)
            while self._gaps:
                await self._report(self._gaps.pop())
            if not batch.records or not await self._delivery.deliver(batch, lambda s: self._idle(s, stop), stop):
                continue
            self._consumer.resume(*self._consumer.paused())
            await self._commit(batch)

    async def lag(self) -> int | None:
        """Messages on the topics that are not yet in the store; None while the broker does not say."""
        assigned = list(self._consumer.assignment())
        if not assigned:
            return None
        try:
            ends = await self._consumer.end_offsets(assigned)
        except (KafkaError, TimeoutError):
            return None
        lag = self._positions.lag({(tp.topic, tp.partition): end for tp, end in ends.items()})
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
        """What has come, after `wait_s` at the latest; gaps in the offsets are noted."""
        found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
            timeout_ms=int(wait_s * 1000), max_records=_CHUNK
        )
        records = [record for chunk in found.values() for record in chunk]
        for record in records:
            if gap := self._positions.gap(record.topic, record.partition, record.offset):
                self._gaps.append(gap)
            self._positions.advance(record.topic, record.partition, record.offset)
        self._in_hand += len(records)
        return records

    async def _idle(self, wait_s: float, stop: asyncio.Event) -> None:
        """Wait without reading on, but keep asking the consumer: one that stops asking is taken for dead."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not stop.is_set() and (left_s := until - loop.time()) > 0:
            # Partitions that a rebalance brings come unpaused: what they have given is kept for the next batch.
            self._consumer.pause(*self._consumer.assignment())
            self._ahead.extend(await self._poll(min(left_s, 0.2)))

    async def _report(self, gap: OffsetGap) -> None:
        """Tell what the broker dropped. What it still has was skipped by the client, and is read again after a restart:
        nothing of the batch in hand is committed yet."""
        place = TopicPartition(gap.topic, gap.partition)
        if held := gap.still_held((await self._consumer.beginning_offsets([place]))[place]):
            raise OptiInfraError(
                f"the Kafka client skipped offsets {held.start} to {held.stop - 1}, which the broker has",
                where=f"{gap.topic}:{gap.partition}",
                fix="Nothing is lost: the sink starts again from what was committed.",
            )
        await self._delivery.tell(gap.alert(self._pulse.worker, self._delivery.clock.now_ms()))

    async def _commit(self, batch: Batch) -> None:
        try:
            await self._consumer.commit(batch.offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # The partitions went to another worker meanwhile. It reads these records again, and the repeats vanish.
            log.info("commit_refused", error=str(error))
        self._in_hand -= batch.records
        self._pulse.handled += batch.records


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
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        client_id=worker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=not embedded,
        fetch_max_wait_ms=100,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_500,
    )
    pulse = Pulse(worker, "sink")
    delivery = Delivery(store, publisher, clock, pulse, options.retry_first_s, options.retry_most_s)
    sink = Sink(consumer, delivery, pulse, options)
    consumer.subscribe([topic.name for topic in TOPICS], listener=sink)
    try:
        await _beat(publisher, pulse, WorkerState.STARTING)
        try:
            await consumer.start()
        except KafkaError as error:
            raise Unavailable(
                f"no broker: {error}", where=bootstrap, fix="Is it running? `optiinfra doctor`."
            ) from error
        beating = asyncio.create_task(_beat_on(publisher, pulse, sink, options.heartbeat_s), name="sink-heartbeats")
        try:
            await sink.run(stop)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
    finally:
        await consumer.stop()
        await _beat(publisher, pulse, WorkerState.LEAVING)


async def _beat_on(publisher: Publisher, pulse: Pulse, sink: Sink, every_s: float) -> None:
    while True:
        await _beat(publisher, pulse, WorkerState.WORKING, await sink.lag())
        await asyncio.sleep(every_s)


async def _beat(publisher: Publisher, pulse: Pulse, state: WorkerState, lag: int | None = None) -> None:
    with suppress(Unavailable):  # a beat that does not arrive is what its absence is for
        await publisher.publish(pulse.beat(state, lag))
