"""Looking after topics on any broker: make them as the table says, list them, read along, and measure a group's lag.

All calls block; coroutines run them in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import confluent_kafka

from contracts.codec import Record, decode, headers_of
from contracts.errors import BadMessage, ConfigError
from contracts.events import Message
from contracts.topics import PARTITIONS, TOPICS, Cleanup, changelog_of
from streams.brokers import client as calls
from streams.brokers.client import (
    TopicPartition,
    admin_client,
    kafka_admin,
    log_ends,
    reader,
    translated,
    watermarks,
)

# A segment is compacted after it is closed: with Kafka's 1 GiB and seven days a changelog would replay for minutes.
_CHANGELOG_CONFIG = {"cleanup.policy": "compact", "segment.ms": "600000", "segment.bytes": "67108864"}


class Outcome(StrEnum):
    """What `apply_topics` found or did for one topic."""

    OK = "ok"
    CREATED = "created"
    UPDATED = "updated"
    DIFFERS = "differs"


@dataclass(frozen=True)
class TopicReport:
    """The outcome for one topic; `detail` names what was changed, or what differs and how to mend it."""

    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class TopicInfo:
    """A topic as the broker holds it: `ends` is one offset a partition, `held` how many messages can still be read."""

    name: str
    partitions: int
    ends: tuple[int, ...]
    held: int


@dataclass(frozen=True)
class Tailed:
    """A record read along: the message, or None and the reason why it cannot be read."""

    record: Record
    partition: int
    offset: int
    message: Message | None
    problem: BadMessage | None


def wanted_topics(stages: Iterable[str]) -> dict[str, tuple[int, dict[str, str]]]:
    """Name to (partitions, configuration) of every topic of the table and the changelogs of `stages`."""
    wanted = {
        topic.name: (
            topic.partitions,
            {"cleanup.policy": topic.cleanup.value}
            | ({"retention.ms": str(topic.retention_ms)} if topic.cleanup is Cleanup.DELETE else {}),
        )
        for topic in TOPICS
    }
    return wanted | {changelog_of(stage): (PARTITIONS, dict(_CHANGELOG_CONFIG)) for stage in stages}


def reachable(bootstrap: str, timeout_s: float = 3.0) -> bool:
    """Whether a broker answers at `bootstrap` within the time."""
    try:
        admin_client(bootstrap).list_topics(timeout=timeout_s)
    except confluent_kafka.KafkaException:
        return False
    return True


def missing_topics(bootstrap: str, names: Iterable[str], timeout_s: float = 5.0) -> list[str]:
    """Those of `names` that the broker does not have. Raises Unavailable."""
    with translated(bootstrap):
        found = admin_client(bootstrap).list_topics(timeout=timeout_s).topics
    return [name for name in names if name not in found]


def apply_topics(bootstrap: str, stages: Sequence[str], replication: int = 1) -> list[TopicReport]:
    """Create what is missing and mend what may be mended; a second call finds all `ok`.

    Partitions are added to empty topics only: keys of a topic in use would move away from their state. Raises
    Unavailable when the broker is away, ConfigError when it makes no topics on request (the embedded one).
    """
    client, wanted = admin_client(bootstrap), wanted_topics(stages)
    with translated(bootstrap):
        cluster = client.list_topics(timeout=calls.CALL_TIMEOUT_S)
        found, present = cluster.topics, [name for name in wanted if name in cluster.topics]
        missing = [name for name in wanted if name not in found]
        if _is_mock(cluster):
            return _embedded_reports(present, missing)
        new = [
            kafka_admin.NewTopic(name, num_partitions=wanted[name][0], replication_factor=replication, config=config)
            for name in missing
            for config in (wanted[name][1],)
        ]
        created = client.create_topics(new, request_timeout=calls.CALL_TIMEOUT_S) if new else {}
        reports = {name: _created(name, future) for name, future in created.items()}
        log_ends(
            bootstrap, {name: wanted[name][0] for name in missing}
        )  # returns once every new partition has a leader
        actual = _configs(client, present)
        for name in present:
            count, config = wanted[name]
            reports[name] = _mend(client, bootstrap, name, len(found[name].partitions), count, actual[name], config)
    return [reports[name] for name in wanted]


def _created(name: str, future: Any) -> TopicReport:
    try:
        future.result(timeout=calls.CALL_TIMEOUT_S + 1)
    except confluent_kafka.KafkaException as error:
        if error.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return TopicReport(name, Outcome.OK, "made by somebody else at the same time")
    return TopicReport(name, Outcome.CREATED)


def is_embedded(bootstrap: str) -> bool:
    """Whether the broker is the embedded one: the mock cluster says so in its cluster id. Raises Unavailable."""
    with translated(bootstrap):
        return _is_mock(admin_client(bootstrap).list_topics(timeout=calls.CALL_TIMEOUT_S))


def _is_mock(cluster: Any) -> bool:
    return (cluster.cluster_id or "").startswith("mockCluster")


def _embedded_reports(present: Sequence[str], missing: Sequence[str]) -> list[TopicReport]:
    if missing:
        raise ConfigError(
            f"the embedded broker makes no topics on request, and lacks {', '.join(missing)}",
            fix="Name the stages when it starts (--stage), or use Apache Kafka (make kafka).",
        )
    return [TopicReport(name, Outcome.OK, "embedded: in memory, no retention or compaction") for name in present]


def _configs(client: Any, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    resources = [kafka_admin.ConfigResource(kafka_admin.ConfigResource.Type.TOPIC, name) for name in names]
    answers = client.describe_configs(resources, request_timeout=calls.CALL_TIMEOUT_S) if resources else {}
    return {
        resource.name: {key: entry.value for key, entry in future.result(timeout=calls.CALL_TIMEOUT_S + 1).items()}
        for resource, future in answers.items()
    }


def _mend(
    client: Any,
    bootstrap: str,
    name: str,
    partitions: int,
    wanted_partitions: int,
    actual: Mapping[str, str | None],
    wanted: Mapping[str, str],
) -> TopicReport:
    done, differs = [], []
    if partitions < wanted_partitions and not any(end for _, end in log_ends(bootstrap, {name: partitions}).values()):
        grow = client.create_partitions([kafka_admin.NewPartitions(name, wanted_partitions)])
        grow[name].result(timeout=calls.CALL_TIMEOUT_S + 1)
        done.append(f"partitions {partitions} → {wanted_partitions}")
    elif partitions != wanted_partitions:
        differs.append(
            f"it has {partitions} partitions and the table says {wanted_partitions}: keys in use would move; "
            "drain its readers, delete the topic and apply again"
        )
    changes = {key: value for key, value in wanted.items() if actual.get(key) != value}
    if changes:
        entries = [
            kafka_admin.ConfigEntry(key, value, incremental_operation=kafka_admin.AlterConfigOpType.SET)
            for key, value in changes.items()
        ]
        topic = kafka_admin.ConfigResource(kafka_admin.ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        for future in client.incremental_alter_configs([topic]).values():
            future.result(timeout=calls.CALL_TIMEOUT_S + 1)
        done += [f"{key} {actual.get(key)} → {value}" for key, value in changes.items()]
    outcome = Outcome.DIFFERS if differs else Outcome.UPDATED if done else Outcome.OK
    return TopicReport(name, outcome, "; ".join(differs + done))


def list_topics(bootstrap: str) -> list[TopicInfo]:
    """Every topic of the broker, by name, without Kafka's internal ones. Raises Unavailable."""
    with translated(bootstrap):
        found = admin_client(bootstrap).list_topics(timeout=calls.CALL_TIMEOUT_S).topics
        counts = {name: len(found[name].partitions) for name in sorted(found) if not name.startswith("__")}
        ends = log_ends(bootstrap, counts)
    marks = {name: [ends[TopicPartition(name, number)] for number in range(count)] for name, count in counts.items()}
    return [
        TopicInfo(name, counts[name], tuple(end for _, end in pairs), sum(end - start for start, end in pairs))
        for name, pairs in marks.items()
    ]


