"""The watchdog's decisions, one row a situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optiinfra.watchdog import Health, Limits, Memory, Reading, judge, lag_of

LIMITS = Limits(no_progress_s=20, beat_every_s=5, beats_missed=2, grace_s=30)
PLACE = ("optiinfra.metrics.v1", 0)
START = 1_000_000
OLD = Memory(pid=7, since_wall_ms=START, committed=((PLACE, 10),), moved_wall_ms=START + 100_000)
NOW = START + 125_000
"""25 s after the last progress, 125 s after the start."""

GOOD = Reading(pid=7, started_wall_ms=START, offsets={PLACE: (12, 40)}, beat_wall_ms=NOW - 1000)


@pytest.mark.parametrize(
    ("change", "health"),
    [
        ({}, Health.OK),
        ({"offsets": {PLACE: (10, 40)}}, Health.NO_PROGRESS),
        ({"offsets": {PLACE: (10, 10)}}, Health.OK),
        ({"offsets": {PLACE: (10, 40), ("optiinfra.ticks.v1", 0): (1, 9)}}, Health.OK),
        ({"offsets": {PLACE: (None, 40)}}, Health.OK),  # an offset reset moves too: give it its time
        ({"offsets": None}, Health.OK),
        ({"beat_wall_ms": NOW - 14_000}, Health.OK),
        ({"beat_wall_ms": NOW - 16_000}, Health.SILENT),
        ({"beat_wall_ms": None}, Health.SILENT),
        ({"broker_answers": False, "offsets": None, "beat_wall_ms": None}, Health.UNKNOWN),
        ({"pid": 8, "started_wall_ms": NOW - 1000, "beat_wall_ms": None}, Health.STARTING),
        ({"pid": 8, "started_wall_ms": NOW - 1000, "beat_wall_ms": NOW, "working": True}, Health.OK),
        ({"pid": 8, "started_wall_ms": NOW - 31_000, "beat_wall_ms": None}, Health.SILENT),
    ],
)
def test_a_look_gives_the_verdict(change: dict[str, object], health: Health) -> None:
    _, finding = judge(OLD, replace(GOOD, **change), NOW, LIMITS)  # type: ignore[arg-type]  # fields of a Reading
    assert finding.health is health
    assert finding.health.stuck == (health in (Health.NO_PROGRESS, Health.SILENT))


def test_time_without_a_broker_is_not_held_against_a_worker() -> None:
    away = replace(GOOD, broker_answers=False, offsets=None)
    memory, _ = judge(OLD, away, NOW, LIMITS)
    still = replace(GOOD, offsets={PLACE: (10, 40)}, beat_wall_ms=NOW - 60_000)
    _, finding = judge(memory, still, NOW + 19_000, LIMITS)
    assert not finding.health.stuck


def test_the_numbers_that_decided_are_told() -> None:
    _, finding = judge(OLD, replace(GOOD, offsets={PLACE: (10, 40)}), NOW, LIMITS)
    assert finding.lag == 30
    assert finding.detail == "30 messages wait and none was handled for 25 s"


def test_a_partition_without_a_commit_lags_by_all_it_holds() -> None:
    assert lag_of({PLACE: (None, 5), ("t", 1): (3, 3)}) == 5
