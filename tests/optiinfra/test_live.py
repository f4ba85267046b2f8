"""The live picture is a fold that repeats do not change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import encode
from contracts.errors import Reason
from contracts.events import (
    Alert,
    DeadLetter,
    Heartbeat,
    Message,
    MetricsSnapshot,
    Severity,
    Sli,
    SliValue,
    WorkerState,
)
from contracts.laws.attainment import Attainment
from optiinfra.collector import Collector
from optiinfra.live import LATENCY_EDGES_S, LiveState
from optiinfra.report import workload_reports
from tests.contracts.messages import FULL

NOW = 1_700_000_100_000
START = 1_700_000_000_000

GOOD = Sli(
    workload="chat",
    size_s=10,
    start_ms=START,
    coverage_ratio=1.0,
    freshness_s=1.0,
    cause_ms=START + 11_000,
    instances=2,
    instances_up=2,
    values={"ttft_p95_s": SliValue(value=0.4, samples=9)},
    attainment={"ttft": Attainment(good=9, total=10)},
)


def with_(**changes: object) -> Sli:
    return GOOD.model_copy(update=changes)


def folded(messages: list[Message], speed: float = 1.0) -> LiveState:
    live = LiveState(speed=speed)
    for message in messages:
        live.apply(message, NOW)
    return live


def picture(live: LiveState) -> tuple[object, ...]:
    return (
        live.counts,
        workload_reports(live),
        live.latency,
        {n: (w.window, w.latest, w.replicas, w.attained) for n, w in live.workloads.items()},
        sorted(alert.id for alert in live.alerts),
        live.beats,
    )


LOG: list[Message] = [
    GOOD,
    with_(start_ms=START + 10_000, cause_ms=START + 21_000, values={"ttft_p95_s": SliValue(value=0.7)}),
    with_(revision=1, attainment={"ttft": Attainment(good=10, total=11)}),
    with_(size_s=0, start_ms=START + 20_000, values={"requests_waiting": SliValue(value=3.0)}),
    with_(instance_id="chat-0"),
    with_(size_s=60),
    Alert(name="stalled", workload="chat", severity=Severity.WARNING, subject="chat-0", at_ms=START, summary="stuck"),
    DeadLetter(
        source="windows",
        topic="optiinfra.metrics.v1",
        offset=4,
        partition=0,
        reason=Reason.SCHEMA,
        detail="x",
        at_ms=START,
    ),
    Heartbeat(worker="slis", kind="stage", pid=3, state=WorkerState.WORKING, started_wall_ms=1, at_wall_ms=2),
]


@given(st.lists(st.sampled_from(LOG), max_size=20), st.randoms())
def test_repeats_change_nothing_wherever_they_come(more: list[Message], random: st.DataObject) -> None:
    messages = list(LOG)
    for message in more:
        at = messages.index(message)
        messages.insert(random.randint(at + 1, len(messages)), message)  # type: ignore[attr-defined]  # a random.Random
    assert picture(folded(messages)) == picture(folded(LOG))


def test_counts_are_of_ids() -> None:
    counts = folded([*LOG, *LOG]).counts
    assert (counts.slis, counts.alerts, counts.dead_letters, counts.scrapes) == (6, 1, 1, 0)


def test_a_scrape_is_counted_by_its_id_alone() -> None:
    live = LiveState(speed=1)
    for ident in ("a", "b", "a"):
        live.scrape_seen(ident)
    assert live.counts.scrapes == 2


def test_when_a_worker_was_heard_is_noted_at_receipt_whatever_its_clock_says() -> None:
    live, beat = LiveState(speed=1), LOG[-1]
    assert folded([]).heard_s is None
    for at_wall_ms, heard_s in ((9_000_000, 1.0), (5, 2.0), (6, 3.0)):  # its wall clock was set back meanwhile
        live.apply(beat.model_copy(update={"at_wall_ms": at_wall_ms}), NOW, heard_s)
    live.apply(beat.model_copy(update={"worker": "other"}), NOW, 2.5)
    assert (live.beats_heard_s, live.heard_s) == ({"slis": 3.0, "other": 2.5}, 3.0)


def test_an_older_window_never_replaces_a_newer_one() -> None:
    newer, older = LOG[1], LOG[0]
    assert folded([newer, older]).workloads["chat"].value("ttft_p95_s") == 0.7


def test_a_revision_replaces_its_window_and_adds_nothing_to_attainment() -> None:
    view = folded([GOOD, LOG[2]]).workloads["chat"]
    assert view.window == LOG[2]
    assert view.attained == {"ttft": Attainment(good=9, total=10)}


def test_a_missing_value_is_none_and_not_zero() -> None:
    view = folded([with_(values={"ttft_p95_s": SliValue(value=None)})]).workloads["chat"]
    assert view.value("ttft_p95_s") is None


def test_latency_is_wall_time_of_first_revisions_of_windows() -> None:
    live = LiveState(speed=20)
    live.apply(GOOD, GOOD.cause_ms + 4000)
    live.apply(with_(revision=1), GOOD.cause_ms + 90_000)
    live.apply(with_(size_s=0), GOOD.cause_ms + 90_000)
    assert live.latency.count == 1
    p50 = live.latency_s()["scrape_to_sli_p50"]
    below = max(edge for edge in LATENCY_EDGES_S if edge < 0.2)
    assert p50 is not None
    assert below <= p50 <= 0.2  # 4 s of event time at speed 20


def test_latency_is_missing_before_the_first_window() -> None:
    assert set(LiveState(speed=1).latency_s().values()) == {None}


def test_of_scrapes_only_the_last_word_of_a_replica_is_read() -> None:
    live = LiveState(speed=1.0)
    collector = Collector(live, lambda: NOW)
    scrape = next(each for each in FULL if isinstance(each, MetricsSnapshot))
    for number, message in enumerate(
        (with_(size_s=0, instance_id=scrape.instance_id), scrape.model_copy(update={"left": False}), scrape)
    ):
        record = encode(message.model_copy(update={"seq": number} if message.TYPE == scrape.TYPE else {}), source="t")
        collector._take(record.topic, record.key, record.value, tuple(record.headers))
        assert list(live.workloads["chat"].replicas) == ([] if number == 2 else [scrape.instance_id])
    assert (live.counts.scrapes, collector.unreadable) == (2, 0)
