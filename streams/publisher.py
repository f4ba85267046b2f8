"""Writes messages to Kafka for connectors and the platform: acknowledged by all replicas, in order, without repeats.

Implements `contracts.ports.Publisher` on aiokafka's idempotent producer, which retries and reconnects by itself.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import aiokafka
from aiokafka.errors import KafkaError

from contracts.codec import encode
from contracts.errors import Unavailable
from contracts.events import Message, Tick
from streams.leaving import producer_stopped, seen

TIMEOUT_S = 10.0
"""How long `publish` waits for the broker: longer than a leader election, shorter than a person's patience."""

MAX_IN_FLIGHT = 1000
"""Messages waiting for their acknowledgement; the next `publish` waits for room (about 3 MB of scrapes)."""

_START_TIMES = 4
"""A start takes a connection, its version, the metadata and a producer id, each within the time-out."""


class KafkaPublisher:
    """Use it as an async context manager, or call `start` and `stop`.

    `source` becomes the `ce_source` of every message. `publish` raises Unavailable when the broker has not
    acknowledged in time; the message may still arrive later, and its id makes a repeat harmless.
    """

    def __init__(
        self, bootstrap: str, source: str, *, timeout_s: float = TIMEOUT_S, max_in_flight: int = MAX_IN_FLIGHT
    ) -> None:
        self._bootstrap, self._source, self._timeout_s = bootstrap, source, timeout_s
        self._room = asyncio.Semaphore(max_in_flight)
        self._producer: Any = None
        self._starting: asyncio.Task[Any] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises Unavailable when nobody answers within the time-out; `publish` will try again."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connected()
        except TimeoutError as error:
            raise self._away(f"no connection within {self._timeout_s:.0f} s") from error

    async def stop(self) -> None:
        """Send what is buffered, within the time-out, and disconnect."""
        if (starting := self._starting) is not None:
            starting.cancel()
            await asyncio.wait([starting])
            self._starting = None
        self._drop(self._producer)
        if self._closing:
            await asyncio.wait(self._closing)

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        """Write and wait for the acknowledgement. A Tick goes to its own partition, all else by key.

        Raises Unavailable (see the class) and BadMessage for a message too large for Kafka.
        """
        record = encode(message, source=self._source, trace_id=trace_id)
        partition = message.partition if isinstance(message, Tick) else None
        producer: Any = None
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                producer = await self._connected()
                sent = await producer.send(
                    record.topic, record.value, record.key, partition, headers=list(record.headers)
                )
                sent.add_done_callback(seen)  # also where nobody waits for it any longer
                # Shielded: a record that was numbered must stay in the queue, or all after it would be out of sequence.
                await asyncio.shield(sent)
        except TimeoutError as error:
            raise self._away(f"no acknowledgement within {self._timeout_s:.0f} s") from error
        except KafkaError as error:
            # A producer that met a fatal error (a lost sequence, a fenced id) refuses all that follows: take a new one.
            self._drop(producer)
            raise self._away(f"{type(error).__name__}: {error}") from error

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self) -> Any:
        """The producer. One start serves all who wait for it and outlives those who gave up: a client that is cancelled
        while it connects leaves sockets behind, and a slow broker would never be reached."""
        if self._producer is not None:
            return self._producer
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(seen)  # also where all who waited have given up
        starting = self._starting
        await asyncio.wait([starting])
        if starting.cancelled():
            raise self._away("the publisher was stopped meanwhile")
        return starting.result()

    async def _start(self) -> Any:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=int(self._timeout_s * 1000),
        )
        try:
            # Each of its requests gives up by itself, but it asks for a producer id for ever.
            await asyncio.wait_for(producer.start(), _START_TIMES * self._timeout_s)
            self._producer = producer
        except BaseException as error:
            await self._close(producer)
            if isinstance(error, KafkaError | TimeoutError | OSError):
                raise self._away(f"cannot connect ({type(error).__name__})") from error
            raise
        finally:
            self._starting = None
        return producer

    def _drop(self, producer: Any) -> None:
        """Take leave of this producer, and of no other: a late failure of an old one must not end its successor."""
        if producer is not None and producer is self._producer:
            self._producer = None
            closing = asyncio.create_task(self._close(producer))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, producer: Any) -> None:
        """Stop a producer, which first sends what it holds; one whose broker is away is not waited for."""
        await producer_stopped(producer, self._timeout_s)

    def _away(self, why: str) -> Unavailable:
        return Unavailable(
            f"Kafka took no message: {why}",
            where=self._bootstrap,
            fix="Start it (make kafka), or correct OPTIINFRA_KAFKA; unset, the embedded broker is used.",
        )
