"""What the tests of agents share: a real Redis for the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agents.ledger import RedisLedger
from tests.agents.ledger_help import Wall
from tests.agents.redis_process import RedisProcess, plan_of


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisProcess]:
    """A running redis-server of this test alone. Parametrise it (indirect) with `system` or `bundled`."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisProcess(plan_of(getattr(request, "param", "system")), folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisProcess) -> str:
    """Where it listens; ask for `redis_server` too in order to kill, restart or empty it."""
    return redis_server.url


@pytest.fixture
def wall() -> Wall:
    """The clock of `ledger`."""
    return Wall()


@pytest.fixture
async def ledger(redis_url: str, wall: Wall) -> AsyncIterator[RedisLedger]:
    """An open ledger on the server of this test."""
    async with RedisLedger(redis_url, wall=wall) as ledger:
        assert await ledger.open(expected=False, at_ms=1)
        yield ledger
