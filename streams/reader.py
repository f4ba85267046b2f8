"""One member of a consumer group: it reads topics, knows where it stands, and finds what the broker dropped.

What off-stream workers share, the sink and the handlers. It commits only what it is told to, so that whoever uses it
decides when a record is done; and it beats while it works, with the lag.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, UnknownTopicOrPartitionError

from contracts.codec import Record, dead_letter, headers_of
from contracts.errors import BadMessage, ConfigError, OptiInfraError, Unavailable
from contracts.events import Alert, DeadLetter, WorkerState
from contracts.ports import Publisher
from contracts.topics import Topic
from streams.heartbeat import Pulse
from streams.leaving import consumer_stopped
from streams.offset_gap import OffsetGap, Positions

log = structlog.get_logger(__name__)

SESSION_TIMEOUT_S = 6.0
"""How long a lost worker keeps its partitions; the least that Kafka grants (`group.min.session.timeout.ms`)."""

STOP_WITHIN_S = 12.0
"""Wall seconds for leaving the group in peace, which takes up to 10: less than a worker is given to end in."""


async def _nothing() -> None:
    """What most do when their partitions are taken away."""


class GroupReader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no types
    """A consumer that commits nothing by itself. Use `working` to start and stop it.

    `embedded` says that the broker is the mock cluster: one worker a group, and batches whose checksums it does not
    keep. `member` names a member that gets its partitions back at once when it comes again after a kill (None: one that
    waits for its session to end). `on_revoked` is awaited when the partitions are about to be handed out anew: what is
    committed then still counts.
    """

    def __init__(
        self,
        topics: Sequence[Topic],
        *,
        bootstrap: str,
        embedded: bool,
        group: str,
        worker: str,
        fetch_wait_ms: int,
        member: str | None = None,
        session_timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        self._bootstrap, self._worker = bootstrap, worker
        self.on_revoked: Callable[[], Awaitable[None]] = _nothing
        self._positions = Positions()
        self._gaps: list[OffsetGap] = []
        self._generation = 0
        self._placed = asyncio.Event()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id=worker,
            group_instance_id=member,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            check_crcs=not embedded,
            fetch_max_wait_ms=fetch_wait_ms,
            session_timeout_ms=int(session_timeout_s * 1000),
            heartbeat_interval_ms=int(session_timeout_s * 250),
        )
        self._consumer.subscribe([topic.name for topic in topics], listener=self)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Forget where we stood: the partitions are handed out anew."""
        self._generation += 1
        self._placed.clear()
        self._positions.clear()
        await self.on_revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin where the group stands, and see what the broker has dropped since."""
        try:
            earliest = await self._consumer.beginning_offsets(list(assigned)) if assigned else {}
            for tp in assigned:
                committed = await self._consumer.committed(tp)
                if gap := self._positions.start(tp.topic, tp.partition, committed, earliest[tp]):
                    self._gaps.append(gap)
        finally:
            self._placed.set()

    async def poll(self, wait_s: float, most: int) -> Sequence[ConsumerRecord]:
        """What has come, at most `most` records, after `wait_s` at the latest; gaps in the offsets are noted."""
        found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
            timeout_ms=int(wait_s * 1000), max_records=most
        )
        records = [record for chunk in found.values() for record in chunk]
        generation = self._generation
        if records:  # the client reads on while we still ask where the group stands
            await self._placed.wait()
        if generation != self._generation:
            return []  # taken away meanwhile: whoever has them now begins where the group stands
        for record in records:
            if gap := self._positions.gap(record.topic, record.partition, record.offset):
                self._gaps.append(gap)
            self._positions.advance(record.topic, record.partition, record.offset)
        return records

    def pause(self) -> None:
        """Read nothing on. Go on polling, or the group takes us for dead; what a rebalance brings comes unpaused."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Read on."""
        self._consumer.resume(*self._consumer.paused())

    async def report_gaps(self, tell: Callable[[Alert], Awaitable[None]], at_ms: int) -> None:
        """Tell what the broker dropped, as of event time `at_ms`.

        Raises OptiInfraError for what it still has: the client skipped it, and a new run reads it again, since nothing
        of it is committed yet.
        """
        while self._gaps:
            gap = self._gaps.pop()
            place = TopicPartition(gap.topic, gap.partition)
            if held := gap.still_held((await self._consumer.beginning_offsets([place]))[place]):
                raise OptiInfraError(
                    f"the Kafka client skipped offsets {held.start} to {held.stop - 1}, which the broker has",
                    where=f"{gap.topic}:{gap.partition}",
                    fix=f"Nothing is lost: {self._worker} starts again from what was committed.",
                )
            await tell(gap.alert(self._worker, at_ms))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Move the group to these offsets, the next ones due. Refused after a rebalance: then whoever has the
        partitions now reads these records again."""
        try:
            await self._consumer.commit(dict(offsets))
        except (CommitFailedError, IllegalStateError) as error:
            log.info("commit_refused", error=str(error))

    async def lag(self) -> int | None:
        """Messages on the topics that were not taken yet; None while the broker does not say."""
        assigned = list(self._consumer.assignment())
        if not assigned:
            return None
        try:
            ends = await self._consumer.end_offsets(assigned)
        except (KafkaError, TimeoutError):
            return None
        return self._positions.lag({(tp.topic, tp.partition): end for tp, end in ends.items()})

    @asynccontextmanager
    async def working(
        self, publisher: Publisher, pulse: Pulse, lag: Callable[[], Awaitable[int | None]], beat_s: float
    ) -> AsyncIterator[None]:
        """Be a member of the group meanwhile, with a heartbeat every `beat_s` wall seconds that carries `lag`.

        Raises Unavailable when the broker cannot be reached, ConfigError when it lacks a topic.
        """
        try:
            await _beat(publisher, pulse, WorkerState.STARTING)
            try:
                await self._consumer.start()
            except UnknownTopicOrPartitionError as error:
                fix = "Run optiinfra topics apply."
                raise ConfigError(f"{self._worker} lacks a topic", where=self._bootstrap, fix=fix) from error
            except KafkaError as error:
                raise Unavailable(
                    f"no broker: {error}", where=self._bootstrap, fix="Is it running? `optiinfra doctor`."
                ) from error
            beating = asyncio.create_task(_beat_on(publisher, pulse, lag, beat_s), name=f"{self._worker}-heartbeats")
            try:
                yield
            finally:
                beating.cancel()
                with suppress(asyncio.CancelledError):
                    await beating
        finally:
            await consumer_stopped(self._consumer, STOP_WITHIN_S)
            await _beat(publisher, pulse, WorkerState.LEAVING)


def wire_of(record: ConsumerRecord) -> Record:
    """A record as the codec knows it."""
    return Record(record.topic, record.key or b"", record.value or b"", headers_of(record.headers))


def letter_of(record: ConsumerRecord, error: BadMessage, *, source: str, at_ms: int) -> DeadLetter:
    """The dead letter about a record, with its place in the log."""
    place = {"partition": record.partition, "offset": record.offset}
    return dead_letter(wire_of(record), error, source=source, at_ms=at_ms, **place)


async def _beat_on(
    publisher: Publisher, pulse: Pulse, lag: Callable[[], Awaitable[int | None]], every_s: float
) -> None:
    while True:
        await _beat(publisher, pulse, WorkerState.WORKING, await lag())
        await asyncio.sleep(every_s)


async def _beat(publisher: Publisher, pulse: Pulse, state: WorkerState, lag: int | None = None) -> None:
    with suppress(Unavailable):  # a beat that does not arrive is what its absence is for
        await publisher.publish(pulse.beat(state, lag))
