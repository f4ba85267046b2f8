"""Messages become rows, rows are checked, questions are resolved: all without an engine."""

from __future__ import annotations

import re

import pytest

from contracts.errors import BadMessage, ConfigError, Reason
from contracts.events import (
    Action,
    Alert,
    Approval,
    AuditEntry,
    CandidateSet,
    Control,
    DeadLetter,
    Decision,
    Finding,
    FleetEvent,
    Heartbeat,
    Message,
    Outcome,
    Review,
    Severity,
    SliValue,
    WorkerState,
)
from contracts.laws.attainment import Attainment
from contracts.ports import Row
from streams.store.queries import QUERIES, Query, resolve
from streams.store.rows import RAW_LIMIT, columns_of, rows_of
from streams.store.schema import TABLES, Table
from streams.store.target import parse_dsn
from tests.contracts.messages import FULL
from tests.streams.store.children import START_MS, sli


def test_an_sli_message_becomes_one_row_a_value_and_one_for_its_coverage() -> None:
    table, rows = rows_of(sli("chat", instance_id="chat-0"))
    assert table == "slis"
    assert [row["name"] for row in rows] == [
        "coverage_ratio",
        "ttft_p95_s",
        "itl_p95_s",
        "ttft_attainment_ratio",
    ]
    ttft = rows[1]
    assert ttft["workload"] == "chat"
    assert ttft["instance"] == "chat-0"
    assert (ttft["start_ms"], ttft["end_ms"]) == (START_MS, START_MS + 10_000)
    assert (ttft["value"], ttft["samples"]) == (0.25, 40)


def test_a_missing_value_is_none_and_not_zero() -> None:
    _, rows = rows_of(sli("chat"))
    assert rows[2]["value"] is None


def test_attainment_keeps_its_counts_so_that_windows_can_be_added() -> None:
    _, rows = rows_of(sli("chat"))
    assert (rows[3]["good"], rows[3]["total"]) == (36, 40)


def test_attainment_without_a_value_gets_a_row_of_its_own() -> None:
    _, rows = rows_of(sli("chat", values={}, attainment={"e2e": Attainment(good=1, total=4)}))
    assert rows[1]["name"] == "e2e_attainment_ratio"
    assert (rows[1]["value"], rows[1]["good"], rows[1]["total"]) == (0.25, 1, 4)


def test_a_window_without_any_value_is_still_a_row() -> None:
    _, rows = rows_of(sli("chat", values={}, attainment={}, coverage_ratio=0.0))
    assert [(row["name"], row["value"]) for row in rows] == [("coverage_ratio", 0.0)]


def test_the_workload_as_a_whole_is_the_empty_instance() -> None:
    assert {row["instance"] for row in rows_of(sli("chat"))[1]} == {""}


def test_a_repeat_of_a_message_gives_equal_rows() -> None:
    assert rows_of(sli("chat")) == rows_of(sli("chat"))


