"""A real Apache Kafka on loopback: one KRaft node run from its published jars with Java 17; `make kafka` starts it.

Jars come from Maven Central once, into `~/.cache/optiinfra/kafka-<version>`; data stays in the state directory over
restarts. Figures, and why each choice: docs/adr/0002.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from contracts.errors import Conflict, OptiInfraError, Unavailable
from streams.brokers.jars import KAFKA_VERSION, resolve, run

JAVA_AT_LEAST = 17  # what Kafka 4 brokers need
READY_WITHIN_S, STOP_WITHIN_S = 60.0, 30.0

_LOG4J = """appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
"""
# Small numbers for one laptop; what is not named here keeps Kafka's own default.
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# After a kill the node waits until its own former life times out (default 9 s, and 12 s until it is ready again).
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
# the default buffer, 128 MiB, would be a quarter of our heap
log.cleaner.dedupe.buffer.size=33554432
"""


class ApacheKafka:
    """One broker that is also its own controller, on 127.0.0.1 only.

    `port=0` takes a free port at each start. `properties` go into server.properties; only addresses and directories
    win over them. `die_with_parent` (Linux) stops the broker when the *thread* that called `start` ends, SIGKILL
    included: it is for the command line, not for worker threads.
    """

    def __init__(
        self,
        state_dir: Path,
        port: int = 9092,
        controller_port: int = 0,
        *,
        cache_dir: Path | None = None,
        heap_mib: int = 512,
        properties: Mapping[str, str] | None = None,
        java: str = "java",
        mvn: str = "mvn",
        die_with_parent: bool = False,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.state_dir = state_dir.absolute()
        self.data_dir = self.state_dir / "kafka-data"
        self.log = self.state_dir / "kafka.log"  # WARN and above; the run before is kafka.log.1
        self.port, self.ready_s = port, 0.0
        self._wanted = (port, controller_port)
        self._cache_dir, self._heap_mib, self._java, self._mvn = cache_dir, heap_mib, java, mvn
        self._properties = dict(properties or {})
        self._die_with_parent, self._progress = die_with_parent, progress
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """What a client is given, as in `127.0.0.1:9092`; with `port=0` only true after `start`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The JVM's process id, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def describe(self) -> str:
        """One true line for a banner."""
        return f"Apache Kafka {KAFKA_VERSION}, one node, no replication, loopback, data kept in {self.data_dir}"

    def start(self) -> None:
        """Return when a client has read the cluster's metadata; `ready_s` holds how long that took, jars and format
        not counted. Raises `Unavailable` (Java, Maven, no start) or `Conflict` (port or state directory in use)."""
        if self.pid is not None:
            return
        _check_java(self._java)
        self._check_data()
        self.port, controller = _free_port(self._wanted[0], "--port"), _free_port(self._wanted[1], "controller_port")
        self._progress(f"resolving jars of Apache Kafka {KAFKA_VERSION}…")
        libs = resolve(self._cache_dir, self._mvn)
        self.state_dir.mkdir(parents=True, exist_ok=True)
        (self.state_dir / "log4j2.properties").write_text(_LOG4J, encoding="utf-8")
        if not self.data_dir.exists():
            self._format(libs, controller)
        config = self._write_config("server.properties", self.data_dir, controller)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self._progress("starting…")
        setpriv = shutil.which("setpriv") if self._die_with_parent else None
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        command = [*guard, *self._jvm(libs), "kafka.Kafka", str(config)]
        began = time.monotonic()
        with self.log.open("wb") as out:  # in a session of its own: Ctrl-C reaches us alone, and we stop it in order
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait_ready(self._process, began)
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.monotonic() - began

    def stop(self) -> None:
        """Stop in order (SIGTERM: flush and mark the logs clean), after 30 s by force. Calling it twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def reset(self) -> None:
        """Forget every topic and all data. `Conflict` while a broker uses them."""
        self._check_data()
        if self.data_dir.exists():
            forgotten = self.data_dir.rename(self.state_dir / f"kafka-data.forgotten-{uuid.uuid4().hex}")
            shutil.rmtree(forgotten, ignore_errors=True)

    def wait(self, timeout_s: float) -> int | None:
        """The broker's exit code, or None when it still runs after `timeout_s`."""
        try:
            return self._process.wait(timeout_s) if self._process else 0
        except subprocess.TimeoutExpired:
            return None

    def _jvm(self, libs: Path) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={(self.state_dir / 'log4j2.properties').as_uri()}"
        heap = f"-Xmx{self._heap_mib}m"
        return [self._java, heap, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", log4j, "-cp", f"{libs}/*"]

    def _write_config(self, name: str, data_dir: Path, controller_port: int) -> Path:
        given = "".join(f"{key}={value}\n" for key, value in self._properties.items())
        # A fixed list of voters, not `format --standalone`: the controller's port may change from start to start.
        ours = f"""listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{self.bootstrap}
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data_dir}
"""
        path = self.state_dir / name
        path.write_text(_PROPERTIES + given + ours, encoding="utf-8")
        return path

    def _format(self, libs: Path, controller_port: int) -> None:
        """Format beside the final place, then rename: half a format is never taken for a whole one."""
        self._progress(f"formatting {self.data_dir}…")
        fresh = self.state_dir / "kafka-data.formatting"
        shutil.rmtree(fresh, ignore_errors=True)
        config = self._write_config("format.properties", fresh, controller_port)
        cluster = "o" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # a leading "-" reads as an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
        code, said = run([*self._jvm(libs), *tool], READY_WITHIN_S, cwd=self.state_dir)
        if code != 0:
            raise Unavailable(f"Kafka could not format {fresh}: {said[-1500:]}", fix="Mend what it names; start again.")
        fresh.rename(self.data_dir)

    def _check_data(self) -> None:
        """Refuse a directory that is not ours, or whose broker runs: Kafka keeps an fcntl lock on `.lock`."""
        if self.data_dir.exists() and not (self.data_dir / "meta.properties").exists():
            raise Conflict(f"{self.data_dir} holds no Kafka data", fix="Move it away, or give another --state-dir.")
        lock = self.data_dir / ".lock"
        if lock.exists():
            with lock.open("r+b") as held:
                try:
                    fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as taken:
                    fix = f"Stop it (fuser {lock} names its process), or give another --state-dir."
                    raise Conflict(f"another Kafka is using {self.state_dir}", fix=fix) from taken

    def _wait_ready(self, process: subprocess.Popen[bytes], began: float) -> None:
        while time.monotonic() - began < READY_WITHIN_S:
            if process.poll() is not None:
                raise Unavailable(f"Kafka ended while starting:\n{self._tail()}\n", fix=f"Its whole log: {self.log}")
            if _has_metadata(self.port):
                return
            time.sleep(0.1)
        fix = f"Its whole log: {self.log}. Too little memory does this, or damaged data (--reset forgets them)."
        raise Unavailable(f"Kafka was not ready after {READY_WITHIN_S:.0f} s:\n{self._tail()}\n", fix=fix)

    def _tail(self) -> str:
        return self.log.read_bytes()[-2000:].decode("utf-8", "replace").strip() or "(the log is empty)"


def _check_java(java: str) -> None:
    fix = f"Install Java {JAVA_AT_LEAST} or newer (apt-get install openjdk-17-jre-headless), first on PATH."
    if shutil.which(java) is None:
        raise Unavailable(f"Java ({java}) is not installed", fix=fix)
    _, said = run([java, "-version"], 30)
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found[1]) < JAVA_AT_LEAST:
        raise Unavailable(f"Kafka {KAFKA_VERSION} cannot run on {java}, which says {said.strip()[:60]!r}", fix=fix)


def _free_port(wanted: int, name: str) -> int:
    """`wanted` if nothing listens there, any free port for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as refused:
            fix = f"See who has it (ss -ltnp 'sport = :{wanted}') and stop it, or give another {name}."
            raise Conflict(f"port {wanted} on 127.0.0.1 cannot be used: {refused.strerror}", fix=fix) from refused
        port: int = probe.getsockname()[1]
        return port


def _has_metadata(port: int) -> bool:
    """True when kafka-python, a client we did not write, finds the broker in the cluster's metadata."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    from kafka import KafkaAdminClient, errors  # here: 0.3 s that a refused start need not spend

    try:
        admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=5000)
        with contextlib.closing(admin):
            return bool(admin.describe_cluster()["brokers"])
    except errors.KafkaError:
        return False


def main(argv: list[str] | None = None) -> int:
    """`python -m streams.brokers.apache`: runs in the foreground until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m streams.brokers.apache", description="A real Kafka on loopback.")
    parser.add_argument("--state-dir", type=Path, default=Path.home() / ".local" / "state" / "optiinfra" / "kafka")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--reset", action="store_true", help="forget all topics and data first")
    asked = parser.parse_args(argv)

    def say(line: str) -> None:
        print(line, flush=True)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)  # one is enough: a second must not cut the clean stop short
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, interrupt)
    kafka = ApacheKafka(asked.state_dir, asked.port, die_with_parent=True, progress=say)
    try:
        if asked.reset:
            kafka.reset()
        kafka.start()
        say(kafka.describe())
        say(f"ready in {kafka.ready_s:.1f} s on {kafka.bootstrap}; Ctrl-C stops it, data is kept in {kafka.state_dir}")
        while (code := kafka.wait(0.5)) is None:
            pass
        print(f"Kafka ended by itself with code {code}; its log: {kafka.log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        began = time.monotonic()
        kafka.stop()
        say(f"stopped in {time.monotonic() - began:.1f} s")
        return 0
    except OptiInfraError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
