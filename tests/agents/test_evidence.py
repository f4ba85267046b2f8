"""What the executor sees: its time, and the newest evidence of each window."""

from __future__ import annotations

import pytest

from agents.evidence import Eyes
from contracts.ledger import ActionRecord, Mark, Phase
from tests.agents.fakes import StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, record, sli


def begun(phase: Phase = Phase.VERIFYING) -> ActionRecord:
    return record(UP, phase, Mark.DONE)


def eyes_after(*messages: int, clock: StillClock | None = None) -> Eyes:
    clock = clock or StillClock()
    clock.at_ms = max(messages, default=NOW)
    eyes = Eyes(MAX_AGE_S, clock)
    for at_ms in messages:
        eyes.hear(at_ms)
    return eyes


def test_time_is_that_of_the_newest_tick_and_never_before_the_action() -> None:
    eyes = eyes_after(NOW + 5000, NOW + 3000)
    assert eyes.now_ms(record()) == NOW + 5000
    assert eyes_after().now_ms(record()) == NOW


def test_deadlines_wait_until_a_process_that_was_just_started_has_seen_the_workload() -> None:
    late, clock = NOW + 900_000, StillClock()
    eyes = eyes_after(late, clock=clock)
    assert eyes.now_ms(begun()) == NOW
    clock.at_ms = late + 30_000
    eyes.hear(late + 30_000)
    assert eyes.now_ms(begun()) == NOW
    clock.at_ms = late + 31_000
    eyes.hear(late + 31_000)
    assert eyes.now_ms(begun()) == late + 31_000
    seeing = eyes_after(late)
    seeing.see(sli(late, replicas_up=3))
    assert seeing.now_ms(begun()) == late


def test_a_tick_of_a_clock_that_is_ahead_is_not_heard_and_one_set_back_is_followed() -> None:
    clock = StillClock()
    eyes = eyes_after(NOW, clock=clock)
    eyes.hear(NOW + 3_600_000)
    assert eyes.now_ms(record()) == NOW
    clock.at_ms = NOW - 3_600_000
    eyes.see(sli(NOW - 3_600_000, replicas_up=3))
    eyes.hear(NOW - 3_600_000)
    assert eyes.behind_s is None
    assert eyes.evidence(record(), first=False)[0].end_ms == NOW - 3_600_000


def test_who_never_heard_a_tick_is_behind_as_long_as_it_has_lived() -> None:
    clock = StillClock()
    eyes = eyes_after(clock=clock)
    assert eyes.behind_s is None
    clock.at_ms = NOW + 31_000
    assert eyes.behind_s == 31


def test_the_newest_reading_of_each_window_is_kept() -> None:
    eyes = eyes_after(NOW)
    for message in (sli(NOW, replicas_up=3), sli(NOW - 5000, replicas_up=9), sli(NOW, 10, ttft_burn_rate=1)):
        eyes.see(message)
    kept = eyes.evidence(record(), first=False)
    assert {size: each.end_ms for size, each in kept.items()} == {0: NOW, 10: NOW}


@pytest.mark.parametrize("changes", [{"instance_id": "chat-0"}, {"start_ms": NOW + 31_000}])
def test_instances_and_clocks_that_are_ahead_are_not_heeded(changes: dict[str, object]) -> None:
    eyes = eyes_after(NOW)
    eyes.see(sli(NOW, replicas_up=3).model_copy(update=changes))
    assert eyes.evidence(record(), first=False) == {}


def test_the_first_look_at_a_trial_sees_nothing_so_that_its_hold_begins_anew() -> None:
    eyes = eyes_after(NOW)
    eyes.see(sli(NOW, replicas_up=3))
    trial = record(DOWN, Phase.TRIAL, Mark.DONE)
    assert eyes.evidence(trial, first=True) == {}
    assert set(eyes.evidence(trial, first=False)) == {0}
    assert set(eyes.evidence(begun(), first=True)) == {0}
