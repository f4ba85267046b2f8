"""What the tests of the driver do to it: start a worker as a process, kill it, feed it, and read what it put out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import confluent_kafka

from contracts.codec import Record, encode
from contracts.events import DeadLetter, InstanceWindow, Message
from contracts.topics import DEADLETTER, WINDOWS
from streams.brokers.admin import Tailed, group_lag, tail
from tests.conftest import Broker

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


class Life:
    """A worker process that can be killed, and is started again as the supervisor would where its Kafka client skipped
    records: it ends on purpose then, to read them again."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-m", *arguments]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._command, cwd=ROOT, start_new_session=True, stderr=self._said)
        return self.process

    def still_lives(self) -> bool:
        """Whether it runs still, or else runs anew; one that ended for another reason is a failure."""
        if self.process.poll() is None:
            return True
        self._said.seek(0)
        said = self._said.read().decode()
        assert "the Kafka client skipped offsets" in said, f"it ended by itself: {self.process.returncode}\n{said}"
        self._said.truncate(0)
        self.start()
        return False

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._said.seek(0)
        sys.stderr.write(self._said.read().decode())
        self._said.close()


class Worker(Life):
    """A worker process of the counting stage `name`."""

    def __init__(self, broker: Broker, name: str, *flags: str) -> None:
        command = ["tests.streams.worker_process", "--bootstrap", broker.bootstrap, "--stage", name]
        super().__init__(*command, *(["--embedded"] if broker.embedded else []), *flags)


class Producer:
    """Writes records as the codec makes them, or any bytes, with Kafka's murmur2 partitioning."""

    def __init__(self, bootstrap: str) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "log_level": 0,
        }
        self._producer = confluent_kafka.Producer(settings)

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.raw(encode(message, source="test"))

    def send_to(self, message: Message, partition: int) -> None:
        self.raw(encode(message, source="test"), partition)

    def raw(self, record: Record, partition: int | None = None) -> None:
        anywhere = -1
        to = anywhere if partition is None else partition
        self._producer.produce(record.topic, record.value, record.key, to, headers=list(record.headers))
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(PATIENCE_S) == 0


class Feeder(threading.Thread):
    """Writes messages at a steady rate until all are written."""

    def __init__(self, bootstrap: str, messages: Sequence[Message], per_s: float) -> None:
        super().__init__(daemon=True)
        self._producer, self._messages, self._per_s = Producer(bootstrap), messages, per_s

    def run(self) -> None:
        started = time.monotonic()
        for number, message in enumerate(self._messages):
            self._producer.send([message])
            time.sleep(max(0.0, started + number / self._per_s - time.monotonic()))
        self._producer.flush()


def outputs(broker: Broker, worker: str) -> list[Tailed]:
    """All that a worker has put out, in log order per partition, repeats included."""
    found = tail(broker.bootstrap, WINDOWS.name, from_beginning=True, follow=False)
    return [each for each in found if each.record.header("ce_source") == worker]


def once(found: Iterable[Tailed]) -> dict[str, list[Message]]:
    """By instance and in order, each id once; a repeat must be equal to the first."""
    seen: dict[str, Message] = {}
    ordered: dict[str, list[Message]] = {}
    for each in found:
        assert isinstance(each.message, InstanceWindow)
        first = seen.setdefault(each.message.id, each.message)
        assert first == each.message
        if first is each.message:
            ordered.setdefault(each.message.instance_id, []).append(each.message)
    return ordered


def dead_letters(broker: Broker, stage: str) -> list[DeadLetter]:
    """The dead letters of a stage, each id once."""
    found = [each.message for each in tail(broker.bootstrap, DEADLETTER.name, from_beginning=True, follow=False)]
    return list({m.id: m for m in found if isinstance(m, DeadLetter) and m.source == stage}.values())


def drained(broker: Broker, group: str, topic: str) -> bool:
    """Whether the group has committed all that the topic holds."""
    return all(done >= end for done, end in group_lag(broker.bootstrap, group, [topic]).values())


async def until(condition: Callable[[], bool], *workers: Life) -> None:
    """Wait for a condition, with patience, while these live."""
    deadline = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(condition):
        for worker in workers:
            worker.still_lives()
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.25)  # each look asks the broker, which shares our cores


def clients_work(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """What of these is the Kafka client's own, by name."""
    coroutines: list[Any] = [each.get_coro() for each in tasks]
    return sorted(each.__qualname__ for each in coroutines if "aiokafka" in each.cr_code.co_filename)