def group_lag(bootstrap: str, group: str, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
    """Per partition of `topics` where the group goes on and the end of the log.

    It goes on where it has committed, or without a commit where the log begins by now. The broker is asked; the group
    is not joined, so nothing rebalances. Raises Unavailable.
    """
    with translated(bootstrap), reader(bootstrap, group) as consumer:
        known = consumer.list_topics(timeout=calls.CALL_TIMEOUT_S).topics
        parts = [
            confluent_kafka.TopicPartition(topic, number)
            for topic in topics
            if topic in known
            for number in known[topic].partitions
        ]
        found = {}
        for part in committed_patiently(consumer, parts):
            place = TopicPartition(part.topic, part.partition)
            low, end = watermarks(consumer, place)
            found[place] = (part.offset if part.offset >= 0 else low, end)
        return found


_COORDINATING = (
    confluent_kafka.KafkaError.NOT_COORDINATOR,
    confluent_kafka.KafkaError.COORDINATOR_NOT_AVAILABLE,
    confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_COORDINATOR_POLL_S = 0.1


def committed_patiently(consumer: Any, parts: Sequence[Any]) -> list[Any]:
    """Committed offsets of `parts`. A group that appeared a moment ago may still be looking for its coordinator: errors
    that pass are borne for the time of one call, then raised as KafkaException, as every other is at once."""
    deadline_s = time.monotonic() + calls.CALL_TIMEOUT_S
    while True:
        try:
            found = list(consumer.committed(parts, timeout=max(0.1, deadline_s - time.monotonic())))
            for part in found:
                if part.error is not None:
                    raise confluent_kafka.KafkaException(part.error)
        except confluent_kafka.KafkaException as error:
            reason = error.args[0]
            passes = reason.retriable() or reason.code() in _COORDINATING
            if not passes or time.monotonic() >= deadline_s:
                raise
            time.sleep(_COORDINATOR_POLL_S)
        else:
            return found


def tail(
    bootstrap: str, topic: str, from_beginning: bool = False, n: int | None = None, follow: bool = True
) -> Iterator[Tailed]:
    """Records of a topic as they come, at most `n`; without `follow` it ends where the log ends.

    Raises ConfigError for a topic that the broker does not have, Unavailable when it is away.
    """
    with translated(bootstrap), reader(bootstrap, "optiinfra-tail") as consumer:
        found = consumer.list_topics(timeout=calls.CALL_TIMEOUT_S).topics
        if topic not in found:
            raise ConfigError(f"no topic {topic!r}", where=bootstrap, fix="See optiinfra topics list.")
        start = confluent_kafka.OFFSET_BEGINNING if from_beginning else confluent_kafka.OFFSET_END
        unread = set(found[topic].partitions)
        consumer.assign([confluent_kafka.TopicPartition(topic, number, start) for number in unread])
        seen = 0
        while (n is None or seen < n) and (follow or unread):
            raw = consumer.poll(1.0)
            if raw is None:
                continue
            error = raw.error()
            if error and error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                unread.discard(raw.partition())
            elif error:
                raise confluent_kafka.KafkaException(error)
            else:
                seen += 1
                yield _tailed(raw)


def _tailed(raw: Any) -> Tailed:
    record = Record(raw.topic(), raw.key() or b"", raw.value() or b"", headers_of(raw.headers()))
    try:
        return Tailed(record, raw.partition(), raw.offset(), decode(record), None)
    except BadMessage as problem:
        return Tailed(record, raw.partition(), raw.offset(), None, problem)
