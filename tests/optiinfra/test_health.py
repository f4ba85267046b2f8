"""Health over HTTP: what is wrong is named, and the metrics are those of the vitals."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts.errors import Conflict
from contracts.laws.histogram import empty, observe
from optiinfra.health import Check, ChildView, HealthServer, Vitals
from optiinfra.plan import free_port

GOOD = Vitals(
    checks={"broker": Check(True, "127.0.0.1:9092"), "slis_fresh": Check(True)},
    children=(ChildView("slis", "running", 7, 2, True, "ok", 5),),
    counts={"scrapes": 11, "dead_letters": 0},
    latency=observe(empty((0.1, 1.0)), (0.05, 0.5, 3.0)),
    about={"broker": "embedded, in memory"},
)

Get = Callable[[Vitals, str], "object"]


@pytest.fixture
async def served() -> AsyncIterator[tuple[list[Vitals], str]]:
    shown, port = [GOOD], free_port()
    server = HealthServer(lambda: shown[0])
    await server.start(port)
    yield shown, f"http://127.0.0.1:{port}"
    await server.stop()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_ready_is_200_with_every_check(served: tuple[list[Vitals], str]) -> None:
    status, body = await get(f"{served[1]}/health/ready")
    assert status == 200
    assert '"ready": true' in body
    assert '"broker": "embedded, in memory"' in body


async def test_the_root_names_all_paths(served: tuple[list[Vitals], str]) -> None:
    status, body = await get(f"{served[1]}/")
    assert status == 200
    for path in body.split():
        assert (await get(f"{served[1]}{path}"))[0] == 200
    assert body.split() == ["/health/live", "/health/ready", "/metrics"]


async def test_one_failing_check_makes_it_503_and_is_named(served: tuple[list[Vitals], str]) -> None:
    served[0][0] = replace(GOOD, checks={**GOOD.checks, "store": Check(False, "no connection")})
    status, body = await get(f"{served[1]}/health/ready")
    assert status == 503
    assert '"store": {"ok": false, "detail": "no connection"}' in body
    assert (await get(f"{served[1]}/health/live"))[0] == 200


async def test_metrics_are_those_of_the_vitals(served: tuple[list[Vitals], str]) -> None:
    _, body = await get(f"{served[1]}/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }
    assert samples["optiinfra_scrapes_total",] == 11
    assert samples["optiinfra_child_up", "slis"] == 1
    assert samples["optiinfra_child_restarts_total", "slis"] == 2
    assert samples["optiinfra_stage_lag_messages", "slis"] == 5
    assert samples["optiinfra_scrape_to_sli_seconds_bucket", "0.1"] == 1
    assert samples["optiinfra_scrape_to_sli_seconds_count",] == 3


async def test_what_rules_prevented_is_a_metric_by_workload(served: tuple[list[Vitals], str]) -> None:
    told = {
        "chat": {"pressure_score": 61.5, "oom_prevented": 2.0, "oom_not_prevented": 1.0},
        "code": {"kv_above_s": 0.0},
    }
    served[0][0] = replace(GOOD, pressure=told)
    _, body = await get(f"{served[1]}/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name.startswith(("optiinfra_oom", "optiinfra_memory"))
    }
    assert samples == {
        ("optiinfra_memory_pressure_score", "chat"): 61.5,
        ("optiinfra_oom_cases_total", "chat", "prevented"): 2.0,
        ("optiinfra_oom_cases_total", "chat", "not_prevented"): 1.0,
    }


async def test_a_port_in_use_is_refused_with_another_to_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} .*") as caught:
            await HealthServer(lambda: GOOD).start(port)
    assert f"--port {port + 1}" in caught.value.fix
