"""The twin over real sockets: its face is vLLM's, its control port breaks and mends replicas, a scraper finds them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from connectors.twin.fleet import Fleet
from connectors.twin.server import Twin, run_twin
from contracts.errors import Conflict
from tests.connectors.twin.running import WORKLOADS, Running, clock, serving, until


def value_of(page: str, start: str) -> float:
    return float(next(line for line in page.splitlines() if line.startswith(start)).rsplit(" ", 1)[1])


@pytest_asyncio.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(tmp_path) as running:
        yield running


async def test_the_face_is_vllms(twin: Running) -> None:
    async with twin.session.get(twin.url("chat-0", "/metrics")) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["Server"] == "uvicorn"
        assert 'vllm:num_requests_running{engine="0",model_name="a/chat-model"}' in await answer.text()
    for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
        async with twin.session.request(method, twin.url("chat-0", path)) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
    async with twin.session.get(twin.url("chat-0", "/version")) as answer:
        assert await answer.read() == b'{"version":"0.32.0"}'
        assert answer.headers["Content-Type"] == "application/json"
    async with twin.session.get(twin.url("code-0", "/v1/models")) as answer:
        listed = await answer.json()
        assert listed["data"][0]["id"] == "a/code-model"
        assert listed["data"][0]["owned_by"] == "vllm"
    async with twin.session.get(twin.url("code-0", "/load")) as answer:
        assert set(await answer.json()) == {"server_load"}


async def test_unknown_paths_and_methods_are_answered_as_fastapi_does(twin: Running) -> None:
    async with twin.session.get(twin.url("chat-0", "/nothing")) as answer:
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})
    async with twin.session.post(twin.url("chat-0", "/metrics")) as answer:
        assert (answer.status, await answer.json()) == (405, {"detail": "Method Not Allowed"})
        assert answer.headers["Allow"] == "GET"
    async with twin.session.post(twin.url("chat-0", "/v1/chat/completions"), json={}) as answer:
        assert answer.status == 503
        assert "simulated" in (await answer.json())["error"]["message"]


async def test_the_numbers_move_with_the_clock(twin: Running) -> None:
    first = value_of(await twin.page("chat-0"), "vllm:generation_tokens_total")

    async def moved() -> bool:
        return value_of(await twin.page("chat-0"), "vllm:generation_tokens_total") > first + 100

    await until(moved)


async def test_the_discovery_file_names_every_replica_with_its_labels(twin: Running) -> None:
    groups = json.loads(twin.file_sd.read_text())
    assert {
        "targets": [twin.info.replicas["code-0"]],
        "labels": {"workload": "code", "instance": "code-0", "model": "a/code-model"},
    } in groups
    assert twin.discovered() == {"chat-0", "chat-1", "code-0"}
    assert [p.name for p in twin.file_sd.parent.iterdir()] == ["twin.json"]


async def test_a_failed_replica_refuses_connections_until_it_has_recovered_on_the_same_port(twin: Running) -> None:
    await twin.page("chat-0")
    status, answer = await twin.control("POST", "/fleet/chat-0/fail")
    assert (status, answer["phase"]) == (200, "failed")
    with pytest.raises(aiohttp.ClientConnectorError):
        await twin.page("chat-0")
    assert "chat-0" in twin.discovered()
    assert (await twin.control("POST", "/fleet/chat-0/recover"))[1]["phase"] == "starting"
    with pytest.raises(aiohttp.ClientConnectorError):
        await twin.page("chat-0")

    async def ready() -> bool:
        return bool((await twin.replica("chat-0"))["phase"] == "ready")

    await until(ready)

    async def serves() -> bool:
        with suppress(aiohttp.ClientConnectorError):
            return "vllm:" in await twin.page("chat-0")
        return False

    await until(serves)


async def test_a_frozen_replica_takes_connections_and_answers_only_when_thawed(twin: Running) -> None:
    await twin.control("POST", "/fleet/chat-0/freeze")
    hanging = asyncio.create_task(twin.page("chat-0"))
    await twin.page("chat-1")
    assert not (await asyncio.wait([hanging], timeout=0.3))[0]
    await twin.control("POST", "/fleet/chat-0/thaw")
    assert "vllm:" in await hanging


@pytest.mark.parametrize(("fault", "body"), [("freeze", None), ("slow", {"delay_s": 30})])
async def test_a_replica_that_dies_while_a_page_is_due_cuts_the_connection(
    twin: Running, fault: str, body: Any
) -> None:
    await twin.control("POST", f"/fleet/chat-0/{fault}", body)
    hanging = asyncio.create_task(twin.page("chat-0"))
    await asyncio.wait([hanging], timeout=0.2)
    await twin.control("POST", "/fleet/chat-0/fail")
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await hanging


async def test_a_slow_replica_answers_late_and_loses_nothing(twin: Running) -> None:
    await twin.control("POST", "/fleet/chat-0/slow", {"delay_s": 0.3})
    slow = asyncio.create_task(twin.page("chat-0"))
    await twin.page("chat-1")
    assert not slow.done()
    assert "vllm:" in await slow


async def test_a_reset_gives_a_new_start_time_and_counters_from_zero(twin: Running) -> None:
    async def busy() -> bool:
        return value_of(await twin.page("chat-0"), "vllm:generation_tokens_total") > 500

    await until(busy)
    before = await twin.page("chat-0")
    status, _ = await twin.control("POST", "/fleet/chat-0/reset", {"delay_s": 0})
    assert status == 200
    after = await twin.page("chat-0")
    assert value_of(after, "vllm:generation_tokens_total") < value_of(before, "vllm:generation_tokens_total")
    assert value_of(after, "process_start_time_seconds") > value_of(before, "process_start_time_seconds")


async def test_a_replica_is_added_drained_restored_and_removed(twin: Running) -> None:
    status, answer = await twin.control("POST", "/fleet/chat/replicas")
    assert (status, answer["replica"]) == (201, "chat-2")

    async def discovered() -> bool:
        return "chat-2" in twin.discovered()

    await until(discovered)
    assert (await twin.control("POST", "/fleet/chat-1/drain"))[0] == 200

    async def drained() -> bool:
        return bool((await twin.replica("chat-1"))["drained"])

    await until(drained)
    assert "chat-1" in twin.discovered()
    assert (await twin.control("POST", "/fleet/chat-1/restore"))[1]["phase"] == "ready"
    assert (await twin.control("POST", "/fleet/chat-1/drain"))[0] == 200
    await until(drained)
    assert (await twin.control("POST", "/fleet/chat-1/remove"))[1]["phase"] == "gone"
    assert "chat-1" not in twin.discovered()
    with pytest.raises(aiohttp.ClientConnectorError):
        await twin.page("chat-1")


async def test_the_load_can_be_changed(twin: Running) -> None:
    assert await twin.control("PUT", "/load/chat", {"factor": 0.0}) == (200, {"workload": "chat", "factor": 0.0})
    _, state = await twin.control("GET", "/fleet")
    assert state["workloads"]["chat"]["requests_per_s"] == 0
    assert state["workloads"]["code"]["requests_per_s"] > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/fleet/chat-9/fail", None, 404, "no replica 'chat-9'"),
        ("POST", "/fleet/chat-0/explode", None, 404, "no action 'explode'"),
        ("POST", "/fleet/nothing/replicas", None, 404, "no workload 'nothing'"),
        ("POST", "/fleet/chat-0/remove", None, 409, "cannot remove chat-0"),
        ("POST", "/fleet/chat-0/recover", None, 409, "cannot recover chat-0"),
        ("POST", "/fleet/chat-0/restore", None, 409, "cannot restore chat-0"),
        ("PUT", "/load/chat", {"factor": -1}, 422, "factor"),
        ("PUT", "/load/chat", {"factor": 1, "other": 2}, 422, "other"),
        ("PUT", "/load/chat", [], 422, "body"),
        ("POST", "/fleet/chat-0/slow", {}, 422, "delay_s"),
        ("GET", "/elsewhere", None, 404, "Not Found"),
        ("DELETE", "/fleet", None, 405, "Method Not Allowed"),
    ],
)
async def test_bad_control_requests_are_refused_in_json(
    twin: Running, method: str, path: str, body: Any, status: int, says: str
) -> None:
    found, answer = await twin.control(method, path, body)
    assert found == status
    assert says in answer["error"]["message"]
    assert answer["error"]["fix"]


async def test_a_control_port_in_use_is_a_conflict_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match="in use"):
            await run_twin(clock=clock(), file_sd=tmp_path / "sd.json", workloads=WORKLOADS, control_port=port)
        with pytest.raises(Conflict, match="in use"):
            await run_twin(clock=clock(), file_sd=tmp_path / "sd.json", workloads=WORKLOADS, base_port=port)


class HandClock:
    """A clock that a test moves."""

    def __init__(self, now_ms: int) -> None:
        self.at_ms = now_ms

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s


async def test_after_a_pause_the_twin_says_so_catches_up_and_has_missed_nothing(tmp_path: Path) -> None:
    start_ms, gap_ms = 1_700_000_000_000, 200_000
    clock, steady = HandClock(start_ms), Fleet(WORKLOADS, seed=1, start_ms=start_ms)
    twin = Twin(Fleet(WORKLOADS, seed=1, start_ms=start_ms), clock, tmp_path / "sd.json", warn_behind_s=60.0)
    clock.at_ms += gap_ms
    with capture_logs() as logs:
        assert await twin.catch_up() == start_ms + gap_ms
    steady.advance(start_ms + gap_ms)

    assert [entry["event"] for entry in logs] == ["twin_behind", "twin_caught_up"]
    assert logs[0]["behind_s"] == 200.0
    assert twin.behind_s == 0
    assert vars(twin.fleet.router["chat"]) == vars(steady.router["chat"])
    with capture_logs() as logs:
        clock.at_ms += 50_000
        await twin.catch_up()
    assert logs == []
