"""What leaves the process: dead letters that can be told apart, and nothing of a URL that may be a secret."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from connectors.vllm.reports import Reports
from connectors.vllm.targets import Target
from contracts.clock import EventClock
from contracts.errors import BadMessage, Reason
from tests.connectors.vllm.loopback import Serve, scraping, tried, unused_port

ERROR = BadMessage(Reason.MALFORMED_PAGE, "line 1: not a sample")


class StoppedClock:
    """All happens in one millisecond."""

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def wall_s(self, event_s: float) -> float:
        return event_s


async def reported_ids(publisher: Any, *pages: tuple[Target, bytes]) -> list[str]:
    """The ids of the dead letters for these pages."""
    reports, before = Reports(publisher, StoppedClock()), len(publisher.letters)
    for target, raw in pages:
        reports.malformed_page(target, raw, ERROR)
    assert await reports.flush(5) == 0
    return [letter.id for letter in publisher.letters[before:]]


async def test_dead_letters_of_one_millisecond_have_ids_of_their_own(publisher: Any) -> None:
    """Instances may share all of their URL that is shown, as behind a gateway that goes by the query."""
    pages = [
        (Target("http://gateway/metrics?of=a", "chat", "a"), b"<html>a"),
        (Target("http://gateway/metrics?of=b", "chat", "b"), b"<html>b"),
        (Target("http://gateway/metrics?of=c", "rag", "c"), b"<html>b"),
    ]
    ids = await reported_ids(publisher, *pages)
    assert len(ids) == len(set(ids)) == 3
    assert await reported_ids(publisher, *pages) == ids


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that repeats what it was asked: no HTTP."""
    writer.write(await reader.readuntil(b"\r\n\r\n"))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_the_query_of_a_target_is_told_to_its_server_alone(
    serve: Serve, publisher: Any, clock: EventClock, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    async def junk(request: web.Request) -> web.StreamResponse:
        asked.append(request.query_string)
        return web.Response(body=b"vllm:num_requests_running one\n")

    url, server = await serve(junk), await asyncio.start_server(echo, "127.0.0.1", 0)
    hosts = {
        "junk": url.removeprefix("http://").removesuffix("/metrics"),
        "echo": f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "gone": f"127.0.0.1:{unused_port()}",
        "invalid": "127.0.0.1:99999999",
    }
    targets = [Target(f"http://{host}/metrics?token=geheim", "chat", name) for name, host in hosts.items()]
    async with server, scraping(targets, publisher, clock, backoff_cap_s=2.0):
        await publisher.until(lambda: {m.instance_id for m in tried(publisher)} == set(hosts) and publisher.letters)
    assert set(asked) == {"token=geheim"}
    errors = {m.instance_id: m.error or "" for m in tried(publisher)}
    assert "ClientResponseError: Bad status line" in errors["echo"]
    assert "InvalidUrlClientError" in errors["invalid"]
    assert "Cannot connect to host" in errors["gone"]
    assert publisher.letters[0].topic == url
    said = capsys.readouterr()
    assert "dead letter" in said.out
    for text in (said.out, said.err, *(m.model_dump_json() for m in publisher.messages)):
        assert "geheim" not in text
