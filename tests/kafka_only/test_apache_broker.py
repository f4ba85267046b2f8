"""The real broker of `make kafka`: it starts, keeps its data, refuses with the remedy, and compacts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kafka
import pytest
from kafka import admin as kafka_admin

from contracts.errors import Conflict, Unavailable
from streams.brokers.apache import JAVA_AT_LEAST, ApacheKafka
from streams.brokers.jars import resolve

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
ONE_MINUTE_S = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One broker for this module; its log cleaner looks every 300 ms instead of every 15 s."""
    running = ApacheKafka(tmp_path_factory.mktemp("kafka"), port=0, properties={"log.cleaner.backoff.ms": "300"})
    running.start()
    yield running
    running.stop()


def create_topic(broker: ApacheKafka, name: str, partitions: int = 1, **configs: str) -> None:
    dotted = {key.replace("_", "."): value for key, value in configs.items()}
    with contextlib.closing(kafka_admin.KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_topics([kafka_admin.NewTopic(name, partitions, 1, topic_configs=dotted)])


def produce(broker: ApacheKafka, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    with contextlib.closing(kafka.KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")) as producer:
        for key, value in records:
            producer.send(topic, key=key, value=value).get(timeout=10)


def read_all(broker: ApacheKafka, topic: str) -> list[tuple[bytes, bytes]]:
    """Every record of the one-partition topic `topic`, from its beginning to its present end."""
    with contextlib.closing(kafka.KafkaConsumer(bootstrap_servers=broker.bootstrap)) as consumer:
        partition = kafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        found = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=200).values():
                found += [(record.key, record.value) for record in records]
        return found


def poll_until(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def test_a_started_broker_serves_a_client_on_loopback_within_a_minute(broker: ApacheKafka) -> None:
    assert 0 < broker.ready_s < ONE_MINUTE_S
    assert broker.pid is not None
    create_topic(broker, "greeting", partitions=4)
    produce(broker, "greeting", [(b"k", b"hello")])
    with contextlib.closing(kafka.KafkaConsumer("greeting", bootstrap_servers=broker.bootstrap)) as consumer:
        assert consumer.partitions_for_topic("greeting") == {0, 1, 2, 3}
    assert "one node" in broker.describe()
    assert str(broker.data_dir) in broker.describe()


def test_nothing_but_loopback_can_reach_it(broker: ApacheKafka) -> None:
    config = (broker.state_dir / "server.properties").read_text()
    hosts = [line.split("//", 1)[1] for line in config.splitlines() if "listeners=" in line and "//" in line]
    assert hosts
    assert all(host.startswith("127.0.0.1:") for host in hosts)
    with socket.socket() as outside:
        outside.settimeout(2)
        assert outside.connect_ex(("127.0.0.2", broker.port)) != 0  # same machine, another address


def test_a_topic_that_nobody_made_is_not_made_by_writing_to_it(broker: ApacheKafka) -> None:
    with contextlib.closing(
        kafka.KafkaProducer(bootstrap_servers=broker.bootstrap, max_block_ms=1500, allow_auto_create_topics=True)
    ) as producer, pytest.raises(kafka.errors.KafkaError):  # fmt: skip
        producer.send("nobody.made.this", b"x").get(timeout=3)


def test_data_outlast_a_clean_restart_and_reset_forgets_them(tmp_path: Path) -> None:
    records = [(b"a", b"1"), (b"b", b"2")]
    broker = ApacheKafka(tmp_path, port=0)
    try:
        broker.start()
        create_topic(broker, "kept")
        produce(broker, "kept", records)
        broker.stop()
        assert broker.pid is None
        assert (broker.data_dir / ".kafka_cleanshutdown").exists()
        broker.start()
        assert read_all(broker, "kept") == records
    finally:
        broker.stop()
    broker.reset()
    assert not broker.data_dir.exists()


def test_data_outlast_a_kill(tmp_path: Path) -> None:
    broker = ApacheKafka(tmp_path, port=0)
    try:
        broker.start()
        create_topic(broker, "kept")
        produce(broker, "kept", [(b"a", b"1")])
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        assert broker.wait(10) == -signal.SIGKILL
        broker.start()
        assert read_all(broker, "kept") == [(b"a", b"1")]
    finally:
        broker.stop()


def test_a_second_broker_on_the_same_port_is_refused_naming_the_port_and_the_option(
    broker: ApacheKafka, tmp_path: Path
) -> None:
    with pytest.raises(Conflict, match=rf"port {broker.port} .*--port"):
        ApacheKafka(tmp_path, port=broker.port).start()
    assert not (tmp_path / "kafka-data").exists()


def test_a_second_broker_in_the_same_directory_is_refused_and_so_is_reset(broker: ApacheKafka) -> None:
    second = ApacheKafka(broker.state_dir, port=0)
    with pytest.raises(Conflict, match=r"another Kafka is using .*--state-dir"):
        second.start()
    with pytest.raises(Conflict, match="another Kafka is using"):
        second.reset()
    assert broker.pid is not None


def test_a_directory_with_somebody_elses_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    theirs = tmp_path / "kafka-data" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    broker = ApacheKafka(tmp_path, port=0)
    for act in (broker.start, broker.reset):
        with pytest.raises(Conflict, match="holds no Kafka data"):
            act()
    assert theirs.read_text() == "years of work"


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broker = ApacheKafka(tmp_path, port=0, properties={"num.io.threads": "none"})
    with pytest.raises(Unavailable, match=r"(?s)num\.io\.threads"):
        broker.start()
    assert broker.pid is None


def test_missing_and_old_java_are_named_with_the_package_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"not installed.*openjdk-17"):
        ApacheKafka(tmp_path, port=0, java="no-such-java").start()
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    with pytest.raises(Unavailable, match=rf"1\.8\.0.*Install Java {JAVA_AT_LEAST}"):
        ApacheKafka(tmp_path, port=0, java=str(old)).start()


def test_missing_and_failing_maven_are_named_and_leave_no_half_cache(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no-such-mvn.*apt-get install maven"):
        resolve(tmp_path / "jars", mvn="no-such-mvn")
    failing = tmp_path / "mvn"
    failing.write_text("#!/bin/sh\nmkdir -p libs && touch libs/half.jar\necho '[ERROR] no route to host'\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(Unavailable, match="no route to host"):
        resolve(tmp_path / "jars", mvn=str(failing))
    assert [path.name for path in tmp_path.iterdir()] == ["mvn"]


def test_a_cache_that_lost_a_jar_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    cache = tmp_path / "jars"
    (cache / "libs").mkdir(parents=True)
    (cache / "complete.json").write_text(json.dumps({"kafka.jar": 3}))
    with pytest.raises(Unavailable):
        resolve(cache, mvn="no-such-mvn")
    (cache / "libs" / "kafka.jar").write_bytes(b"jar")
    assert resolve(cache, mvn="no-such-mvn") == cache / "libs"


def test_compaction_removes_the_older_records_of_a_key(broker: ApacheKafka) -> None:
    create_topic(
        broker, "table-changelog", cleanup_policy="compact", segment_ms="200", min_cleanable_dirty_ratio="0.01"
    )
    rounds = 20
    for number in range(rounds):
        produce(broker, "table-changelog", [(key, b"%d" % number) for key in (b"a", b"b")])
    assert len(read_all(broker, "table-changelog")) <= 2 * rounds
    time.sleep(0.3)  # the next record finds the segment older than segment.ms, and closes it for the cleaner
    produce(broker, "table-changelog", [(b"a", b"last")])
    left: list[tuple[bytes, bytes]] = []

    def compacted() -> bool:
        left[:] = read_all(broker, "table-changelog")
        return len(left) == 3  # the newest closed record of a and b, and a's record in the open segment

    assert poll_until(compacted, within_s=20), left
    assert left == [(b"a", b"19"), (b"b", b"19"), (b"a", b"last")]


def test_the_command_says_when_it_is_ready_and_stops_on_sigterm(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streams.brokers.apache", "--state-dir", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines: list[str] = []
            while not any("ready in" in line for line in lines):
                line = process.stdout.readline()
                assert line, f"the command ended early: {lines}"
                lines.append(line)
            assert f"127.0.0.1:{port}; Ctrl-C stops it" in lines[-1]
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            assert process.wait(30) == 0
            assert "stopped in" in rest
        finally:
            process.terminate()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
