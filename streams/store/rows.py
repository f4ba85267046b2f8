"""Messages to rows of the store, rows to bytes on the wire and back, and to the columns that are inserted, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

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
    Message,
    Outcome,
    Review,
    Sli,
)
from contracts.ports import Row, Scalar
from streams.store.queries import did_you_mean
from streams.store.schema import TABLES

COVERAGE = "coverage_ratio"
"""The row that every SLI message has, even one without a single value."""

RAW_LIMIT = 4096
"""Characters of a dead letter's base64 that the store keeps: a multiple of four, so that they still decode."""


MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_ROWS = 100_000
"""What one insert may bring: ten times what the largest SLI message makes, small beside the engine's own memory."""

NDJSON = "application/x-ndjson"


def rows_of(message: Message) -> tuple[str, list[Row]]:
    """The table that a message belongs to and its rows: at least one, the same for the same message.

    Raises ConfigError for a message that no table holds.
    """
    if isinstance(message, Sli):
        return "slis", _sli_rows(message)
    if isinstance(message, Alert):
        return "alerts", [_alert_row(message)]
    if isinstance(message, DeadLetter):
        return "deadletters", [_dead_letter_row(message)]
    case = _case_of(message)
    if case is None:
        raise ConfigError(f"{message.TYPE} has no table in the store", fix="The sink reads what `rows_of` knows.")
    return "records", [_record_row(message, *case)]


def _case_of(message: Message) -> tuple[str, str] | None:
    """By which ids a message is found: that of its case, and that of the action or set it belongs to."""
    match message:
        case CandidateSet():
            return message.id, ""
        case Review():
            return message.candidates.id, ""
        case Decision():
            return message.decision_id, message.action_id
        case Approval():
            return message.decision_id, ""
        case Action():
            return message.decision_id, message.id
        case Outcome():
            return message.action.decision_id, message.action.id
        case AuditEntry():
            return message.subject, message.subject
        case Control() | FleetEvent() | Finding():
            return message.workload, ""
        case _:
            return None


def _record_row(message: Message, case_id: str, ref_id: str) -> Row:
    return {
        "type": message.TYPE,
        "workload": message.key,
        "at_ms": message.at,
        "id": message.id,
        "case_id": case_id,
        "ref_id": ref_id,
        "body": message.model_dump_json(exclude_defaults=True),
    }


def _sli_rows(sli: Sli) -> list[Row]:
    shared: dict[str, Scalar] = {
        "workload": sli.workload,
        "instance": sli.instance_id or "",
        "size_s": sli.size_s,
        "start_ms": sli.start_ms,
        "revision": sli.revision,
        "end_ms": sli.end_ms,
        "coverage_ratio": sli.coverage_ratio,
        "freshness_s": sli.freshness_s,
        "instances": sli.instances,
        "instances_up": sli.instances_up,
        "stalled": sli.stalled,
        "id": sli.id,
    }

    def row(name: str, value: float | None, samples: int, good: int | None = None, total: int | None = None) -> Row:
        return {**shared, "name": name, "value": value, "samples": samples, "good": good, "total": total}

    counts = {f"{family}_attainment_ratio": attained for family, attained in sli.attainment.items()}
    rows = [row(COVERAGE, sli.coverage_ratio, 0)]
    for name, found in sli.values.items():
        if name == COVERAGE:
            continue
        attained = counts.pop(name, None)
        good, total = (attained.good, attained.total) if attained else (None, None)
        rows.append(row(name, found.value, found.samples, good, total))
    rows.extend(row(name, left.ratio, left.total, left.good, left.total) for name, left in counts.items())
    return rows


def _alert_row(alert: Alert) -> Row:
    return {
        "workload": alert.workload,
        "name": alert.name,
        "subject": alert.subject,
        "at_ms": alert.at_ms,
        "severity": alert.severity.value,
        "summary": alert.summary,
        "fix": alert.fix,
        "id": alert.id,
    }


def _dead_letter_row(letter: DeadLetter) -> Row:
    return {
        "source": letter.source,
        "id": letter.id,
        "at_ms": letter.at_ms,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason.value,
        "detail": letter.detail,
        "message_key": letter.message_key,
        "raw_base64": letter.raw_base64[:RAW_LIMIT],
        "raw_bytes": letter.raw_bytes,
    }


def columns_of(table: str, rows: Sequence[Row]) -> list[list[Any]]:
    """Turn rows into one list a column, in the order of the table; every row has every key and no other.

    Raises ConfigError for a table that is not on the list, BadMessage(STORE_REFUSED) naming the first row that does
    not fit: nothing of such a batch may be inserted.
    """
    found = TABLES.get(table)
    if found is None:
        raise ConfigError(f"unknown table {table!r}", fix=did_you_mean(table, TABLES))
    keys = {column.key for column in found.columns}
    for index, row in enumerate(rows):
        if row.keys() != keys:
            wrong = sorted(keys.symmetric_difference(row.keys()))
            raise BadMessage(Reason.STORE_REFUSED, f"row {index}: missing or unknown keys {', '.join(wrong)}"[:500])
    columns: list[list[Any]] = []
    for column in found.columns:
        values = [row[column.key] for row in rows]
        for index, value in enumerate(values):
            if not column.fits(value) or (type(value) is str and not _is_utf8(value)):
                told = f"row {index}: {column.key} is {value!r:.100}, wanted {column.wants}"
                raise BadMessage(Reason.STORE_REFUSED, told)
        columns.append(values)
    return columns


def _is_utf8(value: str) -> bool:
    """JSON can spell half a surrogate pair, which is text to Python and bytes to nobody."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def to_ndjson(rows: Sequence[Row]) -> bytes:
    """Rows as the store child takes them, one JSON object a line. Raises BadMessage(STORE_REFUSED) past its limits:
    a server that hangs up on a long body looks like one that is away."""
    body = "\n".join(json.dumps(dict(row), separators=(",", ":")) for row in rows).encode()
    if len(body) > MAX_BODY_BYTES or len(rows) > MAX_ROWS:
        told = f"{len(rows)} rows of {len(body)} B in one insert; at most {MAX_ROWS} rows of {MAX_BODY_BYTES} B"
        raise BadMessage(Reason.STORE_REFUSED, told)
    return body


def read_ndjson(body: bytes) -> list[Row]:
    """The rows of a body. Raises BadMessage(STORE_REFUSED) naming the line that is no row."""
    rows: list[Row] = []
    for number, line in enumerate(body.splitlines()):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise BadMessage(Reason.STORE_REFUSED, f"row {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise BadMessage(Reason.STORE_REFUSED, f"row {number}: not a JSON object")
        rows.append(row)
    if len(rows) > MAX_ROWS:
        raise BadMessage(Reason.STORE_REFUSED, f"{len(rows)} rows in one insert, at most {MAX_ROWS}")
    return rows


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
