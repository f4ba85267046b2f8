"""Ticks are held until the data before them has come, and no longer; and what a worker knows of its positions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.stage import fold
from contracts.topics import ALERTS, METRICS, TICKS
from streams.batching import AHEAD_MS, SHOWN, TickGate
from streams.offset_gap import OffsetGap, Positions
from tests.streams.counting_stage import Count, counting_stage, ticking

STAGE = counting_stage("pure", fold(ticking, Count))


class Log:
    """The data partitions of a gate: where each ends, as far as the broker told it, and a way to read on."""

    def __init__(self, end: int | None = 1000) -> None:
        self.ends = {METRICS.name: end, ALERTS.name: 1000}
        self.positions = Positions()
        self.positions.start(METRICS.name, 0, 10, 0)

    def highwater(self, topic: str, _: int) -> int | None:
        return self.ends[topic]


def gate(log: Log, *ticks_ms: int) -> TickGate[int]:
    held: TickGate[int] = TickGate(STAGE, log.positions, log.highwater)
    for at_ms in ticks_ms:
        held.hold(0, at_ms, at_ms)
    return held


def show(held: TickGate[int], *at_ms: int, topic: str = METRICS.name) -> None:
    """As many records as tell how far a partition has been read, of these times in turn."""
    for number in range(SHOWN):
        held.show(topic, 0, at_ms[number % len(at_ms)])


def test_ticks_wait_while_data_is_due_and_pass_when_it_has_come() -> None:
    log = Log(end=None)
    waiting = gate(log, 1000, 2000)
    assert waiting.release(0) == []  # nobody knows the end
    log.ends[METRICS.name] = 12
    assert waiting.release(0) == []
    assert waiting.holding == [0]
    log.positions.advance(METRICS.name, 0, 11)
    assert waiting.release(0) == [1000, 2000]
    assert waiting.holding == []


def test_under_a_load_that_never_lets_up_a_tick_waits_for_what_was_there_when_it_came() -> None:
    """The scrapers' clocks are all an hour behind, so no data ever reaches the tick's time, and the log grows on."""
    log, passed = Log(end=500), []
    waiting = gate(log, 3_700_000)
    for offset in range(10, 600):
        log.ends[METRICS.name] = offset + 490
        waiting.show(METRICS.name, 0, 100_000 + offset)
        log.positions.advance(METRICS.name, 0, offset)
        passed += [(offset, tick) for tick in waiting.release(0)]
    assert passed == [(499, 3_700_000)]


def test_data_of_a_later_time_lets_the_ticks_before_it_pass() -> None:
    waiting = gate(Log(), 1000, 2000, 3000)
    show(waiting, 2000)
    assert waiting.release(0) == [1000, 2000]
    assert waiting.release(1) == []


@pytest.mark.parametrize("ahead_ms", [30_000, 3_600_000])
def test_a_clock_that_is_ahead_opens_the_gate_for_nobody(ahead_ms: int) -> None:
    waiting = gate(Log(), 2_000_000)
    waiting.show(METRICS.name, 0, 2_000_000 + ahead_ms)
    assert waiting.release(0) == []
    for _ in range(5):
        show(waiting, 1_999_000, 1_999_000, 2_000_000 + ahead_ms)
        assert waiting.release(0) == []
    show(waiting, 2_000_500, 2_000_500, 2_000_000 + ahead_ms)
    assert waiting.release(0) == [2_000_000]


def test_nor_does_it_while_an_outage_is_caught_up_with() -> None:
    """All ticks of two hours have been read when the data begins to come: an hour ahead is not ahead of them."""
    waiting = gate(Log(), *range(60_000, 7_200_000, 60_000))
    show(waiting, 150_000, 150_000, 3_750_000)
    assert waiting.release(0) == [60_000, 120_000]


def test_data_that_is_all_ahead_of_the_newest_tick_does_not_count() -> None:
    waiting = gate(Log())
    show(waiting, 5_000_000)
    waiting.hold(0, 1000, 1000)
    show(waiting, 1001 + AHEAD_MS)
    assert waiting.release(0) == []
    show(waiting, 1000 + AHEAD_MS)
    assert waiting.release(0) == [1000]


def test_a_stage_with_two_data_topics_waits_for_both() -> None:
    log, stage = Log(), counting_stage("two")
    inputs = (METRICS, ALERTS, TICKS)
    two: TickGate[int] = TickGate(replace(stage, inputs=inputs), log.positions, log.highwater)
    two.hold(0, 1000, 1)
    show(two, 5000)
    assert two.release(0) == []
    show(two, 1000, topic=ALERTS.name)
    assert two.release(0) == [1]


def test_positions_know_what_was_lost_before_and_on_the_way() -> None:
    found = Positions()
    assert found.start("t", 0, 5, 9) == OffsetGap("t", 0, 5, 4)
    assert found.start("t", 1, None, 9) is None
    assert found.gap("t", 0, 9) is None
    found.advance("t", 0, 9)
    assert found.gap("t", 0, 12) == OffsetGap("t", 0, 10, 2)
    assert found.gap("t", 0, 3) is None
    found.advance("t", 0, 3)
    assert found.lag({("t", 0): 15, ("t", 1): 10}) == 6
    assert found.lag({("t", 0): None}) is None
    assert found.lag({("never", 0): 3}) is None


def test_what_was_settled_before_a_rebalance_is_not_due_again_where_the_partition_stayed() -> None:
    found = Positions()
    for partition in (0, 1):
        found.start("t", partition, 5, 0)
        found.settle("t", partition, 8)
    found.begin([("t", 0)])
    assert [found.start("t", partition, 5, 0) for partition in (0, 1)] == [None, None]
    assert found.gap("t", 0, 9) is None
    assert found.gap("t", 1, 9) == OffsetGap("t", 1, 5, 4)
    assert found.start("t", 0, 5, 20) == OffsetGap("t", 0, 9, 11)


def test_of_a_gap_only_what_lies_before_the_first_offset_held_is_lost() -> None:
    gap = OffsetGap("t", 0, expected=5, lost=4)
    held = {earliest: list(gap.still_held(earliest)) for earliest in (0, 5, 7, 9, 12)}
    assert held == {0: [5, 6, 7, 8], 5: [5, 6, 7, 8], 7: [7, 8], 9: [], 12: []}
    assert Positions().start("t", 0, 5, 7) == OffsetGap("t", 0, 5, 2)  # told when the worker has started again


def test_the_alert_of_a_gap_says_how_many_where_and_what_to_do() -> None:
    alert = OffsetGap("optiinfra.metrics.v1", 2, 100, 40).alert("slis", 7)
    assert (alert.name, alert.subject, alert.at_ms) == ("offset_gap", "slis:optiinfra.metrics.v1:2", 7)
    assert "lost 40 messages" in alert.summary
    assert "100 to 139" in alert.summary
    assert alert.fix
