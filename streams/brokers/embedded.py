"""The embedded broker: librdkafka's mock cluster, which speaks Kafka's protocol from memory, in a process of its own.

Run it with `python -m streams.brokers.embedded --ready-file FILE`: the bootstrap address appears in FILE, in one piece,
once every topic exists. It ends with its parent. What it cannot do: keep data, compact, create topics on request, or
serve two members of one consumer group. Source: github.com/confluentinc/librdkafka, src/rdkafka_mock.h.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import ctypes.util
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from contracts.errors import OptiInfraError, Unavailable
from contracts.topics import PARTITIONS, TOPICS, changelog_of

KEPT_MIB_PER_PARTITION = 5
"""`RD_KAFKA_MOCK` keeps this much of a partition and then drops the oldest batches (rdkafka_mock.c)."""

_PARENT_POLL_S = 0.2
_KNOCK_S = 0.005
_JOIN_DELAY_MS = 300  # one worker a group: nobody else to wait for, and the default of 3 s would slow every restart


def find_library(package: str = "confluent_kafka") -> Path | str:
    """The librdkafka shared library: the one inside the confluent-kafka wheel, else the system's.

    Raises Unavailable when there is none.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        # auditwheel puts the library beside the package, delocate (macOS) inside it
        places = ((folder.parent / f"{package}.libs", "librdkafka*.so*"), (folder / ".dylibs", "librdkafka*.dylib"))
        for place, pattern in places:
            if found := sorted(place.glob(pattern)):
                return found[0]
        if system := ctypes.util.find_library("rdkafka"):
            return system
    raise Unavailable(
        "the embedded broker needs librdkafka and found none",
        where="streams.brokers.embedded",
        fix="Install the wheel (pip install --only-binary :all: confluent-kafka), or name a broker in OPTIINFRA_KAFKA.",
    )


class MockCluster:
    """One broker inside this process, on a free port of 127.0.0.1, with every topic of the table.

    Tests use the fault switches; everything else runs `python -m streams.brokers.embedded`.
    """

    def __init__(self, stages: Iterable[str] = (), library: Path | str | None = None) -> None:
        path = library if library is not None else find_library()
        try:
            self._lib = ctypes.CDLL(str(path))
            self._start()
        except (OSError, AttributeError) as error:
            raise Unavailable(
                f"{path} does not hold librdkafka's mock cluster ({error})",
                where="streams.brokers.embedded",
                fix="Install a confluent-kafka wheel of 2.16 or later, or name a broker in OPTIINFRA_KAFKA.",
            ) from error
        with self._kept_awake():
            for topic in TOPICS:
                self.create_topic(topic.name, topic.partitions)
        self.make_topics(stages)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._lib, name)
        function.restype, function.argtypes = result, list(arguments)
        return function

    def _start(self) -> None:
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        self._topic_create = self._function("rd_kafka_mock_topic_create", number, pointer, text, number, number)
        self._bootstraps = self._function("rd_kafka_mock_cluster_bootstraps", text, pointer)
        self._destroy_cluster = self._function("rd_kafka_mock_cluster_destroy", None, pointer)
        self._destroy_client = self._function("rd_kafka_destroy", None, pointer)
        self._broker_set_down = self._function("rd_kafka_mock_broker_set_down", number, pointer, ctypes.c_int32)
        self._broker_set_up = self._function("rd_kafka_mock_broker_set_up", number, pointer, ctypes.c_int32)
        new_conf = self._function("rd_kafka_conf_new", pointer)
        new_client = self._function("rd_kafka_new", pointer, number, pointer, text, ctypes.c_size_t)
        new_cluster = self._function("rd_kafka_mock_cluster_new", pointer, pointer, number)
        join_delay = self._function("rd_kafka_mock_group_initial_rebalance_delay_ms", None, pointer, ctypes.c_int32)
        why = ctypes.create_string_buffer(512)
        set_conf = self._function("rd_kafka_conf_set", number, pointer, text, text, text, ctypes.c_size_t)
        conf = new_conf()
        set_conf(conf, b"log_level", b"3", why, len(why))  # it would warn that this client has no broker: it is one
        self._client = new_client(0, conf, why, len(why))
        if not self._client:
            raise OSError(why.value.decode(errors="replace"))
        self._cluster = new_cluster(self._client, 1)
        if not self._cluster:
            raise OSError("no mock cluster could be made")
        join_delay(self._cluster, _JOIN_DELAY_MS)

    @property
    def bootstrap(self) -> str:
        """Where clients connect: `127.0.0.1:PORT`."""
        found: bytes = self._bootstraps(self._cluster)
        return found.decode()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; one that exists keeps its partitions."""
        code = self._topic_create(self._cluster, name.encode(), partitions, 1)
        topic_exists = 36  # RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS
        if code not in (0, topic_exists):
            raise OptiInfraError(f"the embedded broker refused topic {name!r} (error {code})")

    def make_topics(self, stages: Iterable[str]) -> None:
        """Create the changelog topics of stages."""
        with self._kept_awake():
            for stage in stages:
                self.create_topic(changelog_of(stage), PARTITIONS)

    @contextlib.contextmanager
    def _kept_awake(self) -> Iterator[None]:
        """The cluster's thread can miss that it was called, and then sleeps a second (seen with librdkafka 2.16, for
        one topic in five). A connection wakes it, so there is one every few milliseconds while the block runs."""
        host, _, port = self.bootstrap.rpartition(":")
        over = threading.Event()

        def knock() -> None:
            while not over.wait(_KNOCK_S):
                with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
                    pass

        knocking = threading.Thread(target=knock, daemon=True)
        knocking.start()
        try:
            yield
        finally:
            over.set()
            knocking.join()

    def set_down(self) -> None:
        """Close every connection and refuse new ones; what is held stays."""
        self._broker_set_down(self._cluster, 1)

    def set_up(self) -> None:
        """Accept connections again."""
        self._broker_set_up(self._cluster, 1)

    def close(self) -> None:
        """End the broker; what it held is gone."""
        self._destroy_cluster(self._cluster)
        # The client behind it takes a second to wind up its threads, and nobody needs to wait for that.
        threading.Thread(target=self._destroy_client, args=(self._client,), daemon=True).start()


def describe() -> str:
    """What a person should know about this broker."""
    return (
        f"embedded broker, in memory (librdkafka's mock cluster): at most {KEPT_MIB_PER_PARTITION} MiB a partition, "
        "lost when it stops"
    )


def write_whole(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees all of it or nothing."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def serve(ready_file: Path, stages: Sequence[str] = (), parent_pid: int | None = None) -> None:
    """Run until SIGTERM, SIGINT or the end of the parent process (`parent_pid`, else whoever started this one)."""
    parent = parent_pid if parent_pid is not None else os.getppid()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    cluster = MockCluster(stages)
    write_whole(ready_file, cluster.bootstrap)
    # Asked again and again because the kernel's parent-death signal fires when the *thread* that started us ends.
    while not ended.wait(_PARENT_POLL_S) and os.getppid() == parent:
        pass
    ready_file.unlink(missing_ok=True)
    cluster.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m streams.brokers.embedded", description=describe())
    parser.add_argument("--ready-file", type=Path, required=True, help="gets the bootstrap address when all is ready")
    parser.add_argument("--stage", action="append", default=[], help="a stage that needs a changelog topic; repeatable")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process is no longer the parent")
    options = parser.parse_args(arguments)
    try:
        serve(options.ready_file, options.stage, options.parent_pid)
    except OptiInfraError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
