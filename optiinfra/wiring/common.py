"""Wiring: the one place where real objects are built and put together, process by process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.clock import EventClock
from contracts.errors import ConfigError, Unavailable
from contracts.ports import Publisher
from contracts.topics import PARTITIONS
from optiinfra.orders import ChildOrders, Entry, Ready
from optiinfra.settings import Settings

if TYPE_CHECKING:
    from connectors.twin.fleet import WorkloadSpec
    from contracts.stage import Stage
    from streams.heartbeat import Pulse
    from streams.publisher import KafkaPublisher


def make_clock(orders: ChildOrders) -> EventClock:
    """The clock that all processes of one `up` share."""
    return EventClock(orders.anchor, time.time, time.monotonic)


def settings_of(orders: ChildOrders) -> Settings:
    """The settings as the supervisor read them."""
    return Settings.from_blob(orders.settings)


def endpoint(orders: ChildOrders, name: str) -> str:
    """An address that an earlier child told; Unavailable when none did."""
    found = orders.endpoints.get(name)
    if not found:
        raise Unavailable(f"nobody told where {name} is", where="wiring", fix="See optiinfra status.")
    return found


GRACE_WALL_S = 1.5
"""A silent instance is waited for at least so long on the wall: at high speed, event seconds pass too quickly."""


def make_stages(orders: ChildOrders) -> Mapping[str, Stage]:
    """The stages with the objectives of the settings."""
    from streams.core.slis import SliSettings
    from streams.stages import stages

    settings = settings_of(orders)
    limits = SliSettings(objectives=dict(settings.workloads), default=settings.objectives)
    made = stages(replace(limits, grace_s=max(limits.grace_s, GRACE_WALL_S * orders.anchor.speed)))
    return {stage.name: stage for stage in made}


async def open_publisher(bootstrap: str, source: str) -> KafkaPublisher:
    """A publisher that is connected; whoever opens it stops it. Raises Unavailable when the broker does not answer."""
    from streams.publisher import KafkaPublisher

    publisher = KafkaPublisher(bootstrap, source)
    await publisher.start()
    return publisher


def host_name() -> str:
    """This host in letters that Kafka allows in the name of a static member."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:100]


def worker_name(name: str, state_dir: Path) -> str:
    """A worker's name among all who share a broker: the same after a restart, another on another host or in another
    state directory. On Kafka it is the stage's `group.instance.id`, of which a group takes each once.
    """
    place = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:8]
    return f"{name}.{host_name()}.{place}"


def is_ours(worker: str, name: str) -> bool:
    """Whether a heartbeat's worker is the child `name` of this host; which state directory, its pid tells.

    >>> is_ours(worker_name("slis", Path("here")), "slis"), is_ours("slis.some-other-host.0a1b2c3d", "slis")
    (True, False)
    """
    return worker.startswith(f"{name}.{host_name()}.")


async def until(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Run `work` until it ends or `stop` is set, then cancel it and wait for its clean-up."""
    running, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


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
    work = run_twin(
        clock=make_clock(orders),
        file_sd=twin_targets(orders),
        seed=settings.twin.seed,
        day_s=settings.twin.day_s,
        day_origin_ms=orders.anchor.event_anchor_ms,  # a restarted twin keeps its time of day
        workloads=twin_workloads(settings),
        on_ready=lambda info: ready({"twin_url": info.control_url}),
    )
    await until(stop, work)


def twin_targets(orders: ChildOrders) -> Path:
    """The file_sd file in which the twin tells its replicas, as any other service discovery would."""
    return orders.state_dir / "twin" / "targets.json"


def twin_workloads(settings: Settings) -> tuple[WorkloadSpec, ...]:
    """The twin's own workloads, changed and added to as the settings say; a new one is shaped like the first."""
    from connectors.twin.fleet import default_workloads

    specs = {spec.name: spec for spec in default_workloads(settings.twin.day_s)}
    shape = next(iter(specs.values()))
    for name, wanted in settings.twin.workloads.items():
        spec = specs.get(name) or replace(shape, name=name)
        load = spec.load
        if wanted.requests_per_s is not None:
            load = replace(load, requests_per_s=wanted.requests_per_s)
        specs[name] = replace(spec, load=load, replicas=wanted.replicas or spec.replicas)
    return tuple(specs.values())


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


@contextlib.asynccontextmanager
async def connected(bootstrap: str, source: str) -> AsyncIterator[Publisher]:
    """A publisher for as long as the block runs."""
    publisher = await open_publisher(bootstrap, source)
    try:
        yield publisher
    finally:
        await publisher.stop()


@contextlib.asynccontextmanager
async def beating(publisher: Publisher, pulse: Pulse, count: Callable[[], int]) -> AsyncIterator[None]:
    """Heartbeats for as long as the block runs; `count` refreshes the pulse's counters and returns the lag."""
    from contracts.events import WorkerState
    from streams.heartbeat import HEARTBEAT_S

    async def beat() -> None:
        while True:
            # A heartbeat that does not get through needs no second try: the next one is due soon.
            with contextlib.suppress(Unavailable):
                await publisher.publish(pulse.beat(WorkerState.WORKING, count()))
            await asyncio.sleep(HEARTBEAT_S)

    task = asyncio.create_task(beat(), name="heartbeats")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(2):
                await publisher.publish(pulse.beat(WorkerState.LEAVING, count()))


def count_targets(files: Sequence[Path]) -> int:
    """How many servers target files name; ConfigError with every fault in them."""
    from connectors.vllm.targets import load_targets

    return len(load_targets(files)) if files else 0


_ENTRIES: dict[str, Entry] = {
    "broker": broker,
    "store": store,
    "twin": twin,
    "windows": stage("windows"),
    "slis": stage("slis"),
    "latest": stage("latest"),
    "sink": sink,
    "scraper": scraper,
    "ticker": ticker,
}


def entry_of(name: str) -> Entry:
    """The coroutine of a process. Raises ConfigError for a name that is none."""
    found = _ENTRIES.get(name)
    if found is None:
        raise ConfigError(f"no process is called {name!r}", where="wiring", fix=f"Known: {', '.join(_ENTRIES)}.")
    return found
