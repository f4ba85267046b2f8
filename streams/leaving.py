"""Kafka clients are ended with all that is left of them.

aiokafka's own `stop` raises the cancellation of one of its tasks, which looks like ours, or waits for what never comes;
the others then go on, and connections stay open. So it ends in a task of its own, for so long and no longer, and what
is left then is ended here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import MessageAccumulator

END_WITHIN_S = 1.0
"""Wall seconds for the end of what was cancelled, and for closing what is open: each as long again."""
_CANCEL_AGAIN_S = 0.2


async def consumer_stopped(consumer: AIOKafkaConsumer, within_s: float) -> None:
    """Leave the group in peace within so many wall seconds, or without."""
    if not await _in_peace(consumer.stop(), within_s):
        fetcher, coordinator = consumer._fetcher, consumer._coordinator
        names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
        kept = [getattr(coordinator, name, None) for name in names]
        await _ended([*kept, *((fetcher._fetch_task, *fetcher._pending_tasks) if fetcher is not None else ())])
        await disconnected(consumer._client)


async def producer_stopped(producer: AIOKafkaProducer, within_s: float) -> None:
    """Send what it holds within so many wall seconds; what it then still holds has failed."""
    if not await _in_peace(producer.stop(), within_s):
        await _ended([producer._sender.sender_task if producer._sender is not None else None])
        _fail(producer._message_accumulator, KafkaConnectionError("the producer was ended"))
        await disconnected(producer.client)


async def disconnected(client: AIOKafkaClient) -> None:
    """Close a client's connections, also those it opened after it was closed: asked again, it connects in silence."""
    await _ended([asyncio.ensure_future(client.close())], cancel=False)


def seen(done: asyncio.Future[Any]) -> None:
    """The exception of a future that is done counts as seen: asyncio logs those that nobody has asked for."""
    if not done.cancelled():
        done.exception()


def _fail(accumulator: MessageAccumulator, why: KafkaConnectionError) -> None:
    """Tell all who sent a message, and asyncio's log nothing: aiokafka looks for a batch that it was to try again among
    those it tries, and has a future of each batch that nobody asks."""
    held = accumulator._pending_batches
    held.update(chain(*accumulator._batches.values()))
    accumulator._batches.clear()
    waiters = [batch._drain_waiter for batch in held]
    accumulator.fail_all(why)
    for each in waiters:
        seen(each)


async def _in_peace(stop: Coroutine[Any, Any, None], within_s: float) -> bool:
    stopping = asyncio.ensure_future(stop)
    await asyncio.wait({stopping}, timeout=within_s)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return True
    await _ended([stopping])
    return False


async def _ended(tasks: Iterable[asyncio.Future[Any] | None], *, cancel: bool = True) -> None:
    """Wait for their end, not for ever, whatever it is. They are cancelled until then: once is not always enough."""
    left, give_up = {each for each in tasks if each is not None}, asyncio.get_running_loop().time() + END_WITHIN_S
    while left and (rest_s := give_up - asyncio.get_running_loop().time()) > 0:
        if cancel:
            for each in left:
                each.cancel()
        done, left = await asyncio.wait(left, timeout=min(rest_s, _CANCEL_AGAIN_S))
        await asyncio.gather(*done, return_exceptions=True)
