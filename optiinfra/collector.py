"""The collector: reads along on the public topics, outside every consumer group, and feeds the live picture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from contracts.codec import Record, decode, headers_of
from contracts.errors import BadMessage, Unavailable
from contracts.topics import (
    ACTIONS,
    ALERTS,
    AUDIT,
    CANDIDATES,
    DEADLETTER,
    DECISIONS,
    FINDINGS,
    HEARTBEATS,
    METRICS,
    OUTCOMES,
    SLIS,
)
from optiinfra.live import LiveState
from streams.leaving import consumer_stopped

FOLLOWED = (METRICS, SLIS, FINDINGS, CANDIDATES, DECISIONS, ACTIONS, OUTCOMES, AUDIT, ALERTS, DEADLETTER, HEARTBEATS)
START_WITHIN_S = 20.0
STOP_WITHIN_S = 5.0


class Collector:
    """Follows one broker at a time; `follow` again when the embedded broker has a new address."""

    def __init__(self, live: LiveState, now_ms: Callable[[], int]) -> None:
        self._live, self._now_ms = live, now_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self.unreadable = 0
        self._log = structlog.get_logger("collector")

    async def follow(self, bootstrap: str, *, from_end: bool) -> None:
        """Begin to read. Returns once every partition has its position, so that nothing written later is missed.

        Raises Unavailable when the broker does not answer in time.
        """
        await self.close()
        consumer = AIOKafkaConsumer(
            *(topic.name for topic in FOLLOWED),
            bootstrap_servers=bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest" if from_end else "earliest",
            fetch_max_wait_ms=50,
            metadata_max_age_ms=30_000,
        )
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await consumer.start()
                if from_end:
                    await consumer.seek_to_end()
                for place in consumer.assignment():
                    await consumer.position(place)
        except (KafkaError, TimeoutError, OSError) as error:
            await consumer_stopped(consumer, STOP_WITHIN_S)
            raise Unavailable(
                f"Kafka does not answer ({type(error).__name__})", where=bootstrap, fix="See optiinfra doctor."
            ) from error
        self._consumer = consumer
        self._task = asyncio.create_task(self._read(consumer), name="collector")

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=500, max_records=500)
            except KafkaError as error:  # the broker is away or dropped what we had not read: go on from what there is
                self._log.warning("reading failed", error=str(error))
                await asyncio.sleep(0.5)
                continue
            for records in batches.values():
                for raw in records:
                    self._take(raw.topic, raw.key, raw.value, raw.headers)
            await asyncio.sleep(0)  # a long backlog must not keep the health server waiting

    def _take(self, topic: str, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> None:
        record = Record(topic, key or b"", value or b"", headers_of(headers))
        if topic == METRICS.name and _LEFT not in record.value:
            self._live.scrape_seen(record.header("ce_id") or "")
            return
        try:
            self._live.apply(decode(record), self._now_ms(), time.monotonic())
        except BadMessage as error:
            # The stages dead-letter it; a reader outside the pipeline counts it and says so.
            self.unreadable += 1
            self._log.warning("unreadable message", topic=topic, reason=error.reason.value, detail=error.detail)

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer_stopped(consumer, STOP_WITHIN_S)


_LEFT = b'"left":true'
"""Stands in the last word of a replica that was taken away; of other scrapes nobody here needs what is in them."""
