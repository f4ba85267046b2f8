"""The outbox loses nothing while it has room, keeps each instance in order, and accounts for what it drops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.vllm.outbox import Dropped, Outbox
from contracts.errors import BadMessage, Reason
from contracts.events import Message, MetricsSnapshot


def snapshot(instance: str, seq: int) -> MetricsSnapshot:
    return MetricsSnapshot(
        workload="chat",
        instance_id=instance,
        scraper_epoch=1,
        seq=seq,
        scheduled_at_ms=1000 * seq,
        scraped_at_ms=1000 * seq,
        interval_s=1,
        up=True,
    )


def refuse_nothing(message: Message, error: BadMessage) -> None:
    raise AssertionError(f"refused {message}") from error


def seqs(publisher: Any, instance: str) -> list[int]:
    return [m.seq for m in publisher.snapshots if m.instance_id == instance]


async def test_an_outage_delays_messages_and_keeps_their_order(publisher: Any) -> None:
    lost: list[Dropped] = []
    outbox = Outbox(publisher, 100, on_refused=refuse_nothing, on_recovered=lost.append)
    publisher.away = True
    for seq in range(20):
        for instance in ("a", "b", "c"):
            outbox.put(instance, snapshot(instance, seq))
        await asyncio.sleep(0)
    assert outbox.pending == 60
    publisher.away = False
    assert await outbox.flush(10) == 0
    for instance in ("a", "b", "c"):
        assert seqs(publisher, instance) == list(range(20))
    assert publisher.tries_while_away >= 1
    assert lost == []
    assert (outbox.published, outbox.dropped) == (60, 0)


async def test_a_full_queue_drops_the_oldest_and_says_how_many(publisher: Any) -> None:
    lost: list[Dropped] = []
    outbox = Outbox(publisher, 10, on_refused=refuse_nothing, on_recovered=lost.append)
    publisher.away = True
    for seq in range(20):
        for instance in ("a", "b"):
            outbox.put(instance, snapshot(instance, seq))
        await asyncio.sleep(0)
    assert outbox.pending == 10
    publisher.away = False
    assert await outbox.flush(10) == 0
    sent = sorted((m.seq, m.instance_id) for m in publisher.snapshots)
    assert [s for s, _ in sent[-8:]] == [16, 16, 17, 17, 18, 18, 19, 19]
    assert len(sent) == 10
    assert seqs(publisher, "a") == sorted(seqs(publisher, "a"))
    [account] = lost
    assert account.messages == 30 == outbox.dropped
    assert account.lanes == {"a", "b"}
    assert account.first_ms < account.last_ms <= 16_000


async def test_a_message_that_is_refused_does_not_block_its_lane(publisher: Any) -> None:
    class Picky:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            if isinstance(message, MetricsSnapshot) and message.up and message.seq == 1:
                raise BadMessage(Reason.TOO_LARGE, "too large")
            await publisher.publish(message)

    def instead(message: Message, error: BadMessage) -> Message:
        return message.model_copy(update={"up": False, "error": error.detail})

    outbox = Outbox(Picky(), 10, on_refused=instead, on_recovered=lambda _: None)
    for seq in range(3):
        outbox.put("a", snapshot("a", seq))
    assert await outbox.flush(10) == 0
    assert [(m.seq, m.up) for m in publisher.snapshots] == [(0, True), (1, False), (2, True)]


async def test_a_bug_in_the_publisher_does_not_pass_for_an_outage() -> None:
    class Broken:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            raise KeyError("bug")

    outbox = Outbox(Broken(), 10, on_refused=refuse_nothing, on_recovered=lambda _: None)
    outbox.put("a", snapshot("a", 0))
    await asyncio.sleep(0.01)
    with pytest.raises(KeyError, match="bug"):
        outbox.put("a", snapshot("a", 1))


async def test_what_cannot_be_published_before_the_end_is_counted(publisher: Any) -> None:
    outbox = Outbox(publisher, 10, on_refused=refuse_nothing, on_recovered=lambda _: None)
    publisher.away = True
    outbox.put("a", snapshot("a", 0))
    assert await outbox.flush(0.05) == 1
