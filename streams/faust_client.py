"""One Faust app for one stage: what touches Faust's insides, so that the driver need not know them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from faust.types import TP

from contracts.codec import Record
from contracts.errors import ConfigError, OptiInfraError
from contracts.stage import Stage
from contracts.topics import DEADLETTER, HEARTBEATS, PARTITIONS, changelog_of, group_of
from streams.brokers import admin
from streams.faust_app import EMBEDDED_SESSION_TIMEOUT_S, SESSION_TIMEOUT_S, make_app
from streams.leaving import END_WITHIN_S, consumer_stopped
from streams.offset_gap import Place

INBOX = 2000
"""Events read ahead of the driver; Faust's own queue and Kafka hold what comes after."""

_STOP_WITHIN_S = 10.0


class StageClient:
    """Reads the inputs of a stage into `inbox`, recovers its changelog, writes, and knows what is assigned.

    Events in `inbox` are Faust's and are never acknowledged to it: offsets are committed by `commit` alone.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        bootstrap: str,
        embedded: bool,
        worker_name: str,
        on_state: Callable[[int, str, bytes | None, int], None],
        fetch_wait_ms: int,
        session_timeout_s: float | None,
    ) -> None:
        self._stage, self._bootstrap, self._on_state = stage, bootstrap, on_state
        self.inbox: asyncio.Queue[Any] = asyncio.Queue(INBOX)
        self._inputs = {topic.name for topic in stage.inputs}
        self._app: Any = make_app(
            group_of(stage.name),
            bootstrap=bootstrap,
            fetch_wait_ms=fetch_wait_ms,
            session_timeout_s=session_timeout_s or (EMBEDDED_SESSION_TIMEOUT_S if embedded else SESSION_TIMEOUT_S),
            # A member with a name gets its partitions back at once after a kill; the mock knows no static members.
            group_instance_id=None if embedded else worker_name,
        )
        types: dict[str, Any] = {"key_type": bytes, "value_type": bytes}
        raw = types | {"key_serializer": "raw", "value_serializer": "raw"}
        changelog = self._app.topic(changelog_of(stage.name), partitions=PARTITIONS, compacting=True, **raw)
        self._table = self._app.Table(
            "state", changelog_topic=changelog, partitions=PARTITIONS, on_changelog_event=self._recover, **types
        )
        source = self._app.topic(*sorted(self._inputs), **raw)
        self._app.agent(source, name=f"{stage.name}-reader", concurrency=1)(self._read)

    async def start(self) -> None:
        """Join the group. Raises Unavailable without a broker, ConfigError without the topics of the stage."""
        needed = [topic.name for topic in (*self._stage.inputs, *self._stage.outputs, DEADLETTER, HEARTBEATS)]
        needed.append(changelog_of(self._stage.name))
        if missing := await asyncio.to_thread(admin.missing_topics, self._bootstrap, needed):
            # Faust would wait for them for ever, without a word.
            raise ConfigError(
                f"no topic {', '.join(missing)}", where=self._bootstrap, fix="Run optiinfra topics apply."
            )
        await self._app.start()

    async def crashed(self) -> None:
        """Wait until Faust gives up; then raise."""
        await self._app._crashed.wait()
        raise OptiInfraError(f"Faust crashed in stage {self._stage.name}: {self._app.crash_reason!r}")

    async def commit(self, offsets: Mapping[Place, int]) -> bool:
        """Move the group to these offsets, the next ones due; False when a rebalance came in between.

        Not left to Faust: after a recovery its commits of a partition can stop for good (docs/adr/0003).
        """
        places = {tp: offsets[tp.topic, tp.partition] for tp in self._app.consumer.assignment() if tp in offsets}
        taken: bool = await self._app.consumer._thread.commit(places)
        return taken

    async def leave(self) -> None:
        """Give the partitions back at once, which Faust's own stop leaves to the session time-out."""
        self._app.consumer.stop_flow()
        thread = self._app.consumer._thread
        stopping = consumer_stopped(thread._consumer, _STOP_WITHIN_S)
        leaving = asyncio.run_coroutine_threadsafe(stopping, thread.thread_loop)
        # All is done and committed: a client that will not end is left behind.
        for ending in (asyncio.wrap_future(leaving), self._app.stop()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending, _STOP_WITHIN_S + 2 * END_WITHIN_S)

    @property
    def generation(self) -> int:
        """Which handing-out of partitions this is; it changes with every rebalance."""
        found: int = self._app.consumer_generation_id
        return found

    @property
    def recovered(self) -> bool:
        """Whether the states of the changelog are loaded and records flow."""
        found: bool = self._app.tables.recovery.completed.is_set()
        return found

    def assigned(self) -> set[Place]:
        """The input partitions of this worker."""
        return {(tp.topic, tp.partition) for tp in self._app.consumer.assignment() if tp.topic in self._inputs}

    def highwater(self, topic: str, partition: int) -> int | None:
        """The end of a partition as the last fetch told it; None before the first, and for one of somebody else."""
        place = next((tp for tp in self._app.consumer.assignment() if tp == (topic, partition)), None)
        end: int | None = None if place is None else self._app.consumer.highwater(place)
        return end

    async def earliest(self, topic: str, partition: int) -> int:
        """The first offset that the broker still has; of any partition, since a rebalance may take it meanwhile."""
        place = TP(topic, partition)
        found: int = (await self._app.consumer.earliest_offsets(place))[place]
        return found

    async def committed(self, topic: str, partition: int) -> int | None:
        """Where the group stands, asked of the broker: Faust's own note of it may not have been taken yet."""
        thread = self._app.consumer._thread
        found: int | None = await thread.call_thread(thread._consumer.committed, TP(topic, partition))
        return found

    def forget_copies(self) -> None:
        """Drop the states that Faust's table keeps beside ours."""
        self._table.data.clear()

    async def send(self, record: Record) -> Awaitable[Any]:
        """Queue a record, partitioned by key; await the result for its acknowledgement."""
        return await self._produce(record.topic, record.key, record.value, None, list(record.headers))

    async def write_state(self, partition: int, key: str, value: bytes | None) -> Awaitable[Any]:
        """Queue a changelog record for the very partition that its inputs came from; await the result for its place,
        whose `offset` is below zero where the broker does not tell it."""
        return await self._produce(changelog_of(self._stage.name), key.encode(), value, partition, [])

    async def _produce(
        self, topic: str, key: bytes, value: bytes | None, partition: int | None, headers: list[tuple[str, bytes]]
    ) -> Awaitable[Any]:
        sent: Awaitable[Any] = await self._app.producer.send(topic, key, value, partition, None, headers)
        return sent

    async def _read(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self.inbox.put(event)

    async def _recover(self, event: Any) -> None:
        raw = event.message
        self._on_state(raw.partition, raw.key.decode(), raw.value, raw.offset)
