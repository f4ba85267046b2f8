"""What every process needs when it is put together: clock, settings, addresses, publisher, heartbeats, a name."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.clock import EventClock
from contracts.errors import Unavailable
from contracts.ports import Publisher
from optiinfra.orders import ChildOrders
from optiinfra.settings import Settings

if TYPE_CHECKING:
    from connectors.twin.fleet import WorkloadSpec
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
