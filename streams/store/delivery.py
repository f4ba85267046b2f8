"""From records in hand to rows in the store: with patience while it is away, and a dead letter for what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from contracts.clock import Clock
from contracts.codec import decode, trace_of
from contracts.errors import BadMessage, Unavailable
from contracts.events import Alert, Message, Severity
from contracts.ports import Publisher, Row, Store
from contracts.topics import DEADLETTER
from streams.heartbeat import Pulse
from streams.reader import letter_of, wire_of
from streams.store.rows import rows_of

log = structlog.get_logger(__name__)

Pairs = list[tuple[ConsumerRecord, Row]]
Refusals = list[tuple[ConsumerRecord, BadMessage]]


@dataclass
class Batch:
    """Rows to insert by table, each with the record it came from, what could not be read, and the offsets to commit
    once all of it is safe."""

    rows: dict[str, Pairs] = field(default_factory=dict)
    refused: Refusals = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    records: int = 0

    @property
    def size(self) -> int:
        """Rows and unreadable records in hand."""
        return sum(map(len, self.rows.values())) + len(self.refused)

    def take(self, record: ConsumerRecord) -> None:
        """Decode one record into rows, or into a refusal with its reason."""
        try:
            table, rows = rows_of(decode(wire_of(record)))
        except BadMessage as error:
            self.refused.append((record, error))
        else:
            self.rows.setdefault(table, []).extend((record, row) for row in rows)
        self.offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
        self.records += 1


@dataclass
class Delivery:
    """Puts batches where they belong. `wait` is called between two tries with how many wall seconds to let pass."""

    store: Store
    publisher: Publisher
    clock: Clock
    pulse: Pulse
    retry_first_s: float
    retry_most_s: float

    async def deliver(self, batch: Batch, wait: Callable[[float], Awaitable[None]], stop: asyncio.Event) -> bool:
        """All rows into the store, all that cannot go there onto the dead-letter topic: True when that is done.

        False when asked to stop while the store is away; nothing may be committed then. Raises Unavailable when a
        dead letter cannot be written, ConfigError when the store does not know a table.
        """
        refused = list(batch.refused)
        for table, pairs in batch.rows.items():
            found = await self._patiently(table, pairs, wait, stop)
            if found is None:
                return False
            refused += found
        seen: set[tuple[str, int, int]] = set()
        for record, error in refused:
            place = (record.topic, record.partition, record.offset)
            if place not in seen:  # one letter a record, though several of its rows may be bad
                seen.add(place)
                await self._bury(record, error)
        return True

    async def tell(self, alert: Alert) -> None:
        """Send an alert if the broker takes it: rows matter more than the word about them, and the log has it too."""
        log.warning("alert", name=alert.name, subject=alert.subject, summary=alert.summary)
        with suppress(Unavailable):
            await self._publish(alert, None)

    async def _patiently(
        self, table: str, pairs: Pairs, wait: Callable[[float], Awaitable[None]], stop: asyncio.Event
    ) -> Refusals | None:
        """Insert, again and again while the store is away; the rows it refuses, or None when asked to stop."""
        pause_s, away = self.retry_first_s, False
        while True:
            try:
                refused = await self._insert(table, pairs)
            except Unavailable as error:
                if not away:
                    away = True
                    await self._tell_store("store_away", Severity.WARNING, f"rows wait on Kafka: {error}", error.fix)
                await wait(pause_s)
                if stop.is_set():
                    return None
                pause_s = min(pause_s * 2, self.retry_most_s)
            else:
                if away:
                    await self._tell_store("store_back", Severity.INFO, "the store answers again, rows catch up", "")
                return refused

    async def _insert(self, table: str, pairs: Pairs) -> Refusals:
        """Insert all that the store takes: what it refuses is halved until the bad rows stand alone."""
        try:
            await self.store.insert(table, [row for _, row in pairs])
        except BadMessage as error:
            if len(pairs) == 1:
                return [(pairs[0][0], error)]
            middle = len(pairs) // 2
            return await self._insert(table, pairs[:middle]) + await self._insert(table, pairs[middle:])
        return []

    async def _bury(self, record: ConsumerRecord, error: BadMessage) -> None:
        self.pulse.dead_letters += 1
        log.warning("dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, why=str(error))
        if record.topic == DEADLETTER.name:
            return  # a letter about a letter would come back here, for ever
        letter = letter_of(record, error, source=self.pulse.worker, at_ms=self.clock.now_ms())
        await self._publish(letter, trace_of(wire_of(record)))

    async def _tell_store(self, name: str, severity: Severity, summary: str, fix: str) -> None:
        at_ms = self.clock.now_ms()
        await self.tell(
            Alert(name=name, severity=severity, subject="store", at_ms=at_ms, summary=summary[:2000], fix=fix[:2000])
        )

    async def _publish(self, message: Message, trace_id: str | None) -> None:
        await self.publisher.publish(message, trace_id=trace_id)
        self.pulse.emitted += 1
