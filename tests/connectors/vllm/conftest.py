"""What the tests of the vLLM connector share: the mapping, recorded pages, a publisher and servers on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from connectors.vllm.core.mapping import MetricMap
from connectors.vllm.core.page import PageReader
from connectors.vllm.core.snapshot import Reading, Translator
from connectors.vllm.scraper import default_map
from contracts.clock import ClockAnchor, EventClock
from contracts.codec import encode
from contracts.errors import Unavailable
from contracts.events import Alert, DeadLetter, Message, MetricsSnapshot

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def metric_map() -> MetricMap:
    return default_map()


@pytest.fixture(scope="session")
def page_032() -> bytes:
    """A live vLLM 0.32 server after 26 requests, help texts removed."""
    return (FIXTURES / "vllm_0.32.txt").read_bytes()


@pytest.fixture(scope="session")
def page_tiering() -> bytes:
    """A live vLLM 0.32 server with a disk tier after 40 requests, help texts removed."""
    return (FIXTURES / "vllm_0.32_tiering.txt").read_bytes()


@pytest.fixture
def read(metric_map: MetricMap) -> Callable[[bytes], Reading]:
    """Reads a page twice, strictly and by its known shape; both must say the same."""

    def read_both(raw: bytes) -> Reading:
        reader, translator = PageReader(metric_map.wanted, prefix=metric_map.prefix), Translator(metric_map)
        first = reader.read(raw)
        again = reader.read(raw, hint=first.shape)
        assert again.shape is first.shape or first.shape.fast is None
        reading = translator.translate(first)
        assert repr(translator.translate(again)) == repr(reading)
        return reading

    return read_both


class FakePublisher:
    """The Publisher port in memory: encodes as the real one does, and can be away."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False
        self.tries_while_away = 0
        self._changed = asyncio.Event()

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.tries_while_away += 1
            self._changed.set()
            raise Unavailable("no broker", fix="Start one.")
        encode(message, source="test", trace_id=trace_id)
        self.messages.append(message)
        self._changed.set()

    @property
    def snapshots(self) -> list[MetricsSnapshot]:
        return [m for m in self.messages if isinstance(m, MetricsSnapshot)]

    @property
    def alerts(self) -> list[Alert]:
        return [m for m in self.messages if isinstance(m, Alert)]

    @property
    def letters(self) -> list[DeadLetter]:
        return [m for m in self.messages if isinstance(m, DeadLetter)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was published fulfils a condition; pytest's time-out ends a wait in vain."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def clock() -> EventClock:
    """Event time at twenty times the wall's: a scrape every 2 s is one every 100 ms."""
    anchor = ClockAnchor(wall_anchor_ms=int(time.time() * 1000), event_anchor_ms=1_700_000_000_000, speed=20)
    return EventClock(anchor, time.time, time.monotonic)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Starts HTTP servers on loopback; answers the URL of the page."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_get("/metrics", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}/metrics"

    yield start
    for runner in runners:
        await runner.cleanup()
