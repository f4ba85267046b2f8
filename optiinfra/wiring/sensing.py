"""The sensing half, process by process: broker, store, simulated fleet, scraper, ticker, sink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.topics import PARTITIONS
from optiinfra.orders import ChildOrders, Entry, Ready
from optiinfra.settings import Settings
from optiinfra.wiring.common import (
    beating,
    connected,
    endpoint,
    make_clock,
    settings_of,
    twin_workloads,
    until,
    worker_name,
)
from optiinfra.wiring.stages import make_stages

if TYPE_CHECKING:
    from connectors.twin.feed import Feed
    from connectors.twin.fleet import WorkloadSpec


async def broker(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The embedded broker with every topic and changelog."""
    from streams.brokers.embedded import MockCluster

    cluster = MockCluster(make_stages(orders))
    ready({"bootstrap": cluster.bootstrap})
    await stop.wait()
    cluster.close()


async def store(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The owner of the store, embedded or a server's client."""
    from streams.store.server import run_store
    from streams.store.target import Embedded, parse_dsn

    dsn = settings_of(orders).clickhouse
    target = parse_dsn(dsn) if dsn else Embedded(orders.state_dir / "store")
    port = int(endpoint(orders, "store_port"))  # the same after a restart: the sink keeps its address
    told = orders.state_dir / "store.ready.json"
    told.unlink(missing_ok=True)
    serving = asyncio.create_task(run_store(target=target, port=port, ready_file=told, stop=stop))
    while not serving.done() and not told.exists():  # noqa: ASYNC110 - the store tells by a file
        await asyncio.sleep(0.05)
    if told.exists():
        ready({"store_url": json.loads(told.read_text(encoding="utf-8"))["url"]})
    await serving


async def twin(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The simulated fleet."""
    from connectors.twin.server import run_twin

    settings = settings_of(orders)
    workloads, feeds = twin_fed(settings)
    work = run_twin(
        clock=make_clock(orders),
        file_sd=twin_targets(orders),
        control_port=int(endpoint(orders, "twin_port")),  # the same after a restart: the executor keeps its address
        journal=orders.state_dir / "twin" / "journal.jsonl",
        seed=settings.twin.seed,
        day_s=settings.twin.day_s,
        day_origin_ms=orders.anchor.event_anchor_ms,  # a restarted twin keeps its time of day
        workloads=workloads,
        feeds=feeds,
        on_ready=lambda info: ready({"twin_url": info.control_url}),
    )
    await until(stop, work)


def twin_targets(orders: ChildOrders) -> Path:
    """The file_sd file in which the twin tells its replicas, as any other service discovery would."""
    return orders.state_dir / "twin" / "targets.json"


def twin_fed(settings: Settings) -> tuple[tuple[WorkloadSpec, ...], dict[str, Feed]]:
    """The twin's workloads, and the recorded traces of those that have one. Raises ConfigError for a file that cannot
    be read."""
    from optiinfra.traced import fed

    specs = {spec.name: spec for spec in twin_workloads(settings)}
    feeds: dict[str, Feed] = {}
    for name, wanted in settings.twin.workloads.items():
        if wanted.trace is not None:
            specs[name], feeds[name] = fed(specs[name], wanted.trace, wanted.trace_model, wanted.speed)
    return tuple(specs.values()), feeds


def stage(name: str) -> Entry:
    """The worker of one stage."""

    async def run(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
        from streams.faust_driver import run_stage

        settings = settings_of(orders)
        ready({})
        await run_stage(
            make_stages(orders)[name],
            bootstrap=endpoint(orders, "bootstrap"),
            embedded=settings.kafka is None,
            clock=make_clock(orders),
            worker_name=worker_name(name, orders.state_dir),
            stop=stop,
        )

    return run


async def sink(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The worker that writes SLIs and what else is kept to the store."""
    from streams.store.client import HttpStore
    from streams.store.sink import run_sink

    settings, bootstrap = settings_of(orders), endpoint(orders, "bootstrap")
    async with HttpStore(endpoint(orders, "store_url")) as store_client, connected(bootstrap, "sink") as publisher:
        ready({})
        await run_sink(
            bootstrap=bootstrap,
            embedded=settings.kafka is None,
            store=store_client,
            publisher=publisher,
            clock=make_clock(orders),
            worker=worker_name("sink", orders.state_dir),
            stop=stop,
        )


async def scraper(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The scraper of all targets: one's own, or the twin's."""
    from connectors.vllm.discovery import TargetFiles
    from connectors.vllm.options import ScrapeOptions, ScrapeStats
    from connectors.vllm.scraper import run_scraper
    from streams.heartbeat import Pulse

    settings, clock, stats = settings_of(orders), make_clock(orders), ScrapeStats()
    files = settings.targets or (twin_targets(orders),)
    wanted = settings.scrape
    options = ScrapeOptions(
        interval_s=wanted.interval_s, timeout_s=wanted.timeout_s, max_page_bytes=wanted.max_page_bytes
    )
    pulse = Pulse(worker_name("scraper", orders.state_dir), "scraper")

    def count() -> int:
        pulse.handled, pulse.emitted, pulse.dead_letters = stats.handled, stats.published, stats.dead_letters
        return stats.pending

    async with connected(endpoint(orders, "bootstrap"), "scraper") as publisher, beating(publisher, pulse, count):
        ready({})
        await run_scraper(
            TargetFiles(files), publisher, clock, epoch_ms=clock.now_ms(), options=options, stats=stats, stop=stop
        )


async def ticker(orders: ChildOrders, stop: asyncio.Event, ready: Ready) -> None:
    """The ticker: event time for every partition."""
    from streams.heartbeat import Pulse
    from streams.ticker import run_ticker

    clock, pulse = make_clock(orders), Pulse(worker_name("ticker", orders.state_dir), "ticker")

    def ticked(at_ms: int) -> None:
        pulse.handled += 1
        pulse.emitted += PARTITIONS

    async with connected(endpoint(orders, "bootstrap"), "ticker") as publisher, beating(publisher, pulse, lambda: 0):
        ready({})
        await run_ticker(publisher, clock, stop=stop, on_tick=ticked)


def count_targets(files: Sequence[Path]) -> int:
    """How many servers target files name; ConfigError with every fault in them."""
    from connectors.vllm.targets import load_targets

    return len(load_targets(files)) if files else 0
