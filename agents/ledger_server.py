"""The Redis behind the ledger: runs scripts, and turns whatever can go wrong with Redis into the ledger's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from agents.ledger_keys import KEYS
from contracts.errors import ConfigError, LedgerLost, OptiInfraError, Unavailable

Reply = list[bytes | None]

_LEASE: Final = "lease"


class LedgerServer:
    """One Redis server, and the names of the ledger's keys in it.

    A call that was not answered is not tried again here: it may have been done, and only its caller knows whether doing
    it twice is safe.
    """

    def __init__(self, url: str, *, prefix: str, timeout_s: float) -> None:
        try:
            parts = urlsplit(url)
            self.where = f"Redis at {parts.hostname}:{parts.port or 6379}"  # never the URL: it can hold a password
            self._redis = redis.asyncio.Redis.from_url(
                url,
                socket_connect_timeout=timeout_s,
                socket_timeout=None,  # `run` bounds a call: the client's own way can swallow a cancellation
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                client_name="optiinfra-ledger",
            )
        except ValueError as error:
            fix = "Write it as redis://:password@host:6379/0, or rediss:// for TLS."
            raise ConfigError("the ledger's address is not a Redis URL", where="OPTIINFRA_REDIS", fix=fix) from error
        self.prefix, self._timeout_s = prefix, timeout_s
        self._keys = [self.key(name) for name in KEYS if name != _LEASE]
        self._scripts: dict[str, AsyncScript] = {}

    def key(self, name: str) -> str:
        """The full name of a key."""
        return f"{self.prefix}:{name}"

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def run(self, script: str, *args: str | int, lease_of: str | None = None) -> tuple[str, Reply]:
        """Run a script on the ledger's keys, `lease_of` naming the target whose lease it needs.

        Gives the reply's first word and the rest. Raises Unavailable, LedgerLost, and OptiInfraError for a key that
        holds what no ledger wrote.
        """
        prepared = self._scripts.get(script) or self._scripts.setdefault(script, self._redis.register_script(script))
        keys = self._keys if lease_of is None else [*self._keys, f"{self.key(_LEASE)}:{lease_of}"]
        try:
            async with asyncio.timeout(self._timeout_s):
                reply: Sequence[Any] = await prepared(keys=keys, args=args)
        except (AuthenticationError, NoPermissionError) as error:
            fix = "Is the password in OPTIINFRA_REDIS right, and may the user run EVALSHA on these keys?"
            raise Unavailable(f"the ledger refuses us: {error}", where=self.where, fix=fix) from error
        except (RedisError, OSError, TimeoutError) as error:
            fix = "Nothing is done until it is back: redis-cli -u <url> ping answers PONG, its log says what it lacks."
            late = type(error) is TimeoutError
            told = f"no answer within {self._timeout_s:g} s" if late else str(error) or type(error).__name__
            raise Unavailable(f"the ledger is away: {told}", where=self.where, fix=fix) from error
        word, rest = reply[0].decode(), list(reply[1:])
        if word == "lost":
            raise self.lost("the ledger was emptied or replaced")
        if word == "junk":
            raise self.junk(text(rest[0]), text(rest[1]))
        return word, rest

    def lost(self, message: str) -> LedgerLost:
        """The error of a ledger that is not the one that was opened."""
        return LedgerLost(message, where=self.where, fix="Open it anew: it begins with the kill switch thrown.")

    def junk(self, key: str, what: str) -> OptiInfraError:
        """The error of a key that somebody else wrote to."""
        fix = (
            "Restore Redis from a copy of its append-only file, or delete every key of the ledger: it then begins anew "
            "with the kill switch thrown, and what was under way is told to people."
        )
        return OptiInfraError(f"key {key} holds what no ledger wrote: {what}", where=self.where, fix=fix)


def text(value: bytes | None) -> str:
    """A part of a reply, for people: bytes that are no UTF-8 are shown as they are."""
    return (value or b"").decode(errors="backslashreplace")
