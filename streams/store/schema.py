"""The tables of the analytical store: their columns, how long rows stay, and the statements that make them.

One row of `slis` is one value of one SLI of one subject in one window; the subject is an instance, or the workload as a
whole where `instance` is empty. Tables are ReplacingMergeTree over what names a row, so that a repeated insert vanishes
(at merge time; queries read with FINAL and see it gone at once). Rows leave by the time they were *written*, never by
event time: replayed history and a twin at twenty times speed keep their rows as long as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

DATABASE = "optiinfra"

LAST_MS = 10_413_791_999_999
"""The last millisecond that DateTime64 can hold, 2299-12-31: event times lie in 0..LAST_MS."""


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _is_number_or_missing(value: Any) -> bool:
    return value is None or _is_number(value)


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _whole_or_missing(low: int, high: int) -> Callable[[Any], bool]:
    inside = _whole(low, high)
    return lambda value: value is None or inside(value)


@dataclass(frozen=True)
class Column:
    """One column. `key` is its name in a row on the wire, where event times are int ms (`start_ms`); in ClickHouse
    they are DateTime64 under `name` (`start_at`), which dashboards plot over.
    `wants` says in words what `fits` takes."""

    name: str
    type: str
    fits: Callable[[Any], bool]
    wants: str
    key: str


def _text(name: str, kind: str = "String") -> Column:
    return Column(name, kind, _is_text, "text", name)


def _time(name: str, key: str) -> Column:
    return Column(name, "DateTime64(3, 'UTC')", _whole(0, LAST_MS), f"event ms in 0..{LAST_MS}", key)


def _uint(name: str, bits: int) -> Column:
    high = 2**bits - 1
    return Column(name, f"UInt{bits}", _whole(0, high), f"a whole number in 0..{high}", name)


def _number(name: str) -> Column:
    return Column(name, "Float64", _is_number, "a finite number", name)


@dataclass(frozen=True)
class Table:
    """One table. `order_by` is what names a row; `partition_by` groups parts by event month; `ttl` counts from the
    time of writing."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    order_by: tuple[str, ...]
    partition_by: str
    ttl: str

    @property
    def full_name(self) -> str:
        """The name with its database, as statements use it."""
        return f"{DATABASE}.{self.name}"

    @property
    def ddl(self) -> str:
        """CREATE TABLE IF NOT EXISTS. Every insert is synced to disk before it is acknowledged: the consumer offsets
        are committed on that word (about 4 ms a batch)."""
        columns = ",\n  ".join(f"{column.name} {column.type}" for column in self.columns)
        return (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} (\n  {columns},\n"
            "  inserted_at DateTime('UTC') DEFAULT now()\n"
            ") ENGINE = ReplacingMergeTree(inserted_at)\n"
            f"PARTITION BY {self.partition_by}\nORDER BY ({', '.join(self.order_by)})\nTTL {self.ttl}\n"
            "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        )


SLIS = Table(
    "slis",
    "Values of SLIs, one a row; `coverage_ratio` is a row of its own, so that a window without values is still told.",
    (
        _text("workload", "LowCardinality(String)"),
        _text("instance"),
        _uint("size_s", 32),
        _text("name", "LowCardinality(String)"),
        _time("start_at", "start_ms"),
        _uint("revision", 32),
        _time("end_at", "end_ms"),
        Column("value", "Nullable(Float64)", _is_number_or_missing, "a finite number or null", "value"),
        _uint("samples", 64),
        Column("good", "Nullable(UInt64)", _whole_or_missing(0, 2**64 - 1), "a whole number or null", "good"),
        Column("total", "Nullable(UInt64)", _whole_or_missing(0, 2**64 - 1), "a whole number or null", "total"),
        _number("coverage_ratio"),
        _number("freshness_s"),
        _uint("instances", 32),
        _uint("instances_up", 32),
        Column("stalled", "Bool", _is_flag, "true or false", "stalled"),
        _text("id"),
    ),
    order_by=("workload", "instance", "size_s", "name", "start_at", "revision"),
    partition_by="toYYYYMM(start_at)",
    ttl=(
        "inserted_at + INTERVAL 30 DAY DELETE WHERE size_s <= 10, "
        "inserted_at + INTERVAL 90 DAY DELETE WHERE size_s > 10 AND size_s < 300, "
        "inserted_at + INTERVAL 400 DAY DELETE WHERE size_s >= 300"
    ),
)

ALERTS = Table(
    "alerts",
    "What people should know.",
    (
        _text("workload", "LowCardinality(String)"),
        _text("name", "LowCardinality(String)"),
        _text("subject"),
        _time("at", "at_ms"),
        _text("severity", "LowCardinality(String)"),
        _text("summary"),
        _text("fix"),
        _text("id"),
    ),
    order_by=("workload", "name", "subject", "at"),
    partition_by="toYYYYMM(at)",
    ttl="inserted_at + INTERVAL 400 DAY",
)

DEADLETTERS = Table(
    "deadletters",
    "What could not be handled, with the head of its bytes; the topic keeps more of them.",
    (
        _text("source", "LowCardinality(String)"),
        _text("id"),
        _time("at", "at_ms"),
        _text("topic"),
        Column("partition", "Int32", _whole(-1, 2**31 - 1), "a partition, or -1", "partition"),
        Column("offset", "Int64", _whole(-1, 2**63 - 1), "an offset, or -1", "offset"),
        _text("reason", "LowCardinality(String)"),
        _text("detail"),
        _text("message_key"),
        _text("raw_base64"),
        _uint("raw_bytes", 64),
    ),
    order_by=("source", "id"),
    partition_by="toYYYYMM(at)",
    ttl="inserted_at + INTERVAL 90 DAY",
)

RECORDS = Table(
    "records",
    "What was proposed, judged, decided, done and audited: each message whole, as JSON, found by its case: `case_id` "
    "is the decision's id, a set's for candidates and reviews, the subject's for audit lines; `ref_id` the action's.",
    (
        _text("type", "LowCardinality(String)"),
        _text("workload", "LowCardinality(String)"),
        _time("at", "at_ms"),
        _text("id"),
        _text("case_id"),
        _text("ref_id"),
        _text("body"),
    ),
    order_by=("workload", "type", "at", "id"),
    partition_by="toYYYYMM(at)",
    ttl=(
        "inserted_at + INTERVAL 400 DAY DELETE WHERE type != 'optiinfra.audit.v1', "
        "inserted_at + INTERVAL 7 YEAR DELETE WHERE type = 'optiinfra.audit.v1'"
    ),
)

_FIRST = (SLIS, ALERTS, DEADLETTERS)

TABLES: dict[str, Table] = {table.name: table for table in (*_FIRST, RECORDS)}

VERSIONS_TABLE = f"{DATABASE}.schema_versions"

BOOTSTRAP: tuple[str, ...] = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
    f"CREATE TABLE IF NOT EXISTS {VERSIONS_TABLE} (version UInt32, applied_at DateTime('UTC') DEFAULT now()) "
    "ENGINE = ReplacingMergeTree ORDER BY version",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (tuple(table.ddl for table in _FIRST), (RECORDS.ddl,))
"""Step n takes a store from version n to n + 1. Steps only ever join at the end, and each can be run twice: a child
killed in the middle of one runs it again."""

SCHEMA_VERSION = len(MIGRATIONS)
