"""The store child over real HTTP on a real engine: what goes in comes out, and only that."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
import pytest

from contracts.errors import BadMessage, ConfigError, Reason, Unavailable
from contracts.events import Alert, DeadLetter, FleetEvent, Severity, SliValue
from optiinfra.plan import free_port
from streams.store.client import HttpStore
from streams.store.queries import QUERIES, Query
from streams.store.rows import rows_of
from tests.streams.store.children import START_MS, StoreProcess, sli

HOSTILE = [
    "x' OR 1=1 --",
    '"; DROP TABLE slis; --',
    "\\",
    "\\' OR 1=1 --",
    "a\nb\tc\rd",
    "nul\0nul",
    "{workload:String}",
    "%(workload)s %s",
    "\\N",
    "NULL",
    "日本 ✓",
    "`slis`",
]


async def test_health_says_that_the_engine_is_embedded_and_where(child: StoreProcess, store: HttpStore) -> None:
    health = await store.health()
    assert health["status"] == "ok"
    assert health["embedded"] is True
    assert health["engine"].startswith("embedded (chDB ")
    assert health["where"] == str(child.path)
    assert child.process is not None
    assert health["pid"] == child.process.pid
    assert set(health["rows"]) == {"slis", "alerts", "deadletters", "records"}


@pytest.mark.parametrize("query", QUERIES.values(), ids=lambda query: query.name)
async def test_every_named_query_answers_with_the_columns_it_declares(
    store: HttpStore, workload: str, query: Query
) -> None:
    await store.insert(*rows_of(sli(workload)))
    rate = {"requests_per_s": SliValue(value=4.0)}
    await store.insert(*rows_of(sli(workload, 1, values=rate, attainment={})))
    alert = Alert(workload=workload, name="stalled", severity=Severity.WARNING, subject="x", at_ms=1, summary="s")
    await store.insert(*rows_of(alert))
    letter = DeadLetter(source=workload, topic="t", reason=Reason.SCHEMA, detail="d", at_ms=2, offset=3, partition=0)
    await store.insert(*rows_of(letter))
    change = FleetEvent(workload=workload, name="manual_change", number=1, at_ms=START_MS)
    await store.insert(*rows_of(change))
    span = {"from_ms": START_MS - 10_000, "to_ms": START_MS + 20_000}
    given = {"workload": workload, "source": workload, "sli": "ttft_p95_s", "case": workload, **span}
    asked: dict[str, Any] = {param.name: given[param.name] for param in query.params if param.name in given}
    rows = await store.query(query.name, **asked)
    assert rows
    assert {tuple(row) for row in rows} == {query.columns}


async def test_the_latest_window_is_the_newest_with_its_newest_revision(store: HttpStore, workload: str) -> None:
    newest = SliValue(value=9.5, samples=1)
    for message in (
        sli(workload, 1, revision=1, values={"ttft_p95_s": newest}, attainment={}),
        sli(workload, 1),
        sli(workload, 0),
        sli(workload, 5, size_s=60),
        sli(workload, 0, instance_id="i-0"),
    ):
        await store.insert(*rows_of(message))
    rows = await store.query("slis_latest", workload=workload)
    assert [(row["instance"], row["name"], row["value"], row["revision"]) for row in rows] == [
        ("", "coverage_ratio", 1.0, 1),
        ("", "ttft_p95_s", 9.5, 1),
        ("i-0", "coverage_ratio", 1.0, 0),
        ("i-0", "itl_p95_s", None, 0),
        ("i-0", "ttft_attainment_ratio", 0.9, 0),
        ("i-0", "ttft_p95_s", 0.25, 0),
    ]
    assert {row["start_ms"] for row in rows} == {START_MS, START_MS + 10_000}


async def test_a_newer_revision_without_a_value_hides_the_older_one(store: HttpStore, workload: str) -> None:
    await store.insert(*rows_of(sli(workload)))
    await store.insert(*rows_of(sli(workload, revision=1, values={"ttft_p95_s": SliValue(value=None)}, attainment={})))
    (row,) = await store.query("sli_series", workload=workload, sli="ttft_p95_s")
    assert (row["value"], row["revision"]) == (None, 1)


async def test_rates_are_those_of_arrivals_where_they_were_counted_and_of_the_newest_revision(
    store: HttpStore, workload: str
) -> None:
    finished, arrived = {"requests_per_s": SliValue(value=4.0)}, {"arrivals_per_s": SliValue(value=5.0)}
    for message in (
        sli(workload, 0, values=finished, attainment={}),
        sli(workload, 1, values=finished | arrived, attainment={}),
        sli(workload, 1, revision=1, values={"arrivals_per_s": SliValue(value=6.0)}, attainment={}),
        sli(workload, 2, values=finished, attainment={}, instance_id="i-0"),
        sli(workload, 3, values={"requests_per_s": SliValue(value=None)}, attainment={}),
    ):
        await store.insert(*rows_of(message))
    rows = await store.query("arrival_rates", workload=workload)
    assert [(row["start_ms"], row["value"], row["sli"]) for row in rows] == [
        (START_MS, 4.0, "requests_per_s"),
        (START_MS + 10_000, 6.0, "arrivals_per_s"),
        (START_MS + 30_000, None, "requests_per_s"),
    ]


async def test_a_series_is_in_order_within_its_bounds_and_limit(store: HttpStore, workload: str) -> None:
    for window in (3, 1, 2, 0):
        await store.insert(*rows_of(sli(workload, window)))
    ask: dict[str, Any] = {"workload": workload, "sli": "ttft_p95_s"}
    rows = await store.query("sli_series", **ask, from_ms=START_MS + 10_000, to_ms=START_MS + 30_000)
    assert [(row["start_ms"], row["value"]) for row in rows] == [(START_MS + 10_000, 1.25), (START_MS + 20_000, 2.25)]
    assert [row["value"] for row in await store.query("sli_series", **ask, limit=1)] == [0.25]


async def test_repeats_vanish_however_often_they_come(store: HttpStore, workload: str) -> None:
    before = {row["table"]: row["rows"] for row in await store.query("counts")}
    table, rows = rows_of(sli(workload))
    for _ in range(3):
        await store.insert(table, rows)
    await store.insert(table, [*rows, *rows])
    after = {row["table"]: row["rows"] for row in await store.query("counts")}
    assert after["slis"] == before["slis"] + len(rows)  # type: ignore[operator]  # counts are ints
    assert len(await store.query("sli_series", workload=workload, sli="ttft_p95_s")) == 1


async def test_a_dead_letter_told_twice_is_one(store: HttpStore, workload: str) -> None:
    for at_ms in (1, 40 * 86_400_000):  # told again after a restart, in another month of event time
        letter = DeadLetter(source=workload, topic="t", reason=Reason.SCHEMA, detail="d", at_ms=at_ms, offset=7)
        await store.insert(*rows_of(letter))
    assert len(await store.query("deadletters_recent", source=workload)) == 1


async def test_gaps_are_the_windows_that_nobody_sent(store: HttpStore, workload: str) -> None:
    for window in (1, 2, 5):
        await store.insert(*rows_of(sli(workload, window)))
    ask: dict[str, Any] = {"workload": workload, "from_ms": START_MS, "to_ms": START_MS + 80_000}
    gaps = await store.query("sli_gaps", **ask)
    assert [((g["from_ms"] - START_MS) / 1000, (g["to_ms"] - START_MS) / 1000, g["windows"]) for g in gaps] == [  # type: ignore[operator]  # times are ints
        (0.0, 10.0, 1),
        (30.0, 50.0, 2),
        (60.0, 80.0, 2),
    ]
    whole = await store.query("sli_gaps", **{**ask, "from_ms": START_MS + 10_001, "to_ms": START_MS + 29_999})
    assert whole == []  # window 1 began before the span, and window 2 ends after it


async def test_a_gap_over_everything_is_one_gap(store: HttpStore, workload: str) -> None:
    gaps = await store.query("sli_gaps", workload=workload, from_ms=START_MS, to_ms=START_MS + 30_000)
    assert gaps == [{"from_ms": START_MS, "to_ms": START_MS + 30_000, "windows": 3}]


async def test_workloads_are_listed_with_their_instances_and_span(store: HttpStore, workload: str) -> None:
    for instance in (None, "a", "b"):
        await store.insert(*rows_of(sli(workload, instance_id=instance)))
    found = [row for row in await store.query("workloads") if row["workload"] == workload]
    assert found == [
        {"workload": workload, "instances": 2, "first_ms": START_MS, "last_ms": START_MS + 10_000},
    ]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_name_is_a_name_and_nothing_more(store: HttpStore, workload: str, hostile: str) -> None:
    name = f"{workload}{hostile}"
    await store.insert(*rows_of(sli(workload)))
    await store.insert(*rows_of(sli(name)))
    assert {row["workload"] for row in await store.query("slis_latest", workload=name)} == {name}
    assert len(await store.query("sli_series", workload=name, sli="ttft_p95_s")) == 1
    assert await store.query("sli_series", workload=workload, sli=hostile) == []
    assert await store.query("sli_series", workload=hostile, sli="ttft_p95_s") == []


async def test_rows_with_old_event_times_stay(store: HttpStore, workload: str) -> None:
    """Rows leave by when they were written: a replay of last year must not vanish as it arrives."""
    for window in range(4):
        await store.insert(*rows_of(sli(workload, window, start_ms=window * 10_000)))
    assert len(await store.query("sli_series", workload=workload, sli="ttft_p95_s")) == 4


async def test_a_batch_with_one_bad_row_inserts_nothing(store: HttpStore, workload: str) -> None:
    table, rows = rows_of(sli(workload))
    with pytest.raises(BadMessage, match="row 4: start_ms is -1") as caught:
        await store.insert(table, [*rows, {**rows[0], "start_ms": -1}])
    assert caught.value.reason is Reason.STORE_REFUSED
    assert await store.query("slis_latest", workload=workload) == []


async def test_an_insert_of_megabytes_goes_in_whole(store: HttpStore, workload: str) -> None:
    rows = [row for window in range(1000) for row in rows_of(sli(workload, window))[1]]
    await store.insert("slis", rows)
    assert len(await store.query("sli_series", workload=workload, sli="itl_p95_s")) == 1000


async def test_an_insert_past_the_limits_is_refused_before_it_is_sent() -> None:
    """So that a body that is too long is told from a store that is away: there is nobody at this address."""
    async with HttpStore(f"http://127.0.0.1:{free_port()}") as nobody:
        row = rows_of(sli("chat"))[1][0]
        with pytest.raises(BadMessage, match="at most 100000 rows"):
            await nobody.insert("slis", [row] * 100_001)


async def test_an_empty_insert_is_nothing(store: HttpStore) -> None:
    await store.insert("slis", [])


async def test_names_that_are_not_on_the_list_are_refused(store: HttpStore) -> None:
    _, rows = rows_of(sli("chat"))
    with pytest.raises(ConfigError, match="Did you mean 'slis'"):
        await store.insert("sliss", rows)
    with pytest.raises(ConfigError, match="Did you mean 'counts'"):
        await store.query("count")
    with pytest.raises(ConfigError, match="Did you mean 'workload'"):
        await store.query("slis_latest", workloads="x")
    with pytest.raises(ConfigError, match="not a whole number"):
        await store.query("alerts_recent", limit="1; DROP TABLE slis")


async def test_the_list_of_queries_is_served_with_parameters_and_columns(child: StoreProcess) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{child.url}/queries") as response:
        listed = await response.json()
    assert {query["name"] for query in listed["queries"]} == set(QUERIES)
    (latest,) = (query for query in listed["queries"] if query["name"] == "slis_latest")
    assert {"name": "size_s", "type": "int", "default": 10}.items() <= latest["params"][1].items()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"garbage", 422, "row 0: not JSON"),
        (b'{"a": 1}\n[1]', 422, "row 1: not a JSON object"),
        (b'{"value": NaN}', 422, "NaN is no JSON number"),
        (b"[" * 200_000, 422, "row 0: not JSON"),
        (b'{"workload": "\xff"}', 422, "row 0: not JSON"),
        (b'{"workload": "x"}', 422, "missing or unknown keys"),
        (b" " * (33 * 1024 * 1024), 413, ""),
        (b"{}\n" * 100_001, 422, "at most 100000"),
    ],
    ids=["garbage", "list", "nan", "deep", "not-utf8", "short", "too-large", "too-many"],
)
async def test_a_body_that_is_no_rows_is_refused_with_its_reason(
    child: StoreProcess, body: bytes, status: int, told: str
) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{child.url}/insert/slis", data=io.BytesIO(body), headers=headers) as response:
            assert response.status == status
            assert told in await response.text()
        async with session.get(f"{child.url}/health") as response:
            assert response.status == 200


async def test_a_web_page_cannot_reach_the_store(child: StoreProcess) -> None:
    """Neither by a form (its content types are refused) nor by a name that resolves to loopback."""
    async with aiohttp.ClientSession() as session:
        body = json.dumps(dict(rows_of(sli("chat"))[1][0]))
        plain = {"Content-Type": "text/plain"}
        async with session.post(f"{child.url}/insert/slis", data=body, headers=plain) as response:
            assert response.status == 415
        async with session.get(f"{child.url}/query/counts", headers={"Host": "evil.example"}) as response:
            assert response.status == 403


async def test_a_store_that_is_not_there_is_unavailable_with_a_fix() -> None:
    async with HttpStore(f"http://127.0.0.1:{free_port()}") as nobody:
        with pytest.raises(Unavailable, match="Is the store child running"):
            await nobody.query("counts")
        with pytest.raises(Unavailable, match="no connection"):
            await nobody.insert(*rows_of(sli("chat")))


def test_a_second_opener_is_told_who_has_the_store(child: StoreProcess) -> None:
    second = StoreProcess(child.folder)
    second.ready = child.folder / "second.json"
    process = second.spawn()
    _, told = process.communicate(timeout=60)
    assert child.process is not None
    assert process.returncode == 4
    assert "Conflict" in told
    assert f"the store is open in process {child.process.pid}" in told
    assert not second.ready.exists()


def test_a_port_that_is_taken_is_a_conflict(child: StoreProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    second = StoreProcess(tmp_path_factory.mktemp("elsewhere"), child.port)
    process = second.spawn()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 4
    assert f"port {child.port} is taken" in told
