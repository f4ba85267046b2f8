"""Writes messages to Kafka for connectors and the platform: acknowledged by all replicas, in order, without repeats.

Implements `contracts.ports.Publisher` on aiokafka's idempotent producer, which retries and reconnects by itself.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError

from contracts.codec import encode
from contracts.errors import Unavailable
from contracts.events import Message, Tick

TIMEOUT_S = 10.0
"""How long `publish` waits for the broker: longer than a leader election, shorter than a person's patience."""

MAX_IN_FLIGHT = 1000
"""Messages waiting for their acknowledgement; the next `publish` waits for room (about 3 MB of scrapes)."""

_START_WITHIN_S = 10.0


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
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Connect. Raises Unavailable when nobody answers; `publish` will try again."""
        await self._connected()

    async def stop(self) -> None:
        """Send what is buffered, within the time-out, and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._close(producer)

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        """Write and wait for the acknowledgement. A Tick goes to its own partition, all else by key.

        Raises Unavailable (see the class) and BadMessage for a message too large for Kafka.
        """
        record = encode(message, source=self._source, trace_id=trace_id)
        partition = message.partition if isinstance(message, Tick) else None
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                producer = await self._connected()
                sent = await producer.send(
                    record.topic, record.value, record.key, partition, headers=list(record.headers)
                )
                # Shielded: a record that was numbered must stay in the queue, or all after it would be out of sequence.
                await asyncio.shield(sent)
        except TimeoutError as error:
            raise self._away(f"no acknowledgement within {self._timeout_s:.0f} s") from error
        except KafkaError as error:
            # A producer that met a fatal error (a lost sequence, a fenced id) refuses all that follows: take a new one.
            await self._drop()
            raise self._away(f"{type(error).__name__}: {error}") from error

    async def __aenter__(self) -> KafkaPublisher:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = aiokafka.AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    enable_idempotence=True,
                    acks="all",
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    await asyncio.wait_for(producer.start(), _START_WITHIN_S)
                except (KafkaError, TimeoutError, OSError) as error:
                    await self._close(producer)
                    raise self._away(f"cannot connect ({type(error).__name__})") from error
                self._producer = producer
            return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._close(producer)

    async def _close(self, producer: Any) -> None:
        """Stop a producer, which first sends what it holds; one whose broker is away is not waited for."""
        stopping = asyncio.ensure_future(producer.stop())
        done, _ = await asyncio.wait([stopping], timeout=self._timeout_s)
        if not done:
            stopping.cancel()
            await producer.client.close()
        await asyncio.gather(stopping, return_exceptions=True)

    def _away(self, why: str) -> Unavailable:
        return Unavailable(
            f"Kafka took no message: {why}",
            where=self._bootstrap,
            fix="Start it (make kafka), or correct OPTIINFRA_KAFKA; unset, the embedded broker is used.",
        )
