"""Reading along once: all that topics hold, and then what comes, outside every consumer group."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import confluent_kafka

from contracts.codec import Record, decode, headers_of
from contracts.errors import BadMessage, ConfigError
from contracts.events import Message
from streams.brokers import client as calls
from streams.brokers.client import TopicPartition, reader, translated, watermarks

_AT_ONCE = 1000


class Follower:
    """Reads several topics from given places on; no record twice. All calls block, in one thread or another.

    Made by `following`. What cannot be read as a message is left out: whoever works with it dead-letters it.
    """

    def __init__(self, bootstrap: str, consumer: Any, ends: Mapping[TopicPartition, int]) -> None:
        self._bootstrap, self._consumer = bootstrap, consumer
        self._ends = dict(ends)
        self._lock = threading.Lock()
        self._closed = False

    def records(self, within_s: float = calls.CALL_TIMEOUT_S) -> Iterator[Record]:
        """What the topics held when reading began, and is not read yet, topic by topic in the order of each partition.

        Ends early where the broker gives nothing for `within_s`. Raises Unavailable.
        """
        while self._ends:
            found = self._consume(within_s, until_there=True)
            if not found:
                return
            yield from found

    def there(self, wanted: Callable[[Record], bool] = lambda record: True) -> list[Message]:
        """The same as messages, of the records that are wanted: to decode takes ten times as long as to read."""
        return [message for record in self.records() if wanted(record) and (message := _read(record)) is not None]

    def more(self, within_s: float) -> list[Message]:
        """What has come since, or comes within that time; nothing where nothing does. Raises Unavailable."""
        return [message for record in self._consume(within_s) if (message := _read(record)) is not None]

    def _consume(self, within_s: float, *, until_there: bool = False) -> list[Record]:
        """The next records; empty when none came in time, or after `close`."""
        deadline_s = time.monotonic() + within_s
        found: list[Record] = []
        with self._lock, translated(self._bootstrap):
            while not found and not self._closed and (left_s := deadline_s - time.monotonic()) > 0:
                for raw in self._consumer.consume(_AT_ONCE, min(left_s, 0.1)):
                    if (error := raw.error()) is None:
                        found.append(
                            Record(raw.topic(), raw.key() or b"", raw.value() or b"", headers_of(raw.headers()))
                        )
                        self._passed(TopicPartition(raw.topic(), raw.partition()), raw.offset() + 1)
                    elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        self._passed(TopicPartition(raw.topic(), raw.partition()), raw.offset())
                    else:
                        raise confluent_kafka.KafkaException(error)
                if until_there and not self._ends:
                    break
        return found

    def _passed(self, place: TopicPartition, offset: int) -> None:
        if offset >= self._ends.get(place, offset + 1):
            del self._ends[place]

    def close(self) -> None:
        """Stop; a call that another thread is in ends first."""
        self._closed = True
        with self._lock:
            self._consumer.close()


@contextlib.contextmanager
def following(bootstrap: str, topics: Mapping[str, int | None]) -> Iterator[Follower]:
    """Read along on topics. Each is begun so many records before the end of each partition, or at its beginning (None);
    nothing that is written from here on is missed.

    Raises ConfigError for a topic that the broker does not have, Unavailable when it is away.
    """
    with contextlib.ExitStack() as held:
        with translated(bootstrap):
            consumer = held.enter_context(reader(bootstrap, "optiinfra-tail"))
            known = consumer.list_topics(timeout=calls.CALL_TIMEOUT_S).topics
            if missing := [name for name in topics if name not in known]:
                raise ConfigError(f"no topic {missing[0]!r}", where=bootstrap, fix="See optiinfra topics list.")
            starts, ends = [], {}
            for name, most in topics.items():
                for number in known[name].partitions:
                    place = TopicPartition(name, number)
                    low, high = watermarks(consumer, place)
                    begin = low if most is None else max(low, high - most)
                    starts.append(confluent_kafka.TopicPartition(name, number, begin))
                    if begin < high:
                        ends[place] = high
            consumer.assign(starts)
        follower = Follower(bootstrap, consumer, ends)
        held.callback(follower.close)  # before the reader closes it once more, which does no harm
        yield follower


def _read(record: Record) -> Message | None:
    try:
        return decode(record)
    except BadMessage:
        return None
