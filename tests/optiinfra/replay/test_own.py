"""The platform's own past: a day of rates in a real store comes out as the load that went in, gaps as gaps."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from connectors.traces.shape import Load
from connectors.twin.fluid import Span
from contracts.errors import ConfigError
from contracts.events import Sli, SliValue
from contracts.ports import Row, Scalar
from optiinfra.cli import app
from optiinfra.replay import card, own, requests
from optiinfra.replay.course import unmeasured
from streams.store.client import HttpStore
from streams.store.rows import rows_of
from tests.streams.store.children import StoreProcess

MIDNIGHT_MS = 1_700_006_400_000
HOUR = 360
GAP = range(12 * HOUR, 12 * HOUR + 180)
LITTLE = 20 * HOUR


def day() -> list[int]:
    """Requests in each of a day's windows of ten seconds."""
    windows = np.arange(24 * HOUR)
    rate = 30 * (1 + 0.5 * np.sin(2 * np.pi * windows / len(windows)))
    return [int(count) for count in np.random.default_rng(1).poisson(rate)]


def window(number: int, rate: float | None, workload: str = "chat", **changes: object) -> list[Row]:
    values = {"requests_per_s": SliValue(value=rate), "queue_waiting": SliValue(value=3.0)}
    start_ms = MIDNIGHT_MS + 8 * 3_600_000 + number * 10_000
    message = {
        "workload": workload,
        "instance_id": None,
        "size_s": 10,
        "start_ms": start_ms,
        "revision": 0,
        "coverage_ratio": 1.0,
        "freshness_s": 0.5,
        "cause_ms": start_ms + 10_000,
        "instances": 2,
        "instances_up": 2,
        "values": values,
        "attainment": {},
        **changes,
    }
    return list(rows_of(Sli.model_validate(message))[1])


async def fill(url: str, messages: Sequence[list[Row]]) -> None:
    async with HttpStore(url) as store:
        rows = [row for message in messages for row in message]
        for first in range(0, len(rows), 20_000):
            await store.insert("slis", rows[first : first + 20_000])


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """A store with a day of rates: half an hour was not measured, one window hardly, and one was corrected later."""
    process = StoreProcess(tmp_path_factory.mktemp("state"))
    process.start()
    counts = day()
    messages = [window(n, count / 10) for n, count in enumerate(counts) if n not in GAP and n != LITTLE]
    messages.append(window(LITTLE, 900.0, coverage_ratio=0.2))
    messages.append(window(5, 70.0, revision=1))
    messages.append(window(7, 55.0, instance_id="chat-0"))
    messages += [window(n, 2.0, "code") for n in range(60)]
    asyncio.run(fill(process.url, messages))
    yield process
    process.close()


@pytest.fixture
def went_in() -> list[int]:
    counts = day()
    counts[5] = 700
    return counts


def past(url: str, workload: str | None, page: int = 100_000) -> Load:
    async def asked() -> Load:
        async with HttpStore(url) as store:
            return await own.past(store, workload, 0, page=page)

    return asyncio.run(asked())


def test_a_day_of_rates_comes_out_as_it_went_in(child: StoreProcess, went_in: list[int]) -> None:
    load = past(child.url, "chat")
    assert (load.workload, load.begin_s, len(load.per_second)) == ("chat", 8 * 3600, 86_400)
    totals = load.per_second.reshape(-1, 10).sum(axis=1).tolist()
    held = [n for n in range(len(went_in)) if n not in GAP and n != LITTLE]
    assert [totals[n] for n in held] == [went_in[n] for n in held]
    assert "requests_per_s in windows of 10 s" in load.origin


def test_a_gap_is_unmeasured_and_never_taken_for_silence(child: StoreProcess, went_in: list[int]) -> None:
    load = past(child.url, "chat")
    assert unmeasured(load) == (Span(GAP.start * 10, GAP.stop * 10), Span(LITTLE * 10, LITTLE * 10 + 10))
    totals = load.per_second.reshape(-1, 10).sum(axis=1)[GAP.start : GAP.stop]
    before, after = went_in[GAP.start - 1], went_in[GAP.stop]
    assert min(before, after) - 1 <= totals.min() <= totals.max() <= max(before, after) + 1
    assert "2 gaps of 30.1667 min in all" in load.generated


