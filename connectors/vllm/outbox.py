"""Keeps messages in order until the broker takes them: bounded, and what it has to drop it counts and tells."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from contracts.errors import BadMessage, Unavailable
from contracts.events import Message
from contracts.ports import Publisher

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was lost while the broker was away: how many messages, of how many lanes, between which event times."""

    messages: int = 0
    lanes: frozenset[str] = frozenset()
    first_ms: int = 0
    last_ms: int = 0

    def plus(self, lane: str, message: Message) -> Dropped:
        """With one more message lost."""
        first = min(self.first_ms, message.at) if self.messages else message.at
        return Dropped(self.messages + 1, self.lanes | {lane}, first, max(self.last_ms, message.at))


class Outbox:
    """Publishes messages, in order within a lane (one lane an instance) and concurrently across lanes.

    `put` never waits. While the publisher is Unavailable messages stay here, at most `limit`; beyond it the oldest that
    is not on its way goes, and `on_recovered` gets the account with the first message that is published again.
    `on_refused` gets a message that the codec refuses (BadMessage) and may answer one to publish in its place.
    """

    def __init__(
        self,
        publisher: Publisher,
        limit: int,
        *,
        on_refused: Callable[[Message, BadMessage], Message | None],
        on_recovered: Callable[[Dropped], None],
    ) -> None:
        self._publisher = publisher
        self._limit = limit
        self._on_refused = on_refused
        self._on_recovered = on_recovered
        self._lanes: dict[str, deque[int]] = {}
        self._waiting: OrderedDict[int, tuple[str, Message]] = OrderedDict()
        self._in_flight: set[int] = set()
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._gate = asyncio.Event()
        self._gate.set()
        self._pause_s = _FIRST_PAUSE_S
        self._dropped = Dropped()
        self.published = 0
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Messages not yet acknowledged by the broker."""
        return len(self._waiting)

    def put(self, lane: str, message: Message) -> None:
        """Take a message. Raises what a publishing task died of, if one did: a bug must not pass for an outage."""
        if self._failure is not None:
            raise self._failure
        self._number += 1
        self._waiting[self._number] = (lane, message)
        if lane in self._lanes:
            self._lanes[lane].append(self._number)
        else:
            self._lanes[lane] = deque([self._number])
            task = asyncio.create_task(self._drain(lane))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        if len(self._waiting) > self._limit:
            self._drop_oldest()

    async def flush(self, timeout_s: float) -> int:
        """Wait until all is published, at most `timeout_s` wall seconds; end the tasks; the number left unpublished."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return len(self._waiting)

    async def _drain(self, lane: str) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                await self._gate.wait()
                if not queue:  # an overflow emptied it meanwhile
                    break
                number = queue[0]
                message = self._waiting[number][1]
                self._in_flight.add(number)
                try:
                    await self._publisher.publish(message)
                except Unavailable as error:
                    self._close_gate(error)
                    continue
                except BadMessage as error:
                    instead = self._on_refused(message, error)
                    if instead is not None:
                        self._waiting[number] = (lane, instead)
                        continue
                else:
                    self._published_one()
                finally:
                    self._in_flight.discard(number)
                queue.popleft()
                del self._waiting[number]
        finally:
            del self._lanes[lane]

    def _published_one(self) -> None:
        self.published += 1
        self._pause_s = _FIRST_PAUSE_S
        if self._dropped.messages:
            dropped, self._dropped = self._dropped, Dropped()
            self._on_recovered(dropped)

    def _close_gate(self, error: Unavailable) -> None:
        """All lanes wait together, twice as long after each failed try: one outage is one series of tries."""
        if not self._gate.is_set():
            return
        self._gate.clear()
        log.warning("broker unavailable", error=str(error), pending=self.pending, retry_s=self._pause_s)
        asyncio.get_running_loop().call_later(self._pause_s, self._gate.set)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _drop_oldest(self) -> None:
        number = next((n for n in self._waiting if n not in self._in_flight), None)
        if number is None:
            return
        lane, message = self._waiting.pop(number)
        self._lanes[lane].remove(number)
        if not self._dropped.messages:
            log.error("queue full, dropping the oldest", limit=self._limit, lane=lane)
        self._dropped = self._dropped.plus(lane, message)
        self.dropped += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
