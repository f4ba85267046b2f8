"""Scrapes all targets of a shard: starts and ends a follower for each, and stops without losing what it has."""

from __future__ import annotations

import asyncio
from importlib.resources import files

import structlog

from connectors.vllm.core.mapping import MetricMap, load_map
from connectors.vllm.core.page import PageReader
from connectors.vllm.core.schedule import shard_of
from connectors.vllm.core.snapshot import Translator
from connectors.vllm.discovery import TargetsSource
from connectors.vllm.fetch import open_session
from connectors.vllm.follower import Bench, Follower
from connectors.vllm.options import ScrapeOptions, ScrapeStats
from connectors.vllm.outbox import Dropped, Outbox
from connectors.vllm.reports import Reports
from contracts.clock import Clock
from contracts.errors import BadMessage
from contracts.events import Message, MetricsSnapshot
from contracts.ports import Publisher

log = structlog.get_logger(__name__)

_POLL_S = 0.5
_FLUSH_S = 5.0


def default_map() -> MetricMap:
    """The mapping that ships with the connector."""
    return load_map(files("connectors.vllm").joinpath("metrics.yaml").read_text(encoding="utf-8"))


async def run_scraper(
    targets: TargetsSource,
    publisher: Publisher,
    clock: Clock,
    *,
    epoch_ms: int,
    options: ScrapeOptions | None = None,
    stats: ScrapeStats | None = None,
    stop: asyncio.Event | None = None,
) -> ScrapeStats:
    """Scrape until `stop` is set, then publish what is left (5 wall s at most) and return the counts.

    `epoch_ms` is the event time at which this scraper process began: a later epoch supersedes an earlier one. An
    exception here is a bug, not an outage: targets and broker that fail are waited for.
    """
    options, stats, stop = options or ScrapeOptions(), stats or ScrapeStats(), stop or asyncio.Event()
    metric_map = default_map()
    reports = Reports(publisher, clock)

    def refused(message: Message, error: BadMessage) -> Message | None:
        """A snapshot too large for the broker: its slot is told as a failed one."""
        reports.refused(message, error)
        if not isinstance(message, MetricsSnapshot) or not message.up:
            return None
        failed = {"up": False, "engines": {}, "problems": (), "error": f"cannot be published: {error.detail[:500]}"}
        return message.model_copy(update=failed)

    def recovered(dropped: Dropped) -> None:
        reports.overflow(dropped, options.queue_limit)

    outbox = Outbox(publisher, options.queue_limit, on_refused=refused, on_recovered=recovered)
    keepalive_s = 15.0 + 2 * clock.wall_s(options.interval_s)
    async with open_session(
        concurrency=options.concurrency, timeout_s=options.timeout_s, keepalive_s=keepalive_s
    ) as session:
        bench = Bench(
            clock=clock,
            epoch_ms=epoch_ms,
            options=options,
            stats=stats,
            session=session,
            free=asyncio.Semaphore(options.concurrency),
            reader=PageReader(metric_map.wanted, prefix=metric_map.prefix),
            translator=Translator(metric_map),
            outbox=outbox,
            reports=reports,
        )
        try:
            await _follow_all(targets, bench, stop)
        finally:
            left = sum(await asyncio.gather(outbox.flush(_FLUSH_S), reports.flush(_FLUSH_S)))
            _count(bench, stats.targets)
            log.info("scraper stopped", scrapes_ok=stats.scrapes_ok, unpublished=left)
    return stats


async def _follow_all(source: TargetsSource, bench: Bench, stop: asyncio.Event) -> None:
    """Keep one follower for each target of the source until `stop` is set. A target that the source lists no more is
    told as one that left; that the scraper stops says nothing of its targets."""
    index, count = bench.options.shard
    running: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
    departed: dict[str, Follower] = {}
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            wanted = {t.instance_id: t for t in source.poll() if shard_of(t.instance_id, count) == index}
            for file, fault in source.take_faults():
                bench.reports.target_file(file, fault)
            for instance in [i for i, (follower, _) in running.items() if wanted.get(i) != follower.target]:
                follower, task = running.pop(instance)
                task.cancel()
                if instance not in wanted or wanted[instance].workload != follower.target.workload:
                    follower.leave()
                    departed[instance] = follower
            for instance, target in wanted.items():
                if instance not in running:
                    follower = Follower(target, bench, departed[instance].slot if instance in departed else 0)
                    running[instance] = (follower, group.create_task(follower.run()))
            departed = {instance: follower for instance, follower in departed.items() if follower.is_ahead()}
            _count(bench, len(running))
            try:
                await asyncio.wait_for(stop.wait(), _POLL_S)
            except TimeoutError:
                continue
        for _, task in running.values():
            task.cancel()


def _count(bench: Bench, targets: int) -> None:
    stats = bench.stats
    stats.targets = targets
    stats.published = bench.outbox.published
    stats.dropped = bench.outbox.dropped
    stats.pending = bench.outbox.pending
    stats.dead_letters = bench.reports.dead_letters
