"""Messages survive the wire; what does not is refused with a stable reason and keeps its bytes."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

import pytest

from contracts.codec import MAX_VALUE_BYTES, Record, dead_letter, decode, encode, headers_of, trace_of
from contracts.errors import BadMessage, Reason
from contracts.events import Alert, DeadLetter, Heartbeat, InstanceWindow, Message, MetricsSnapshot, Severity, Sli, Tick
from contracts.events import WorkerState as State
from contracts.topics import TOPICS, Topic
from tests.contracts.messages import FULL
from tests.streams.recording import Server, snapshot
from tests.streams.test_slis import part

GOOD: list[Message] = [
    snapshot(Server(random.Random(0)), 1_700_000_000_000, 3),
    snapshot(None, 1_700_000_000_000, 4),
    part("chat-0"),
    Sli(
        workload="chat", size_s=0, start_ms=5, coverage_ratio=1, freshness_s=0, cause_ms=5, instances=1, instances_up=1
    ),
    Tick(at_ms=1_700_000_000_000, partition=2),
    Alert(name="stalled", severity=Severity.CRITICAL, subject="chat-0", at_ms=1, summary="stuck"),
    Heartbeat(worker="w", kind="stage", pid=1, state=State.WORKING, started_wall_ms=1, at_wall_ms=2),
    DeadLetter(source="s", topic="t", reason=Reason.SCHEMA, detail="d", at_ms=1),
]
GOOD += [each for each in FULL if type(each) not in {type(message) for message in GOOD}]


@pytest.mark.parametrize("message", GOOD, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message: Message) -> None:
    record = encode(message, source="test")
    assert decode(record) == message
    assert record.header("ce_id") == message.id
    assert record.header("ce_type") == record.topic == message.TYPE
    assert trace_of(record) == message.id


def test_every_topic_is_exercised() -> None:
    assert {type(m) for m in GOOD} == {topic.message for topic in TOPICS}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_names_end_in_their_version(topic: Topic) -> None:
    assert topic.name == topic.message.TYPE
    assert topic.name.startswith("optiinfra.")
    assert topic.name.rpartition(".")[2].removeprefix("v").isdigit()


def _without(record: Record, header: str) -> Record:
    return replace(record, headers=tuple(h for h in record.headers if h[0] != header))


def _typed(record: Record, kind: bytes) -> Record:
    return replace(record, headers=(("ce_type", kind), *_without(record, "ce_type").headers))


def test_each_refusal_has_its_reason() -> None:
    good = encode(GOOD[0], source="test")
    cases = {
        Reason.WRONG_TOPIC: replace(good, topic="somebody.else"),
        Reason.MISSING_HEADER: _without(good, "ce_type"),
        Reason.UNKNOWN_VERSION: _typed(good, b"optiinfra.metrics.v2"),
        Reason.UNKNOWN_TYPE: _typed(good, b"optiinfra.slis.v1"),
        Reason.NOT_JSON: replace(good, value=b"{"),
        Reason.SCHEMA: replace(good, value=b'{"workload": "chat"}'),
    }
    for reason, record in cases.items():
        with pytest.raises(BadMessage) as caught:
            decode(record)
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    "value", [b'{"at_ms":1,"partition":0,"more":1}', b'{"at_ms":-1,"partition":0}', b"[]", b"\xff"]
)
def test_models_are_closed_and_bounded(value: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(replace(encode(GOOD[4], source="test"), value=value))


def test_nan_never_travels() -> None:
    record = encode(GOOD[0], source="test")
    poisoned = replace(record, value=record.value.replace(b'"requests_waiting":0.0', b'"requests_waiting":NaN'))
    assert poisoned.value != record.value
    with pytest.raises(BadMessage):
        decode(poisoned)


def test_a_dead_letter_keeps_reason_place_and_bytes() -> None:
    bad = replace(encode(GOOD[0], source="test"), value=b"\x00junk")
    with pytest.raises(BadMessage) as caught:
        decode(bad)
    letter = dead_letter(bad, caught.value, source="stage", at_ms=7, partition=2, offset=99)
    assert base64.b64decode(letter.raw_base64) == b"\x00junk"
    assert (letter.topic, letter.partition, letter.offset, letter.raw_bytes) == (bad.topic, 2, 99, 5)
    assert decode(encode(letter, source="test")) == letter


def test_a_dead_letter_of_a_huge_message_still_fits() -> None:
    headers = tuple((f"h{i}" * 900, b"v" * 60_000) for i in range(90))
    bad = Record("optiinfra.metrics.v1", b"k" * 700_000, b"x" * (3 * MAX_VALUE_BYTES), headers)
    letter = dead_letter(bad, BadMessage(Reason.NOT_JSON, "y" * 9000), source="stage", at_ms=7)
    assert letter.raw_bytes == 3 * MAX_VALUE_BYTES
    assert len(encode(letter, source="test").value) < MAX_VALUE_BYTES


def test_what_would_not_fit_is_refused_before_it_is_sent() -> None:
    big = InstanceWindow(**part("a").model_dump() | {"counters": {f"c{i:06}" * 5: 1.0 for i in range(40_000)}})
    with pytest.raises(BadMessage) as caught:
        encode(big, source="test")
    assert caught.value.reason is Reason.TOO_LARGE


def test_headers_of_any_client_are_taken() -> None:
    assert headers_of(None) == ()
    assert headers_of({"a": b"1"}) == headers_of([("a", b"1")]) == (("a", b"1"),)


def test_ids_derive_from_the_cause_alone() -> None:
    a, b = GOOD[0], GOOD[0]
    assert isinstance(b, MetricsSnapshot)
    assert a.id == b.model_copy(update={"duration_s": 9.0}).id
    assert a.id != b.model_copy(update={"seq": 4}).id