def test_pages_of_any_size_are_the_same_past(child: StoreProcess) -> None:
    assert past(child.url, "chat", 777).per_second.tolist() == past(child.url, "chat").per_second.tolist()


def test_a_workload_must_be_named_where_there_are_several(child: StoreProcess) -> None:
    with pytest.raises(ConfigError, match=r"2 workloads and none named.*chat, code. Write --workload"):
        past(child.url, None)
    with pytest.raises(ConfigError, match=r"no workload 'none'.*chat, code"):
        past(child.url, "none")


def test_it_is_replayed_from_a_store_that_runs_and_scalers_are_blind_in_its_gap(
    child: StoreProcess, tmp_path: Path
) -> None:
    words = ["--trace", f"store:{child.url}", "--workload", "chat", "--policy", "reactive", "--startup", "60s"]
    words += ["--from", "11h", "--for", "2h", "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, ["replay", *words])
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["meta"]["outages_s"] == [[3600, 5400]]
    assert {row["removed_blind"] for row in data["results"]} == {0}
    assert "unmeasured" in result.stdout


def test_it_is_replayed_request_by_request_with_lengths_that_are_drawn(child: StoreProcess) -> None:
    ask = card.Ask(level=card.Level.REQUESTS, twin=requests.Twin(capacity_rps=3.0))
    race = card.race(f"store:{child.url}", "code", ask)
    assert race.level == "requests"
    assert race.load.per_second.sum() == 1200


def test_it_is_replayed_from_the_state_directory_that_a_stopped_platform_left(tmp_path: Path) -> None:
    process = StoreProcess(tmp_path)
    process.start()
    asyncio.run(fill(process.url, [window(n, 3.0) for n in range(60)]))
    process.end(signal.SIGTERM)
    command = [sys.executable, "-m", "optiinfra", "replay", "--trace", "own", "--state", str(tmp_path)]
    told = subprocess.run(
        [*command, "--policy", "static-peak"], capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "chat: 1800 requests" in told.stdout


def test_a_directory_without_a_store_is_refused_with_the_fix(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", "--trace", "own", "--state", str(tmp_path), "--policy", "hpa"])
    assert result.exit_code == 2
    assert "write --trace store:URL" in result.stderr.replace("\n", " ")


class Rows:
    """A store that holds these windows of one minute and nothing finer."""

    def __init__(self, rows: list[dict[str, Scalar]]) -> None:
        self._rows = rows

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        if name == "workloads":
            return [{"workload": "chat"}]
        return self._rows if params["size_s"] == 60 and not params["from_ms"] else []


def row(number: int, value: float | None) -> dict[str, Scalar]:
    return {"start_ms": number * 60_000, "value": value, "coverage_ratio": 1.0, "sli": "arrivals_per_s"}


def test_where_windows_of_ten_seconds_are_gone_those_of_a_minute_serve() -> None:
    load = asyncio.run(own.past(Rows([row(0, 2.0), row(1, 4.0)]), None, 0))
    assert load.per_second.reshape(-1, 60).sum(axis=1).tolist() == [120, 240]


def test_windows_that_all_lack_a_value_are_no_past() -> None:
    with pytest.raises(ConfigError, match="no rate of 'chat'"):
        asyncio.run(own.past(Rows([row(0, None)]), "chat", 0))


@given(st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=50))
def test_measured_is_exactly_what_has_a_value_between_the_first_and_the_last(counts: list[int | None]) -> None:
    rows = [row(n, None if count is None else count / 60) for n, count in enumerate(counts)]
    held = [n for n, count in enumerate(counts) if count is not None]
    if not held:
        return
    load = own.load_of(rows, 60, "chat", 1)
    totals = load.per_second.reshape(-1, 60).sum(axis=1).tolist()
    assert len(totals) == held[-1] - held[0] + 1
    assert [totals[n - held[0]] for n in held] == [counts[n] for n in held]
    blind = {second for span in unmeasured(load) for second in range(span.begin_s, span.end_s)}
    missing = [n - held[0] for n in range(held[0], held[-1]) if counts[n] is None]
    assert blind == {60 * n + second for n in missing for second in range(60)}
