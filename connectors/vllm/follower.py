"""Follows one target from slot to slot and leaves one snapshot for each, in order.

A slot ends in one of four ways: the page was read (`up`), the attempt failed, none was made because the target keeps
failing (backing off), or the slot's time had passed before it could be used (missed). A target that leaves discovery
gets one more message, in the next slot, which says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from connectors.vllm.core.page import PageReader, Shape
from connectors.vllm.core.schedule import Backoff, Grid
from connectors.vllm.core.snapshot import Reading, Translator
from connectors.vllm.fetch import FetchError, fetch
from connectors.vllm.options import ScrapeOptions, ScrapeStats
from connectors.vllm.outbox import Outbox
from connectors.vllm.reports import Reports
from connectors.vllm.targets import Target
from contracts.clock import Clock
from contracts.errors import BadMessage, ConfigError
from contracts.events import MetricsSnapshot

_MAX_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Bench:
    """What all followers of a scraper share."""

    clock: Clock
    epoch_ms: int
    options: ScrapeOptions
    stats: ScrapeStats
    session: aiohttp.ClientSession
    free: asyncio.Semaphore
    reader: PageReader
    translator: Translator
    outbox: Outbox
    reports: Reports


class Follower:
    """One target. Its messages are put into the outbox in order of `seq`, which is the number of the slot.

    `slot` is the next one that has no message. It is `first_slot` at the earliest: those before are used.
    """

    def __init__(self, target: Target, bench: Bench, first_slot: int = 0) -> None:
        self.target, self.bench = target, bench
        self.grid = Grid.of(target.instance_id, bench.options.interval_ms, bench.epoch_ms)
        self.backoff = Backoff(target.instance_id, bench.options.backoff_cap_slots)
        self.shape: Shape | None = None
        self.newest_ms = 0
        self.slot = max(first_slot, self.grid.next_slot(bench.clock.now_ms()))

    async def run(self) -> None:
        """Follow until cancelled."""
        clock, stats = self.bench.clock, self.bench.stats
        busy_until_ms = 0
        while True:
            slot = self.slot
            await self._until(self.grid.due_ms(slot))
            now_ms = clock.now_ms()
            if self.grid.is_missed(slot, now_ms):
                stats.missed += 1
                was_busy = busy_until_ms >= self.grid.due_ms(slot)
                self._put(slot, self.grid.due_ms(slot), error=_missed(was_busy, now_ms - self.grid.due_ms(slot)))
            elif self.backoff.waits(slot):
                stats.backed_off += 1
                self._put(slot, now_ms, error=self.backoff.reason())
            else:
                await self._attempt(slot)
                busy_until_ms = clock.now_ms()

    def leave(self) -> None:
        """Tell that the target was taken out of discovery, after `run` was cancelled.

        Whoever follows the instance when it comes back begins at `slot`, so that its messages supersede this one.
        """
        self._put(self.slot, self.bench.clock.now_ms(), error="left discovery", left=True)

    def is_ahead(self) -> bool:
        """Whether a slot that is still to come has its message already."""
        return self.slot > self.grid.next_slot(self.bench.clock.now_ms())

    async def _until(self, due_ms: int) -> None:
        # A loop, since no event marks a point in time and a sleep may end a little early.
        while (wait_ms := due_ms - self.bench.clock.now_ms()) > 0:  # noqa: ASYNC110 - event time is polled: no event says it has come
            await asyncio.sleep(self.bench.clock.wall_s(wait_ms / 1000))
        await asyncio.sleep(0)  # others get their turn while we report slots that are past

    async def _attempt(self, slot: int) -> None:
        """Ask once, and put the answer or the reason why there is none."""
        bench, loop = self.bench, asyncio.get_running_loop()
        async with bench.free:
            asked_ms, began = bench.clock.now_ms(), loop.time()
            try:
                raw, openmetrics = await fetch(
                    bench.session, self.target.url, max_page_bytes=bench.options.max_page_bytes
                )
                reading, error = self._read(raw, openmetrics)
            except FetchError as failure:
                reading, error = None, str(failure)
            duration_s = loop.time() - began
        if error is None:
            bench.stats.scrapes_ok += 1
            self.backoff = self.backoff.succeeded()
        else:
            bench.stats.scrapes_failed += 1
            self.backoff = self.backoff.failed(slot, error)
        self._put(slot, asked_ms, reading, error=error, duration_s=duration_s)

    def _read(self, raw: bytes, openmetrics: bool) -> tuple[Reading, None] | tuple[None, str]:
        try:
            page = self.bench.reader.read(raw, hint=self.shape, openmetrics=openmetrics)
            self.shape = page.shape if page.shape.fast is not None else None  # as a hint the rest is of no use
            return self.bench.translator.translate(page), None
        except BadMessage as error:
            self.bench.reports.malformed_page(self.target, raw, error)
            return None, f"malformed page: {error.detail}"
        except ConfigError as error:
            return None, str(error)

    def _put(
        self,
        slot: int,
        asked_ms: int,
        reading: Reading | None = None,
        *,
        error: str | None = None,
        duration_s: float = 0.0,
        left: bool = False,
    ) -> None:
        bench, self.slot = self.bench, slot + 1
        # A scrape that waited for its turn is stamped after the due times of the slots missed meanwhile. `seq` orders
        # the snapshots, and event time within an epoch must not run against it.
        self.newest_ms = asked_ms = max(asked_ms, self.newest_ms)
        if reading is not None:
            bench.stats.problems += len(reading.problems)
        snapshot = MetricsSnapshot(
            workload=self.target.workload,
            instance_id=self.target.instance_id,
            scraper_epoch=bench.epoch_ms,
            seq=slot,
            scheduled_at_ms=asked_ms if left else self.grid.due_ms(slot),
            scraped_at_ms=asked_ms,
            interval_s=bench.options.interval_ms / 1000,
            duration_s=duration_s,
            up=reading is not None,
            left=left,
            error=error[:_MAX_ERROR_CHARS] if error is not None else None,
            incarnation_ms=reading.incarnation_ms if reading else None,
            engines=reading.engines if reading else {},
            problems=reading.problems if reading else (),
        )
        bench.outbox.put(self.target.instance_id, snapshot)


def _missed(was_busy: bool, late_ms: int) -> str:
    if was_busy:
        return "missed: previous scrape still running"
    return f"missed: the scraper was {late_ms / 1000:g} s late"
