"""When a condition holds: values, age, hysteresis, missing data and the hold, as tables of what is told and seen."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import CandidateSet, Fact
from rules.core.fold import RuleSettings
from tests.rules.builders import START_MS, WAITING, Workload, pack, rule, sli, tick

ALIVE = {"sli": "up_ratio", "window": "latest", "at_least": 0, "on_missing": True, "doc": "always"}


def held(condition: dict[str, Any], told: dict[int, float | None], until_s: int = 40) -> list[int]:
    """The seconds at which a condition held, where `told` has the values by second: None is told as missing, and a
    second that is not in it tells nothing at all. The condition stands in a rule that fires at every tick."""
    conditions = {"alive": ALIVE, "it": condition}
    body = rule(all=None, any=["alive", "it"], cooldown="1s")
    workload = Workload([pack({"watch": body}, conditions)], RuleSettings(max_age_s=5))
    seconds: list[int] = []
    for second in range(until_s):
        messages = [sli(second, requests_waiting=told[second])] if second in told else []
        for output in workload.tell(*messages, tick(second)):
            assert isinstance(output, CandidateSet)
            if fact_of(output, "it").holds:
                seconds.append((output.at_ms - START_MS) // 1000)
    return sorted(set(seconds))


def fact_of(found: CandidateSet, condition: str) -> Fact:
    return next(fact for fact in found.candidates[0].facts if fact.condition == condition)


def spans(seconds: list[int]) -> str:
    """`3-7 12-15`."""
    starts = [s for s in seconds if s - 1 not in seconds]
    ends = [s for s in seconds if s + 1 not in seconds]
    return " ".join(f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def every_second(*stretches: tuple[int, int, float | None]) -> dict[int, float | None]:
    return {second: value for start, end, value in stretches for second in range(start, end)}


HIGH_LOW = every_second((0, 5, 1.0), (5, 15, 9.0), (15, 25, 3.0), (25, 40, 1.0))
OUTAGE = every_second((0, 5, 1.0), (5, 15, 9.0), (15, 25, None), (25, 30, 9.0), (30, 40, 1.0))
SILENCE = every_second((0, 5, 1.0), (5, 15, 9.0), (30, 40, 9.0))


@pytest.mark.parametrize(
    ("change", "told", "holds"),
    [
        ({}, HIGH_LOW, "5-14"),
        ({"at_least": 9, "above": None}, HIGH_LOW, "5-14"),
        ({"below": 3, "above": None}, HIGH_LOW, "0-4 25-39"),
        ({"at_most": 3, "above": None}, HIGH_LOW, "0-4 15-39"),
        # Hysteresis: once true, the bound is `until`.
        ({"until": 2}, HIGH_LOW, "5-24"),
        ({"until": 3}, HIGH_LOW, "5-14"),
        ({"at_least": 9, "above": None, "until": 3}, HIGH_LOW, "5-24"),
        ({"below": 2, "above": None, "until": 5}, HIGH_LOW, "0-4 25-39"),
        # A hold begins with the first look that finds it true, and ends with the first that does not.
        ({"for": "4s"}, HIGH_LOW, "9-14"),
        ({"for": "9s"}, HIGH_LOW, "14-14"),
        ({"for": "10s"}, HIGH_LOW, ""),
        ({"for": "10s", "until": 2}, HIGH_LOW, "15-24"),
        # Missing, told as such.
        ({"on_missing": False}, OUTAGE, "5-14 25-29"),
        ({"on_missing": True}, OUTAGE, "5-29"),
        ({"on_missing": "keep"}, OUTAGE, "5-29"),
        ({"on_missing": False, "for": "4s"}, OUTAGE, "9-14 29-29"),
        ({"on_missing": True, "for": "12s"}, OUTAGE, "17-29"),
        # The hold does not grow while nobody can see: it was 9 s at 14, is 9 s at 24, and 12 s at 27.
        ({"on_missing": "keep", "for": "12s"}, OUTAGE, "27-29"),
        ({"on_missing": "keep", "for": "9s"}, OUTAGE, "14-29"),
        # Missing, because nothing is told: values are known for 5 s.
        ({"on_missing": False}, SILENCE, "5-19 30-39"),
        ({"on_missing": True}, SILENCE, "5-39"),
        ({"on_missing": "keep"}, SILENCE, "5-39"),
        ({"on_missing": "keep", "for": "20s"}, SILENCE, "35-39"),
    ],
)
def test_when_it_holds(change: dict[str, Any], told: dict[int, float | None], holds: str) -> None:
    condition = {name: value for name, value in (WAITING | change).items() if value is not None}
    assert spans(held(condition, told)) == holds


def test_what_was_kept_while_missing_was_false_stays_false() -> None:
    told = every_second((0, 5, 1.0), (5, 20, None))
    assert held(WAITING | {"on_missing": "keep"}, told) == []


def test_a_value_that_was_never_told_is_missing() -> None:
    assert spans(held(WAITING | {"on_missing": True}, {0: None})) == "0-39"
    assert held(WAITING | {"on_missing": "keep"}, {0: None}) == []


def watching(window: str) -> Workload:
    condition = WAITING | {"window": window}
    return Workload([pack({"up": rule(cooldown="1s")}, {"waiting": condition})], RuleSettings(max_age_s=30))


def test_a_window_speaks_until_the_next_of_its_size_is_due_and_some_time_more() -> None:
    workload = watching("60s")
    assert workload.fired(sli(0, 60, requests_waiting=9.0)) == [(0, ("up",))]
    fired = workload.fired(*(tick(s) for s in range(1, 120)))
    assert [at for at, _ in fired] == list(range(1, 91))


def test_the_latest_value_speaks_for_as_long_as_it_may_be_old() -> None:
    workload = watching("latest")
    fired = workload.fired(sli(0, requests_waiting=9.0), *(tick(s) for s in range(1, 60)))
    assert [at for at, _ in fired] == list(range(31))


def test_what_was_old_when_it_was_told_is_old_sooner() -> None:
    workload = watching("latest")
    fired = workload.fired(sli(0, requests_waiting=9.0, freshness_s=20), *(tick(s) for s in range(1, 60)))
    assert [at for at, _ in fired] == list(range(11))


def test_a_fact_tells_the_value_that_was_compared_and_how_long_it_held() -> None:
    workload = Workload([pack(conditions={"waiting": WAITING | {"for": "3s"}})])
    outputs = workload.tell(*(m for s in range(5) for m in (sli(s, requests_waiting=5.0 + s), tick(s))))
    (found,) = outputs
    assert isinstance(found, CandidateSet)
    assert fact_of(found, "waiting").model_dump() == {
        "condition": "waiting",
        "bound": {"sli": "requests_waiting", "size_s": 0, "comparator": "gt", "value": 4.0},
        "value": 8.0,
        "holds": True,
        "held_s": 3.0,
        "end_ms": START_MS + 3000,
    }


def test_nobody_knows_what_held_in_a_gap_in_which_nobody_looked() -> None:
    workload = Workload([pack(conditions={"waiting": WAITING | {"for": "20s"}})])
    assert workload.fired(sli(0, requests_waiting=9.0), tick(0), sli(10, requests_waiting=9.0), tick(10)) == []
    assert workload.fired(tick(100), sli(100, requests_waiting=9.0)) == []
    told = (m for s in range(101, 125) for m in (sli(s, requests_waiting=9.0), tick(s)))
    assert workload.fired(*told) == [(120, ("up",))]
