"""The watchdog's decisions, one row a situation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from optiinfra.watchdog import Health, Limits, Memory, Offsets, Reading, Standing, judge, lag_of

LIMITS = Limits(no_progress_s=20, beat_every_s=5, beats_missed=2, grace_s=30, look_gap_s=15)
PLACE = ("optiinfra.metrics.v1", 0)
OTHER = ("optiinfra.metrics.v1", 1)
TICKS = ("optiinfra.ticks.v1", 0)
START = 1_000.0
NOW = START + 125
"""25 s after the last progress, 125 s after the start, 5 s after the last look."""

OLD = Memory(pid=7, since_s=START, looked_s=NOW - 5, places={PLACE: Standing(10, START + 100, START + 100)})
GOOD = Reading(pid=7, started_s=START, offsets={PLACE: (12, 40)}, beat_s=NOW - 1, heard_s=NOW)


@pytest.mark.parametrize(
    ("change", "health"),
    [
        ({}, Health.OK),
        ({"offsets": {PLACE: (10, 40)}}, Health.NO_PROGRESS),
        ({"offsets": {PLACE: (10, 10)}}, Health.OK),
        ({"offsets": {PLACE: (10, 40), OTHER: (1, 9)}}, Health.NO_PROGRESS),  # what moves elsewhere helps nobody here
        ({"offsets": {PLACE: (0, 40)}}, Health.OK),  # an offset reset moves too: give it its time
        ({"offsets": None}, Health.OK),
        ({"beat_s": NOW - 14}, Health.OK),
        ({"beat_s": NOW - 16}, Health.SILENT),
        ({"beat_s": None}, Health.SILENT),
        ({"beat_s": NOW - 16, "heard_s": NOW - 15}, Health.OK),  # we heard nobody since: it is not his silence
        ({"beat_s": None, "heard_s": None}, Health.OK),
        ({"broker_answers": False, "offsets": None, "beat_s": None}, Health.UNKNOWN),
        ({"pid": 8, "started_s": NOW - 1, "beat_s": None}, Health.STARTING),
        ({"pid": 8, "started_s": NOW - 1, "beat_s": NOW, "working": True}, Health.OK),
        ({"pid": 8, "started_s": NOW - 31, "beat_s": None}, Health.SILENT),
    ],
)
def test_a_look_gives_the_verdict(change: dict[str, object], health: Health) -> None:
    _, finding = judge(OLD, replace(GOOD, **change), NOW, LIMITS)  # type: ignore[arg-type]  # fields of a Reading
    assert finding.health is health
    assert finding.health.stuck == (health in (Health.NO_PROGRESS, Health.SILENT))


STILL = replace(GOOD, offsets={PLACE: (10, 40)}, beat_s=NOW - 60)


def test_time_without_a_broker_is_not_held_against_a_worker() -> None:
    memory, _ = judge(OLD, replace(GOOD, broker_answers=False, offsets=None), NOW, LIMITS)
    _, finding = judge(memory, STILL, NOW + 14, LIMITS)
    assert not finding.health.stuck


@pytest.mark.parametrize(("gap_s", "stuck"), [(16, False), (3600, False), (14, True)])
def test_time_in_which_we_were_held_ourselves_is_not_held_against_a_worker(gap_s: float, stuck: bool) -> None:
    now_s = OLD.looked_s + gap_s
    _, finding = judge(OLD, replace(STILL, heard_s=now_s), now_s, LIMITS)
    assert finding.health.stuck == stuck


def test_the_numbers_that_decided_are_told() -> None:
    _, finding = judge(OLD, replace(GOOD, offsets={PLACE: (10, 40)}), NOW, LIMITS)
    assert finding.lag == 30
    assert finding.detail == "30 messages wait in optiinfra.metrics.v1/0 and none was handled for 25 s"


def watched(looks: Sequence[Offsets]) -> list[Health]:
    """Verdicts of looks every 10 s at a worker that beats, after its time of grace."""
    memory, found = Memory(pid=7, since_s=START - 100, looked_s=START), []
    for number, offsets in enumerate(looks):
        now_s = START + 10.0 * number
        reading = Reading(pid=7, started_s=START - 100, offsets=offsets, beat_s=now_s, heard_s=now_s)
        memory, finding = judge(memory, reading, now_s, LIMITS)
        found.append(finding.health)
    return found


def test_ticks_that_are_held_back_wait_as_long_as_their_data_moves() -> None:
    moving = [{PLACE: (n, 9), TICKS: (0, 50)} for n in range(7)]
    assert set(watched(moving)) == {Health.OK}
    drained = [*moving, {PLACE: (9, 9), TICKS: (0, 60)}, {PLACE: (9, 9), TICKS: (60, 61)}]
    assert set(watched(drained)) == {Health.OK}


def test_ticks_that_wait_for_nothing_are_stuck() -> None:
    assert watched([{PLACE: (9, 9), TICKS: (0, n + 1)} for n in range(4)])[-1] is Health.NO_PROGRESS
    elsewhere = [{PLACE: (9, 9), OTHER: (n, 50), TICKS: (0, n + 1)} for n in range(4)]
    assert watched(elsewhere)[-1] is Health.NO_PROGRESS


def test_work_that_comes_after_a_long_rest_has_its_time() -> None:
    rest = [{PLACE: (9, 9)} for _ in range(6)]
    assert watched([*rest, {PLACE: (9, 12)}, {PLACE: (9, 13)}, {PLACE: (9, 14)}])[-3:] == [
        Health.OK,
        Health.NO_PROGRESS,
        Health.NO_PROGRESS,
    ]


def test_lag_is_what_lies_behind_where_the_group_goes_on() -> None:
    assert lag_of({PLACE: (2, 5), ("t", 1): (3, 3)}) == 3
