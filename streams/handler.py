"""Runs a handler off-stream: work that may wait for the world (a model, a cluster, a webhook), message after message.

What a handler returns is published and acknowledged before its message counts as done, and offsets are committed only
up to the first message that is not done: a crash repeats messages and never loses one. While something it needs is away
the same message is tried again for as long as it takes; a message that cannot be handled becomes a dead letter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError

from contracts.clock import Clock
from contracts.codec import decode, trace_of
from contracts.errors import BadMessage, Reason, Unavailable
from contracts.events import Alert, Message
from contracts.ports import Handler, Publisher
from contracts.topics import Topic, group_of
from streams.heartbeat import HEARTBEAT_S, Pulse
from streams.in_hand import InHand, Item
from streams.reader import SESSION_TIMEOUT_S, GroupReader, letter_of, wire_of

log = structlog.get_logger(__name__)

_AHEAD = 200  # records read ahead of the handler; Kafka holds what comes after
_POLL_S = 1.0
_FULL_POLL_S = 0.05  # how soon a full queue is looked at again
_EMBEDDED_SESSION_TIMEOUT_S = 3.0  # the mock cluster grants less, and knows no static members: a kill costs this much
_LAST_COMMIT_S = 2.0
_DETAIL_CHARS = 2000

T = TypeVar("T")


@dataclass(frozen=True)
class HandlerOptions:
    """How a worker reads, tries again and ends; all in wall time.

    After Unavailable it waits `retry_first_s`, then twice as long each time, up to `retry_most_s`. Offsets are
    committed every `commit_s`: after a crash so much is handled again. At a clean stop, messages in hand get `finish_s`
    to be done, then they are left to the next run. `fetch_wait_ms` is how long a fetch that finds nothing waits; the
    embedded broker answers no sooner, so it is part of every latency.
    """

    retry_first_s: float = 0.2
    retry_most_s: float = 5.0
    commit_s: float = 0.5
    finish_s: float = 5.0
    fetch_wait_ms: int = 20
    heartbeat_s: float = HEARTBEAT_S
    session_timeout_s: float | None = None


class _LeftOver(Exception):
    """The message in hand is not ours any more, or we are to stop: whoever reads it next handles it."""


class _Worker:
    """The loops of one worker: reading, `concurrency` times handling, committing."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        reader: GroupReader,
        publisher: Publisher,
        clock: Clock,
        pulse: Pulse,
        concurrency: int,
        options: HandlerOptions,
    ) -> None:
        self._name, self._handler, self._reader = name, handler, reader
        self._publisher, self._clock, self._pulse = publisher, clock, pulse
        self._concurrency, self._options = concurrency, options
        self._in_hand = InHand()
        self._queue: deque[Item] = deque()
        self._more = asyncio.Condition()
        self._stopping = False
        reader.on_revoked = self._revoked

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; raises what a loop died of."""
        slots = [asyncio.create_task(self._slot()) for _ in range(self._concurrency)]
        loops = [asyncio.create_task(part) for part in (self._read(), self._commits())]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *slots, *loops], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await _cancel(loops)
            await self._end(slots)
        finally:
            await _cancel([stopping, *slots, *loops])

    async def lag(self) -> int | None:
        """Messages on the topics that are not done; None while the broker does not say."""
        lag = await self._reader.lag()
        return None if lag is None else lag + self._in_hand.unfinished

    async def _revoked(self) -> None:
        """The partitions are about to be handed out anew: commit what is done, and leave the rest to its next owner.

        What is being handled goes on, and is handled again there: a handler expects repeats, and no cut in the middle.
        """
        leaving, self._in_hand = self._in_hand, InHand()
        leaving.over.set()
        self._queue.clear()
        await self._commit_at_last(leaving)

    async def _read(self) -> None:
        while True:
            full = len(self._queue) >= _AHEAD
            if full:
                self._reader.pause()
            else:
                self._reader.resume()
            # Asked even when full: a consumer that stops asking is taken for dead.
            records = await self._reader.poll(_FULL_POLL_S if full else _POLL_S, _AHEAD)
            in_hand = self._in_hand
            await self._reader.report_gaps(self._tell, self._clock.now_ms())
            if records and in_hand is self._in_hand:  # else they were taken away meanwhile, and come again
                self._queue.extend(in_hand.take(record) for record in records)
                async with self._more:
                    self._more.notify_all()

    async def _commits(self) -> None:
        while True:
            await asyncio.sleep(self._options.commit_s)
            await self._commit(self._in_hand)

    async def _commit(self, in_hand: InHand) -> None:
        if offsets := in_hand.due():
            await self._reader.commit(offsets)
            in_hand.committed(offsets)

    async def _commit_at_last(self, in_hand: InHand) -> None:
        with suppress(TimeoutError, KafkaError):  # the broker may be away: then they are handled again
            await asyncio.wait_for(self._commit(in_hand), _LAST_COMMIT_S)

    async def _end(self, slots: Sequence[asyncio.Task[None]]) -> None:
        """Finish what is in hand, wait for nothing that is away, and commit."""
        self._stopping = True
        self._in_hand.over.set()
        async with self._more:
            self._more.notify_all()
        done, _ = await asyncio.wait(slots, timeout=self._options.finish_s)
        for slot in done:
            slot.result()
        await self._commit_at_last(self._in_hand)

    async def _slot(self) -> None:
        """Handle one record after another."""
        while True:
            async with self._more:
                await self._more.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return
                item = self._queue.popleft()
            with suppress(_LeftOver):
                await self._finish(item)
                item.done = True
                self._pulse.handled += 1

    async def _finish(self, item: Item) -> None:
        """Make everything true that follows from a record: its outputs, or a dead letter."""
        wire = wire_of(item.record)
        trace_id = trace_of(wire)
        try:
            message = decode(wire)
            for output in await self._handled(item, message):
                await self._send(item, output, trace_id or message.id)
                self._pulse.emitted += 1
        except BadMessage as error:
            place = {"topic": wire.topic, "partition": item.record.partition, "offset": item.record.offset}
            log.warning("dead_letter", handler=self._name, why=str(error), **place)
            letter = letter_of(item.record, error, source=self._name, at_ms=self._clock.now_ms())
            await self._send(item, letter, trace_id)
            self._pulse.dead_letters += 1

    async def _handled(self, item: Item, message: Message) -> Sequence[Message]:
        try:
            return await self._patiently(item, lambda: self._handler(message))
        except (BadMessage, _LeftOver):
            raise
        except Exception as error:  # a handler's bug, whatever it raises, must cost one message, not the worker
            log.exception("handler_failed", handler=self._name, message=message.id)
            text = f"{self._name}: {type(error).__name__}: {error}"
            raise BadMessage(Reason.HANDLER_FAILED, text[:_DETAIL_CHARS]) from error

    async def _send(self, item: Item, message: Message, trace_id: str | None) -> None:
        await self._patiently(item, lambda: self._publisher.publish(message, trace_id=trace_id))

    async def _patiently(self, item: Item, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until what is needed is there. Raises _LeftOver when nobody should wait any longer."""
        pause_s = self._options.retry_first_s
        while True:
            try:
                return await attempt()
            except Unavailable as error:
                log.warning("handler_waits", handler=self._name, why=str(error), retry_s=pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(item.over.wait(), pause_s)
            if item.over.is_set():
                raise _LeftOver
            pause_s = min(2 * pause_s, self._options.retry_most_s)

    async def _tell(self, alert: Alert) -> None:
        log.warning("alert", name=alert.name, subject=alert.subject, summary=alert.summary)
        with suppress(Unavailable):
            await self._publisher.publish(alert)


async def run_handler(
    name: str,
    inputs: Sequence[Topic],
    handler: Handler,
    *,
    bootstrap: str,
    embedded: bool,
    publisher: Publisher,
    clock: Clock,
    worker: str,
    stop: asyncio.Event,
    concurrency: int = 1,
    options: HandlerOptions | None = None,
) -> None:
    """Give every message of `inputs` to `handler` until `stop` is set or the task is cancelled; beat meanwhile.

    `name` names the group and stands in dead letters, `worker` in heartbeats. Up to `concurrency` messages are in hand
    at once; with 1 those of a partition are handled in order. `embedded` says that the broker is the mock cluster.

    Unavailable from the handler means "not now": it is called again with the same message after a pause. Whatever has
    been published is not published again while the process lives. BadMessage, and any other exception
    (`handler_failed`), makes a dead letter. Raises Unavailable when the broker cannot be reached at the start;
    OptiInfraError when the client skipped records. Whatever it raises, a new run reads again what was not committed.
    """
    options = options or HandlerOptions()
    pulse = Pulse(worker, f"handler:{name}")
    reader = GroupReader(
        inputs,
        bootstrap=bootstrap,
        embedded=embedded,
        group=group_of(name),
        worker=worker,
        fetch_wait_ms=options.fetch_wait_ms,
        member=None if embedded else worker,
        session_timeout_s=options.session_timeout_s or (_EMBEDDED_SESSION_TIMEOUT_S if embedded else SESSION_TIMEOUT_S),
    )
    at_work = _Worker(name, handler, reader, publisher, clock, pulse, concurrency, options)
    async with reader.working(publisher, pulse, at_work.lag, options.heartbeat_s):
        await at_work.run(stop)


async def _cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
