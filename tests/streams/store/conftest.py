"""One store child a module: it takes a second to start and 340 MB to live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from streams.store.client import HttpStore
from tests.streams.store.children import StoreProcess


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    process = StoreProcess(tmp_path_factory.mktemp("store"))
    process.start()
    yield process
    process.close()


@pytest.fixture
async def store(child: StoreProcess) -> AsyncIterator[HttpStore]:
    async with HttpStore(child.url) as client:
        yield client


@pytest.fixture
def workload() -> str:
    """A name of its own: tests of a module share their store."""
    return f"chat-{uuid4().hex[:8]}"
