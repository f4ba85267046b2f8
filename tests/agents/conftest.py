"""What the tests of agents share: a real Redis for the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
