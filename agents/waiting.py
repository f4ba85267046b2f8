"""How answers are waited for: as in life, or where nothing has to be waited for, as in a replay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Waiting:
    """As in life: others work meanwhile, a late answer is given up, and what would lapse is renewed."""

    async def together(self, asked: Iterable[Awaitable[T]]) -> list[T]:
        """All answers, in the order in which they were asked for, waited for at once. One alone is waited for as it is:
        a task costs more than most answers do."""
        every = list(asked)
        return list(await asyncio.gather(*every)) if len(every) > 1 else [await each for each in every]

    def within(self, wall_s: float) -> AbstractAsyncContextManager[object]:
        """Raises TimeoutError where what is waited for in it takes longer."""
        return asyncio.timeout(wall_s)

    async def meanwhile(self, every_s: float, again: Callable[[], Awaitable[None]], work: Awaitable[T]) -> T:
        """What `work` comes to; until then `again` is called every so many wall seconds."""
        answered, calling = asyncio.Event(), list[asyncio.Task[None]]()

        async def call() -> None:
            while not answered.is_set():
                try:
                    await again()
                except Exception as error:  # noqa: BLE001 - one fault must not end the renewing
                    log.warning("call_meanwhile_failed", error=f"{type(error).__name__}: {error}")
                with suppress(TimeoutError):
                    async with asyncio.timeout(every_s):
                        await answered.wait()

        # Most answers come long before: only a late one is worth a task.
        late = asyncio.get_running_loop().call_later(every_s, lambda: calling.append(asyncio.create_task(call())))
        try:
            return await work
        finally:
            late.cancel()
            answered.set()
            if calling:
                # Waited for, never cancelled: a call that is cut off leaves a connection of which nobody knows what it
                # will answer.
                await asyncio.wait(calling)


IN_LIFE = Waiting()


class NoWaiting(Waiting):
    """Where every answer is there already: one after the other, without an event loop. What has to be waited for all
    the same fails, as RuntimeError."""

    async def together(self, asked: Iterable[Awaitable[T]]) -> list[T]:
        return [await each for each in asked]

    def within(self, wall_s: float) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def meanwhile(self, every_s: float, again: Callable[[], Awaitable[None]], work: Awaitable[T]) -> T:
        return await work


def without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """What work comes to in which nothing has to be waited for. Raises RuntimeError where something has."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    work.close()
    raise RuntimeError("it has to be waited for")