def test_a_dead_letter_keeps_the_head_of_its_bytes_and_they_still_decode() -> None:
    letter = DeadLetter(
        source="slis", topic="t", reason=Reason.NOT_JSON, detail="d", at_ms=1, raw_base64="QUJD" * 5000, raw_bytes=15000
    )
    table, (row,) = rows_of(letter)
    assert table == "deadletters"
    assert row["raw_base64"] == "QUJD" * (RAW_LIMIT // 4)
    assert row["raw_bytes"] == 15000


def test_what_has_no_table_is_refused() -> None:
    beat = Heartbeat(worker="w", kind="k", pid=1, state=WorkerState.WORKING, started_wall_ms=0, at_wall_ms=0)
    with pytest.raises(ConfigError, match="no table"):
        rows_of(beat)


CASE = {type(message): message for message in FULL}


@pytest.mark.parametrize(
    "kind", [CandidateSet, Review, Decision, Approval, Action, Outcome, AuditEntry, Control, FleetEvent, Finding]
)
def test_what_is_decided_and_done_is_kept_whole(kind: type[Message]) -> None:
    message = CASE[kind]
    table, [row] = rows_of(message)
    assert table == "records"
    assert kind.model_validate_json(str(row["body"])) == message
    assert row["case_id"]


def test_a_decision_its_action_and_its_outcome_are_one_case() -> None:
    def ids(kind: type[Message]) -> tuple[object, object]:
        _, [row] = rows_of(CASE[kind])
        return row["case_id"], row["ref_id"]

    assert ids(Decision) == ids(Action) == ids(Outcome)
    assert ids(AuditEntry)[1] == ids(Action)[1]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_message_has_exactly_the_columns_of_its_table(table: Table) -> None:
    messages = {
        "slis": sli("chat"),
        "alerts": Alert(name="stalled", severity=Severity.WARNING, subject="chat-0", at_ms=START_MS, summary="s"),
        "deadletters": DeadLetter(source="slis", topic="t", reason=Reason.SCHEMA, detail="d", at_ms=START_MS),
        "records": CASE[Outcome],
    }
    name, rows = rows_of(messages[table.name])
    columns = columns_of(name, rows)
    assert len(columns) == len(table.columns)
    assert {len(column) for column in columns} == {len(rows)}
    assert set(table.order_by) <= {column.name for column in table.columns}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("workload", 7, "workload is 7, wanted text"),
        ("workload", "\ud800", "wanted text"),
        ("start_ms", -1, "start_ms is -1, wanted event ms"),
        ("start_ms", 1.5, "wanted event ms"),
        ("start_ms", 10**15, "wanted event ms"),
        ("size_s", 2**32, "wanted a whole number in 0..4294967295"),
        ("revision", True, "wanted a whole number"),
        ("value", float("nan"), "wanted a finite number or null"),
        ("value", "0.5", "wanted a finite number or null"),
        ("coverage_ratio", None, "wanted a finite number"),
        ("stalled", 1, "wanted true or false"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_place(key: str, value: object, told: str) -> None:
    rows: list[Row] = [*rows_of(sli("chat"))[1]]
    rows[2] = {**rows[2], key: value}  # type: ignore[dict-item]  # a value of the wrong type is the point
    with pytest.raises(BadMessage, match="row 2: ") as caught:
        columns_of("slis", rows)
    assert caught.value.reason is Reason.STORE_REFUSED
    assert told in caught.value.detail


@pytest.mark.parametrize("change", [{"colour": "red"}, None])
def test_a_row_with_too_many_or_too_few_keys_is_refused(change: dict[str, str] | None) -> None:
    (row, *_) = rows_of(sli("chat"))[1]
    bad = {**row, **change} if change else {key: value for key, value in row.items() if key != "name"}
    with pytest.raises(BadMessage, match=r"row 0: missing or unknown keys (colour|name)"):
        columns_of("slis", [bad])


def test_a_misspelt_table_is_told_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"unknown table 'sli'\. Did you mean 'slis'\?"):
        columns_of("sli", [])


@pytest.mark.parametrize("query", QUERIES.values(), ids=lambda query: query.name)
def test_a_query_binds_exactly_the_parameters_it_declares(query: Query) -> None:
    bound = set(re.findall(r"{(\w+):\w+}", query.sql))
    assert bound == {param.name for param in query.params}


def test_defaults_are_filled_in_and_text_is_read_as_a_url_carries_it() -> None:
    _, params = resolve("sli_series", {"workload": "chat", "sli": "ttft_p95_s", "size_s": "60", "limit": None})
    assert params["size_s"] == 60
    assert (params["instance"], params["from_ms"], params["limit"]) == ("", 0, 1000)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("sli_latest", {}, "unknown query 'sli_latest'. Did you mean 'slis_latest'?"),
        ("nonsense", {}, "Known: alerts_recent, arrival_rates"),
        ("sli_series", {"workload": "chat"}, "sli_series: parameter 'sli' is required"),
        ("slis_latest", {"work_load": "x"}, "Did you mean 'workload'?"),
        ("alerts_recent", {"limit": 0}, "0 is not a whole number in 1..100000"),
        ("alerts_recent", {"limit": "ten"}, "'ten' is not a whole number"),
        ("alerts_recent", {"limit": True}, "True is not a whole number"),
        ("alerts_recent", {"workload": 3}, "3 is not text"),
        ("slis_latest", {"since_ms": 10**30}, "is not a whole number in 0.."),
    ],
)
def test_a_question_that_cannot_be_asked_says_what_to_change(name: str, given: dict[str, str | int], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, given)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "where", "user"),
    [
        ("http://db.example", "http://db.example:8123", "default"),
        ("https://me:s%40crt@db.example", "https://db.example:8443", "me"),
        ("clickhouse://me:pw@10.0.0.7:8124/optiinfra", "http://10.0.0.7:8124", "me"),
    ],
)
def test_a_dsn_names_a_server(dsn: str, where: str, user: str) -> None:
    server = parse_dsn(dsn)
    assert (server.where, server.username) == (where, user)


def test_a_password_is_read_and_never_shown() -> None:
    server = parse_dsn("https://me:s%40crt@db.example")
    assert server.password == "s@crt"
    assert "s@crt" not in f"{server} {server!r} {server.where}"


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("db.example:8123", "no http(s) scheme or no host"),
        ("mysql://db.example", "no http(s) scheme"),
        ("http://db.example:port", "not a ClickHouse DSN"),
        ("http://db.example/metrics", "the database is always 'optiinfra'"),
        ("http://db.example:9000", "Use 8123."),
        ("https://db.example:9440", "Use 8443."),
    ],
)
def test_a_dsn_that_names_no_server_says_how_to_write_it(dsn: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_dsn(dsn)
    assert told in str(caught.value)


def test_a_value_named_coverage_does_not_double_the_coverage_row() -> None:
    _, rows = rows_of(sli("chat", values={"coverage_ratio": SliValue(value=0.1)}, attainment={}))
    assert [(row["name"], row["value"]) for row in rows] == [("coverage_ratio", 1.0)]
