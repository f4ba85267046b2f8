"""Targets that come, go, come back or move while the scraper runs, and those that are another shard's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connectors.vllm.core.schedule import shard_of
from connectors.vllm.discovery import TargetFiles
from connectors.vllm.targets import Target
from contracts.clock import EventClock
from contracts.events import MetricsSnapshot
from tests.connectors.vllm.loopback import Serve, answers, scraping


async def test_targets_come_and_go_with_their_file(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes, tmp_path: Path
) -> None:
    url = await serve(answers(page_032))
    address = url.removeprefix("http://").removesuffix("/metrics")

    def write(*names: str) -> None:
        groups = [{"targets": [address], "labels": {"workload": "chat", "instance": name}} for name in names]
        (tmp_path / "new").write_text(json.dumps(groups))
        (tmp_path / "new").replace(tmp_path / "sd.json")

    def count(name: str) -> int:
        return sum(m.instance_id == name for m in publisher.snapshots)

    write("a")
    async with scraping(TargetFiles([tmp_path / "sd.json"]), publisher, clock) as stats:
        await publisher.until(lambda: count("a") >= 2)
        write("b")
        await publisher.until(lambda: count("b") >= 2)
        await publisher.until(lambda: any(m.left for m in publisher.snapshots))
        gone = count("a")
        (tmp_path / "sd.json").write_text("[{")
        await publisher.until(lambda: bool(publisher.alerts) and count("b") >= 4)
        assert count("a") == gone
        assert stats.targets == 1
    assert publisher.alerts[0].name == "targets_unreadable"
    assert str(tmp_path / "sd.json") in publisher.alerts[0].subject


class Listed:
    """A source whose list the test changes."""

    def __init__(self, *targets: Target) -> None:
        self.targets = targets

    def poll(self) -> list[Target]:
        return list(self.targets)

    def take_faults(self) -> list[tuple[str, str]]:
        return []


async def test_a_target_that_leaves_discovery_says_so_last_and_once(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    source = Listed(Target(url, "chat", "a"), Target(url, "chat", "b"))

    def of(instance: str) -> list[MetricsSnapshot]:
        return [m for m in publisher.snapshots if m.instance_id == instance]

    async with scraping(source, publisher, clock) as stats:
        await publisher.until(lambda: len(of("a")) >= 3 and len(of("b")) >= 3)
        source.targets = source.targets[1:]
        await publisher.until(lambda: of("a")[-1].left)
        since = len(of("b"))
        await publisher.until(lambda: len(of("b")) >= since + 5)
        assert stats.targets == 1
    *scrapes, last = of("a")
    assert not any(m.left for m in (*scrapes, *of("b"))), "neither before, nor because the scraper stops"
    assert (last.up, last.engines, last.error) == (False, {}, "left discovery")
    assert last.order == (scrapes[-1].scraper_epoch, scrapes[-1].seq + 1)
    assert last.scraped_at_ms >= scrapes[-1].scraped_at_ms


async def test_a_target_that_comes_back_at_once_supersedes_its_departure(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    target = Target(url, "chat", "a")
    source = Listed(target)
    # Slots of 60 s: the target is gone and back before the next one is due.
    async with scraping(source, publisher, clock, interval_s=60.0, backoff_cap_s=60.0):
        await publisher.until(lambda: len(publisher.snapshots) >= 1)
        source.targets = ()
        await publisher.until(lambda: publisher.snapshots[-1].left)
        source.targets = (target,)
        await publisher.until(lambda: not publisher.snapshots[-1].left)
    orders = [m.order for m in publisher.snapshots]
    assert orders == sorted(set(orders))
    assert [m.left for m in publisher.snapshots].count(True) == 1


async def test_a_target_that_moves_to_another_workload_leaves_the_first(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    source = Listed(Target(url, "chat", "a"))
    async with scraping(source, publisher, clock):
        await publisher.until(lambda: len(publisher.snapshots) >= 2)
        source.targets = (Target(url, "code", "a"),)
        await publisher.until(lambda: publisher.snapshots[-1].workload == "code")
        source.targets = (Target(url + "?again", "code", "a"),)
        await publisher.until(lambda: len([m for m in publisher.snapshots if m.workload == "code"]) >= 12)
    assert [m.workload for m in publisher.snapshots if m.left] == ["chat"]


async def test_a_shard_asks_its_own_instances(serve: Serve, publisher: Any, clock: EventClock, page_032: bytes) -> None:
    url = await serve(answers(page_032))
    targets = [Target(url, "chat", f"i{n}") for n in range(8)]
    mine = {t.instance_id for t in targets if shard_of(t.instance_id, 2) == 1}
    async with scraping(targets, publisher, clock, shard=(1, 2)) as stats:
        await publisher.until(lambda: {m.instance_id for m in publisher.snapshots} >= mine)
    assert {m.instance_id for m in publisher.snapshots} == mine
    assert stats.targets == len(mine)
