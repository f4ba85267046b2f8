"""What a worker has read and not finished: how far its group may be moved when messages are done out of order."""

from __future__ import annotations

import asyncio
from collections import deque

from aiokafka import ConsumerRecord, TopicPartition


class Item:
    """A record in hand. `over` is set when nobody should wait for it any longer."""

    def __init__(self, record: ConsumerRecord, over: asyncio.Event) -> None:
        self.record, self.over, self.done = record, over, False


class InHand:
    """The records read since the partitions were handed out, in the order of each log, until they are committed."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._items: dict[TopicPartition, deque[Item]] = {}
        self._due: dict[TopicPartition, int] = {}

    def take(self, record: ConsumerRecord) -> Item:
        """Note a record that is still to be done: whoever does it sets `done`."""
        item = Item(record, self.over)
        self._items.setdefault(TopicPartition(record.topic, record.partition), deque()).append(item)
        return item

    def due(self) -> dict[TopicPartition, int]:
        """Where the group may stand by now: before the first record that is not done. Only what has changed."""
        for place, items in self._items.items():
            while items and items[0].done:
                self._due[place] = items.popleft().record.offset + 1
        return dict(self._due)

    def committed(self, offsets: dict[TopicPartition, int]) -> None:
        """Note what the broker has taken."""
        for place, offset in offsets.items():
            if self._due.get(place) == offset:
                del self._due[place]

    @property
    def unfinished(self) -> int:
        """How many records are not done."""
        return sum(not item.done for items in self._items.values() for item in items)
