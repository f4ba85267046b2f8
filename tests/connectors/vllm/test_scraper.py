"""The scraper against real HTTP servers on loopback: one message a slot, whatever the server does."""

from __future__ import annotations

import asyncio
import base64
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from connectors.vllm.core.schedule import Grid
from connectors.vllm.discovery import FixedTargets
from connectors.vllm.options import ScrapeOptions
from connectors.vllm.scraper import run_scraper
from connectors.vllm.targets import Target
from contracts.clock import EventClock
from contracts.errors import ConfigError, Reason
from contracts.events import Message, MetricsSnapshot
from tests.connectors.vllm.loopback import Serve, answers, errors, scraping, tried, unused_port


async def test_each_slot_of_each_instance_is_one_message(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    targets = [Target(url, "chat", f"i{n}") for n in range(3)]
    async with scraping(targets, publisher, clock) as stats:
        await publisher.until(lambda: len(publisher.snapshots) >= 12)
    assert stats.targets == 3
    assert stats.handled == len(publisher.snapshots) == stats.published
    for instance in ("i0", "i1", "i2"):
        mine = [m for m in publisher.snapshots if m.instance_id == instance]
        epoch = mine[0].scraper_epoch
        grid = Grid.of(instance, 2000, epoch)
        assert [m.seq for m in mine] == list(range(mine[0].seq, mine[0].seq + len(mine)))
        assert [m.scheduled_at_ms for m in mine] == [grid.due_ms(m.seq) for m in mine]
        assert all(m.scheduled_at_ms <= m.scraped_at_ms for m in mine)
        up = [m for m in mine if m.up]
        assert up
        assert up[-1].engines["0"].counters["prompt_tokens"] == 11879
        assert up[-1].incarnation_ms == 1795207470460
        assert (up[-1].workload, up[-1].interval_s, up[-1].error) == ("chat", 2.0, None)


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "status": ({"raw": b"", "status": 503}, "HTTP 503"),
    "redirect": ({"raw": b"", "status": 302, "headers": {"Location": "/elsewhere"}}, "redirects are not followed"),
    "large": ({"raw": b"x 1\n" * 2_500_000}, "page larger than 4,194,304 bytes (it says 10,000,000 bytes)"),
    "gzip": ({"raw": b"x", "headers": {"Content-Encoding": "gzip"}}, "compressed (gzip)"),
    "html": ({"raw": b"<html>\n", "content_type": "text/html"}, "malformed page: line 1: not a sample: '<html>'"),
    "binary": ({"raw": b"\x00\xff\n"}, "malformed page: line 1: byte 0xff is not UTF-8"),
    "cut": ({"raw": b"vllm:num_requests_running 1"}, "malformed page: line 1: the page ends inside a line"),
    "eof": ({"raw": b"x 1\n", "content_type": "application/openmetrics-text"}, "no # EOF"),
    "port": ({"raw": b"node_load1 1\n"}, "no vLLM metric on it: is this the vLLM port?"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_server_without_a_readable_page_is_down_for_a_reason(
    serve: Serve, publisher: Any, clock: EventClock, name: str
) -> None:
    response, message = FAILURES[name]
    url = await serve(answers(**response))
    async with scraping([Target(url, "chat", "a")], publisher, clock):
        await publisher.until(lambda: len(tried(publisher)) >= 3)
    assert not any(m.up or m.engines for m in publisher.snapshots)
    assert message in errors(publisher)[0]
    assert all(message in each for each in errors(publisher))
    assert len(publisher.letters) == (1 if "malformed" in message or name == "eof" else 0)


async def test_a_server_that_is_not_there_is_down_and_seldom_tried(publisher: Any, clock: EventClock) -> None:
    url = f"http://127.0.0.1:{unused_port()}/metrics"
    async with scraping([Target(url, "chat", "a")], publisher, clock) as stats:
        await publisher.until(lambda: len(publisher.snapshots) >= 16)
    seqs = [m.seq for m in publisher.snapshots]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert "ClientConnectorError" in errors(publisher)[0]
    waiting = [m for m in publisher.snapshots if m.error.startswith("backing off after")]
    assert "failures: ClientConnectorError" in waiting[-1].error
    assert len(waiting) == stats.backed_off > stats.scrapes_failed


async def test_a_page_that_hangs_costs_its_slots_and_no_others(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(_request)
        await response.write(page_032[:1000])
        await asyncio.sleep(3600)
        return response

    hung, fine = await serve(hang), await serve(answers(page_032))
    targets = [Target(hung, "chat", "hung"), Target(fine, "chat", "fine")]
    async with scraping(targets, publisher, clock, timeout_s=0.35) as stats:
        await publisher.until(lambda: len([m for m in publisher.snapshots if m.instance_id == "hung"]) >= 6)
    of_hung = [m for m in publisher.snapshots if m.instance_id == "hung"]
    assert "no page within 0.35 s" in {m.error for m in of_hung}
    assert [m.seq for m in of_hung] == list(range(of_hung[0].seq, of_hung[0].seq + len(of_hung)))
    assert "missed: previous scrape still running" in {m.error for m in of_hung}
    assert stats.missed >= 2
    assert any(m.up for m in publisher.snapshots if m.instance_id == "fine")


async def test_event_time_of_an_instance_never_falls_while_others_hold_the_only_place(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits that long")

    hung, fine = await serve(hang), await serve(answers(page_032))
    targets = [Target(hung, "chat", f"hung{i}") for i in range(3)] + [Target(fine, "chat", "fine")]

    def of(instance: str) -> list[MetricsSnapshot]:
        return [m for m in publisher.snapshots if m.instance_id == instance]

    def was_late() -> bool:
        """The healthy one was asked after later slots were due, and these were told as missed."""
        pairs = pairwise(of("fine"))
        return sum(a.up and a.scraped_at_ms > b.scheduled_at_ms and not b.up for a, b in pairs) >= 2

    # One place, and three that hang for 0.25 s: the turn of the healthy one comes slots (of 0.1 s) after it was due.
    async with scraping(targets, publisher, clock, timeout_s=0.25, concurrency=1, backoff_cap_s=2.0):
        await publisher.until(was_late)
    for target in targets:
        mine = of(target.instance_id)
        grid = Grid.of(target.instance_id, 2000, mine[0].scraper_epoch)
        assert [m.seq for m in mine] == list(range(mine[0].seq, mine[0].seq + len(mine)))
        assert [m.scheduled_at_ms for m in mine] == [grid.due_ms(m.seq) for m in mine]
        stamps = [m.scraped_at_ms for m in mine]
        assert stamps == sorted(stamps)


async def test_a_large_page_without_a_length_is_read_no_further_than_the_limit(
    serve: Serve, publisher: Any, clock: EventClock
) -> None:
    written = 0

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x 1\n" * 1000)
            written += 4000
        return response

    url = await serve(stream)
    async with scraping([Target(url, "chat", "a")], publisher, clock, max_page_bytes=100_000):
        await publisher.until(lambda: bool(tried(publisher)))
    assert tried(publisher)[0].error == "page larger than 100,000 bytes (reading stopped there)"
    assert written < 40_000_000


async def test_a_connection_cut_inside_the_page_is_no_page(serve: Serve, publisher: Any, clock: EventClock) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'vllm:num_requests_running{engine="0"} 1\n')
        assert request.transport is not None
        request.transport.close()
        return response

    url = await serve(cut)
    async with scraping([Target(url, "chat", "a")], publisher, clock):
        await publisher.until(lambda: bool(tried(publisher)))
    assert not tried(publisher)[0].up
    assert "ClientPayloadError" in errors(publisher)[0]


async def test_a_malformed_page_is_kept_once_a_minute_and_fault(
    serve: Serve, publisher: Any, clock: EventClock
) -> None:
    raw = b"vllm:num_requests_running one\n"
    url = await serve(answers(raw))
    async with scraping([Target(url, "chat", "a")], publisher, clock, backoff_cap_s=2.0) as stats:
        await publisher.until(lambda: len(publisher.snapshots) >= 5)
        await publisher.until(lambda: bool(publisher.letters))
    minutes = {m.scraped_at_ms // 60_000 for m in publisher.snapshots}
    assert 1 <= len(publisher.letters) <= len(minutes)
    letter = publisher.letters[0]
    assert (letter.reason, letter.topic, letter.message_key) == (Reason.MALFORMED_PAGE, url, "chat")
    assert base64.b64decode(letter.raw_base64) == raw
    assert letter.raw_bytes == len(raw)
    assert stats.dead_letters == len(publisher.letters)


async def test_bad_samples_are_named_and_the_page_is_up(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    raw = page_032.replace(b'kv_cache_usage_perc{engine="0",model_name="tiny"} 0.0',
                           b'kv_cache_usage_perc{engine="0",model_name="tiny"} NaN')  # fmt: skip
    url = await serve(answers(raw))
    async with scraping([Target(url, "chat", "a")], publisher, clock) as stats:
        await publisher.until(lambda: bool(tried(publisher)))
    first = tried(publisher)[0]
    assert first.up
    assert first.problems == ("engine 0: vllm:kv_cache_usage_perc is nan, expected 0 to 1",)
    assert "kv_cache_usage_ratio" not in first.engines["0"].gauges
    assert stats.problems >= 1


async def test_a_server_that_comes_back_is_up_again(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    ill = True

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500) if ill else web.Response(body=page_032)

    url = await serve(handler)
    async with scraping([Target(url, "chat", "a")], publisher, clock):
        await publisher.until(lambda: len(tried(publisher)) >= 2)
        ill = False
        await publisher.until(lambda: any(m.up for m in publisher.snapshots))
    ups = [m.up for m in publisher.snapshots]
    assert ups[0] is False
    assert True in ups


async def test_an_outage_of_the_broker_loses_nothing(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    publisher.away = True
    async with scraping([Target(url, "chat", "a")], publisher, clock) as stats:
        await publisher.until(lambda: stats.handled >= 8)
        assert publisher.messages == []
        publisher.away = False
        await publisher.until(lambda: len(publisher.snapshots) >= 10)
    seqs = [m.seq for m in publisher.snapshots]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert (stats.dropped, stats.pending) == (0, 0)
    assert publisher.alerts == []


async def test_an_outage_longer_than_the_queue_is_told(
    serve: Serve, publisher: Any, clock: EventClock, page_032: bytes
) -> None:
    url = await serve(answers(page_032))
    publisher.away = True
    async with scraping([Target(url, "chat", "a")], publisher, clock, queue_limit=3) as stats:
        await publisher.until(lambda: stats.handled >= 10)
        publisher.away = False
        await publisher.until(lambda: bool(publisher.alerts))
    [alert] = publisher.alerts
    assert alert.name == "scraper_overflow"
    assert f"{stats.dropped} snapshots of 1 instances were lost" in alert.summary
    assert len(publisher.snapshots) + stats.dropped == stats.handled


async def test_a_snapshot_that_the_codec_refuses_is_told_as_failed(
    serve: Serve, publisher: Any, clock: EventClock
) -> None:
    rows = [f'vllm:prompt_tokens_total{{engine="{i}{"e" * 150}",model_name="{"m" * 200}"}} 1\n' for i in range(4000)]
    url = await serve(answers("".join(rows).encode()))
    async with scraping([Target(url, "chat", "a")], publisher, clock):
        await publisher.until(lambda: bool(tried(publisher)) and bool(publisher.letters))
    assert not tried(publisher)[0].up
    assert "cannot be published" in errors(publisher)[0]
    assert publisher.letters[0].reason is Reason.TOO_LARGE


@pytest.mark.parametrize("options", [{"shard": (2, 2)}, {"interval_s": 0}, {"queue_limit": -1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ScrapeOptions(**options)


async def test_a_bug_ends_the_scraper(serve: Serve, publisher: Any, clock: EventClock, page_032: bytes) -> None:
    class Broken:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            raise KeyError("bug")

    url = await serve(answers(page_032))
    with pytest.RaisesGroup(KeyError):
        await run_scraper(FixedTargets([Target(url, "chat", "a")]), Broken(), clock, epoch_ms=clock.now_ms())
