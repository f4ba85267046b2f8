"""Messages to Kafka records and back: JSON values, CloudEvents headers in binary mode, W3C trace context.

Headers are `ce_specversion`, `ce_id`, `ce_type`, `ce_source`, `ce_time` (RFC 3339, event time) and `traceparent`.
A record that cannot be read raises `BadMessage` with a stable reason; whoever reads it dead-letters it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts.errors import BadMessage, Reason
from contracts.events import DeadLetter, Message
from contracts.laws.ids import trace_id_of, traceparent
from contracts.topics import BY_MESSAGE, BY_NAME

MAX_VALUE_BYTES = 1_000_000
"""Below Kafka's default `max.message.bytes` (1,048,588), with room for headers."""


# A dead letter must fit a message itself, whatever stood in key and headers of what it reports.
_SHORT, _MANY = 1000, 50


@dataclass(frozen=True)
class Record:
    """What goes on the wire. `headers` is in the order of writing."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str | None:
        """The first header of that name, as text."""
        return next((v.decode("utf-8", "replace") for k, v in self.headers if k == name), None)


def encode(message: Message, *, source: str, trace_id: str | None = None) -> Record:
    """Encode a message for its topic. Without `trace_id` the message starts a trace of its own.

    Raises BadMessage(TOO_LARGE) where the value would not fit a Kafka message.
    """
    value = message.model_dump_json(exclude_defaults=True).encode()
    if len(value) > MAX_VALUE_BYTES:
        raise BadMessage(Reason.TOO_LARGE, f"{message.TYPE} for {message.key!r}: {len(value)} > {MAX_VALUE_BYTES} B")
    ident = message.id
    time = datetime.fromtimestamp(message.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", ident.encode()),
        ("ce_type", message.TYPE.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
        ("content-type", b"application/json"),
        ("traceparent", traceparent(trace_id or ident, ident).encode()),
    )
    return Record(BY_MESSAGE[type(message)].name, message.key.encode(), value, headers)


def decode(record: Record) -> Message:
    """Read a record of any topic on the table. Raises BadMessage with the reason."""
    topic = BY_NAME.get(record.topic)
    if topic is None:
        raise BadMessage(Reason.WRONG_TOPIC, f"{record.topic!r} is not on the topic table")
    kind = record.header("ce_type")
    if kind is None:
        raise BadMessage(Reason.MISSING_HEADER, "no ce_type header")
    if kind != topic.message.TYPE:
        stem, _, version = kind.rpartition(".")
        if stem == topic.message.TYPE.rpartition(".")[0]:
            raise BadMessage(Reason.UNKNOWN_VERSION, f"version {version!r} of {stem}; this reader knows {topic.name}")
        raise BadMessage(Reason.UNKNOWN_TYPE, f"{kind!r} on {topic.name}")
    try:
        return topic.message.model_validate_json(record.value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = Reason.NOT_JSON if first["type"] == "json_invalid" else Reason.SCHEMA
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BadMessage(reason, f"{place + ': ' if place else ''}{first['msg']}{more}") from error


def trace_of(record: Record) -> str | None:
    """The trace id that a record carries, so that what it causes stays in the same trace."""
    header = record.header("traceparent")
    return trace_id_of(header) if header else None


def headers_of(pairs: Iterable[tuple[str, bytes]] | Mapping[str, bytes] | None) -> tuple[tuple[str, bytes], ...]:
    """Header pairs from whatever shape a client hands over; a header without a value counts as empty."""
    if pairs is None:
        return ()
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple((str(k), v if isinstance(v, bytes) else b"") for k, v in items)


def dead_letter(
    record: Record, error: BadMessage, *, source: str, at_ms: int, partition: int = -1, offset: int = -1
) -> DeadLetter:
    """What goes to the `deadletter` topic for a record that nobody can read; long keys and headers are cut short."""
    return DeadLetter(
        source=source,
        topic=record.topic,
        partition=partition,
        offset=offset,
        reason=error.reason,
        detail=error.detail[:4000],
        at_ms=at_ms,
        message_key=record.key[:_SHORT].decode("utf-8", "replace"),
        headers={k[:_SHORT]: v[:_SHORT].decode("utf-8", "replace") for k, v in record.headers[:_MANY]},
        raw_base64=base64.b64encode(record.value[: DeadLetter.RAW_LIMIT]).decode(),
        raw_bytes=len(record.value),
    )
