"""A store that stays away, a consumer that can be watched meanwhile, and the minute of a fleet that they miss."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.errors import Unavailable
from contracts.events import Sli
from contracts.ports import Row, Scalar
from streams.reader import GroupReader
from tests.streams.store.children import START_MS, sli


class Holding:
    """A store that is away until `back` is set, and keeps what it is given after that: a fake of the port."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.tries = 0
        self.batches: list[Sequence[Row]] = []

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        self.tries += 1
        if not self.back.is_set():
            raise Unavailable("away")
        if table == "slis":
            self.batches.append(rows)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        raise NotImplementedError("the sink asks nothing")


class Watched(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka publishes no types
    """The consumer that runs in earnest, and how many records it has handed to the sink so far."""

    made: ClassVar[list[Watched]] = []

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.handed = 0
        self.made.append(self)

    def subscribe(self, topics: Sequence[str], *, listener: GroupReader) -> None:
        super().subscribe(topics, listener=listener)
        self._reader = listener

    @property
    def joins(self) -> int:
        """How often it was given partitions: more than once where a busy machine let its session end."""
        return self._reader._generation

    async def idle(self) -> bool:
        """Whether it has partitions and reads none of them; those that a rebalance brings it pauses a moment later."""
        return bool(self.assignment()) and self.paused() == self.assignment()

    async def getmany(self, **wanted: object) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = await super().getmany(**wanted)
        self.handed += sum(map(len, found.values()))
        return found


def minute_of(workload: str, instances: int = 20, interval_ms: int = 2_000) -> list[list[Sli]]:
    """What a fleet of one workload makes known in 60 s of event time, by second: latest values of the instances and of
    the workload at each scrape, and the windows of 10 s as they end."""
    seconds = []
    for second in range(60):
        due = [n for n in range(instances) if (second * 1000 + n * 100) % interval_ms < 1000]
        names = [f"{workload}-{n}" for n in due]
        cause_ms = START_MS + second * 1000
        latest = [
            sli(workload, instance_id=subject, size_s=0, start_ms=cause_ms, cause_ms=cause_ms, cause=f"{name}@{second}")
            for name in names
            for subject in (name, None)
        ]
        ended = [*(f"{workload}-{n}" for n in range(instances)), None] if second % 10 == 9 else []
        seconds.append(latest + [sli(workload, second // 10, instance_id=name) for name in ended])
    return seconds
