"""Runs the whole scraper for the length of a block, against servers on loopback that answer what a test wants."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from connectors.vllm.discovery import FixedTargets, TargetsSource
from connectors.vllm.options import ScrapeOptions, ScrapeStats
from connectors.vllm.scraper import run_scraper
from connectors.vllm.targets import Target
from contracts.clock import EventClock
from contracts.events import MetricsSnapshot

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


@asynccontextmanager
async def scraping(
    source: TargetsSource | list[Target], publisher: Any, clock: EventClock, **options: Any
) -> AsyncIterator[ScrapeStats]:
    """Runs the scraper for the length of a block, then stops it and waits until it has published all."""
    stop, stats = asyncio.Event(), ScrapeStats()
    task = asyncio.create_task(
        run_scraper(
            FixedTargets(source) if isinstance(source, list) else source,
            publisher,
            clock,
            epoch_ms=clock.now_ms(),
            options=ScrapeOptions(**options),
            stats=stats,
            stop=stop,
        )
    )
    task.add_done_callback(lambda _: publisher._changed.set())
    yield stats
    stop.set()
    await task


def answers(
    raw: bytes, content_type: str = "text/plain", **response: Any
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, content_type=content_type, **response)

    return handler


def tried(publisher: Any) -> list[MetricsSnapshot]:
    """Snapshots of slots that a busy test machine did not miss."""
    return [m for m in publisher.snapshots if not (m.error or "").startswith("missed")]


def errors(publisher: Any) -> list[str]:
    """What they say went wrong, empty where nothing did."""
    return [m.error or "" for m in tried(publisher)]


def unused_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
