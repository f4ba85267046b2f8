"""Talking to a broker with confluent-kafka: clients that keep quiet, and its errors turned into ours.

It agrees on protocol versions with the mock cluster as with Kafka 4; kafka-python gives up on the mock after 30 s.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import confluent_kafka

from contracts.errors import OptiInfraError, Unavailable

CALL_TIMEOUT_S = 10.0

# Its stubs mark what it offers as not exported; this way the names stay as its documentation has them.
kafka_admin: Any = importlib.import_module("confluent_kafka.admin")

_ELECTING = (
    confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION,
    confluent_kafka.KafkaError.LEADER_NOT_AVAILABLE,
    confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART,
    confluent_kafka.KafkaError._UNKNOWN_TOPIC,  # the client's own metadata is older than the topic
    confluent_kafka.KafkaError._UNKNOWN_PARTITION,
)
_ELECTION_POLL_S = 0.1
_QUIET = logging.getLogger("streams.brokers.librdkafka")


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


def log_ends(bootstrap: str, counts: Mapping[str, int]) -> dict[TopicPartition, tuple[int, int]]:
    """First offset held and end of the log, per partition."""
    with reader(bootstrap, "optiinfra-admin") as consumer:
        places = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
        return {place: watermarks(consumer, place) for place in places}


def watermarks(consumer: Any, place: TopicPartition) -> tuple[int, int]:
    """The watermarks of a partition; a topic made a moment ago may still be electing its leaders."""
    deadline_s = time.monotonic() + CALL_TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(*place), timeout=CALL_TIMEOUT_S)
        except confluent_kafka.KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline_s:
                raise
            time.sleep(_ELECTION_POLL_S)
        else:
            return int(low), int(high)


def admin_client(bootstrap: str) -> Any:
    """A client for questions and orders about topics."""
    return kafka_admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}, logger=_QUIET)


@contextlib.contextmanager
def reader(bootstrap: str, group: str) -> Iterator[Any]:
    """A consumer that never subscribes: it may ask and read, and the group does not notice."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
        "log_level": 0,
    }
    consumer = confluent_kafka.Consumer(settings, logger=_QUIET)
    try:
        yield consumer
    finally:
        consumer.close()


@contextlib.contextmanager
def translated(bootstrap: str) -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except confluent_kafka.KafkaException as error:
        reason = error.args[0]
        away = (
            confluent_kafka.KafkaError._TRANSPORT,
            confluent_kafka.KafkaError._ALL_BROKERS_DOWN,
            confluent_kafka.KafkaError._TIMED_OUT,
        )
        if reason.code() in away:
            raise Unavailable(
                f"Kafka does not answer: {reason.str()}",
                where=bootstrap,
                fix="Start it (make kafka), or correct OPTIINFRA_KAFKA; unset, the embedded broker is used.",
            ) from error
        raise OptiInfraError(f"Kafka refused: {reason.str()}", where=bootstrap) from error
