"""Engine settings in life: when a trial is asked for, on which replica, and what becomes of the canary."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from agents.performance.core.steering_state import Phase, SteeringSettings
from agents.performance.core.trials import Setting
from contracts.events import EndState
from tests.agents.performance.steering_desk import PRESENT, SETTINGS, Desk, latest, minute, tune
from tests.agents.watching_desk import ms, tick

DOUBLE = Setting(128, 512, 1)
SLOW = {"late": 0.2}
QUICK = {"requests_per_s": 2.3}


def wants(desk: Desk) -> tuple[float | None, dict[str, float], float | None]:
    found = desk.asked()
    return found.value("trial_stage"), found.by_replica, found.value("seqs_wanted")


def trying(**settings: Any) -> Desk:
    """A canary that was set, nine minutes after the first scrape."""
    desk = Desk(replace(SETTINGS, **settings))
    desk.goes_on(9)
    assert wants(desk) == (1, {"chat-0": 1}, 128)
    desk.does(setting=DOUBLE, names=("chat-0",))
    desk.goes_on(1)
    assert wants(desk) == (0, {}, None)
    return desk


def test_a_batch_that_is_often_full_with_room_in_memory_asks_for_one_doubling_on_one_replica() -> None:
    desk = Desk()
    desk.goes_on(9)
    found = desk.asked()
    assert wants(desk) == (1, {"chat-0": 1}, 128)
    assert found.value("batched_tokens_wanted") == 512
    for part in ("the batch was full in", "128 seqs", "TTFT at worst", "are safe"):
        assert part in found.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"requests_waiting_max": 0.0}, "no reason for a trial"),
        ({"kv_cache_usage_max_ratio": 0.9}, "no reason for a trial"),
        ({"ttft_p95_s": 1.2}, "breaks the objective"),
        ({"itl_p95_s": 0.095}, "no setting that is known to be safe"),
        ({"ttft_p95_s": None}, "is not known yet"),
    ],
    ids=["nobody waits", "memory is full", "the objective is broken", "too near to a limit", "no latency is told"],
)
def test_without_a_reason_or_without_safety_there_is_no_trial_and_the_words_say_so(
    change: dict[str, Any], words: str
) -> None:
    desk = Desk()
    desk.goes_on(12, chat_0=change, chat_1=change, chat_2=change)
    assert wants(desk) == (0, {}, None)
    assert words in desk.asked().words


def test_preemptions_ask_for_half_the_batch() -> None:
    desk = Desk(replace(SETTINGS, engines={"chat": Setting(256, 512, 1)}))
    change = {"kv_cache_usage_max_ratio": 1.0, "preemptions_per_s": 0.2}
    desk.goes_on(9, chat_0=change, chat_1=change, chat_2=change)
    assert wants(desk) == (1, {"chat-0": 1}, 128)
    assert "preempted in 100%" in desk.asked().words


@pytest.mark.parametrize(("ttft", "itl", "tokens"), [(0.72, 0.03, 1024), (0.2, 0.072, 256)])
def test_of_two_latencies_the_one_that_takes_its_limit_says_which_way_the_token_budget_goes(
    ttft: float, itl: float, tokens: int
) -> None:
    desk, change = Desk(), {"ttft_p95_s": ttft, "itl_p95_s": itl, "requests_waiting_max": 0.0}
    desk.goes_on(12, chat_0=change, chat_1=change, chat_2=change)
    assert desk.asked().value("batched_tokens_wanted") == tokens
    assert wants(desk) == (1, {"chat-0": 1}, 64)


def test_settings_that_nobody_told_are_not_guessed() -> None:
    desk = Desk(SteeringSettings())
    desk.goes_on(9)
    assert wants(desk) == (None, {}, None)
    assert "are not known" in desk.asked().words


def test_where_no_replica_can_be_spared_the_trial_waits() -> None:
    desk = Desk()
    desk.goes_on(9, load=50.0)
    assert wants(desk) == (0, {}, None)
    assert "not now: 150 requests" in desk.asked().words


def test_where_a_listed_replica_does_not_answer_nothing_is_tried() -> None:
    desk = Desk()
    desk.goes_on(9)
    for at_s in range(550, 590, 10):
        desk.send(latest(at_s, "chat-0"), latest(at_s, "chat-1"), latest(at_s, "chat-2", up=0))
        desk.send(latest(at_s, None, instances_up=2), tick(at_s))
    assert wants(desk) == (0, {}, None)


@pytest.mark.parametrize(("minutes", "hangs"), [(15, False), (16, True)])
def test_a_replica_that_does_not_come_back_from_its_restart_is_waited_for_only_so_long(
    minutes: int, hangs: bool
) -> None:
    desk = Desk()
    desk.goes_on(minutes, silent=("chat-2",))
    assert wants(desk) == ((1, {"chat-0": 1}, 128) if hangs else (0, {}, None))
    assert ("not waited for, silent for more than 900 s: chat-2" in desk.asked().words) == hangs


def test_a_canary_no_worse_and_quicker_under_that_load_is_kept_and_the_rest_asked_for() -> None:
    desk = trying()
    desk.goes_on(24, chat_0=QUICK)
    assert wants(desk) == (2, {"chat-1": 1, "chat-2": 1}, 128)
    assert desk.asked().value("goodput_gain_ratio") == pytest.approx(0.15)
    desk.does(setting=DOUBLE, names=("chat-1", "chat-2"))
    desk.goes_on(2)
    assert wants(desk) == (0, {}, None)
    assert desk.state is not None
    assert desk.state.tuning.present == DOUBLE


def test_as_long_as_the_load_that_asked_for_it_does_not_come_nothing_is_kept() -> None:
    desk = trying()
    desk.goes_on(60, every=1000, chat_0=QUICK)
    assert wants(desk) == (0, {}, None)
    assert "keep" in desk.asked().words
    assert "no minute yet" in desk.asked().words


def test_a_canary_of_no_use_is_taken_back_and_not_tried_again_before_a_day() -> None:
    desk = trying()
    desk.goes_on(24)
    assert wants(desk) == (3, {"chat-0": 1}, 64)
    assert desk.asked().words.startswith("of no use")
    desk.does(setting=PRESENT, names=("chat-0",))
    desk.goes_on(9)
    assert wants(desk) == (0, {}, None)
    assert "was taken back" in desk.asked().words
    assert desk.asked().value("trials_broken") == 1


def test_a_canary_that_is_worse_is_taken_back_within_minutes() -> None:
    desk = trying()
    desk.goes_on(6, chat_0=SLOW)
    assert wants(desk) == (3, {"chat-0": 1}, 64)
    assert "worse than the rest" in desk.asked().words


def test_a_trial_that_settles_nothing_is_taken_back_in_the_end() -> None:
    desk = trying()
    assert desk.state is not None
    tuning = desk.state.tuning
    assert tuning.trial is not None
    old = tuning.trial.model_copy(update={"since_ms": ms(desk.at_s) - 7 * 3_600_000})
    desk.state = desk.state.model_copy(update={"tuning": tuning.model_copy(update={"trial": old})})
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)
    assert "not settled in 6 hours" in desk.asked().words


@pytest.mark.parametrize("state", [EndState.UNDONE, EndState.REFUSED, EndState.FAILED])
def test_a_canary_that_could_not_be_set_is_no_trial_and_is_not_asked_for_at_once_again(state: EndState) -> None:
    desk = Desk()
    desk.goes_on(9)
    desk.does(setting=DOUBLE, names=("chat-0",), state=state)
    desk.goes_on(3)
    assert wants(desk) == (0, {}, None)
    assert desk.state is not None
    assert desk.state.tuning.phase is Phase.IDLE


def test_a_canary_of_which_nobody_saw_what_it_did_is_taken_back() -> None:
    desk = Desk()
    desk.goes_on(9)
    desk.does(setting=DOUBLE, names=("chat-0",), state=EndState.HELD_UNVERIFIED)
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


def test_a_rest_that_could_not_be_set_without_harm_takes_the_canary_back_too() -> None:
    desk = trying()
    desk.goes_on(24, chat_0=QUICK)
    desk.does(setting=DOUBLE, names=("chat-1", "chat-2"), state=EndState.UNDONE)
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


def test_while_an_action_runs_nothing_else_is_asked_for_and_one_that_is_lost_is_not_waited_for_for_ever() -> None:
    desk = Desk()
    desk.goes_on(9)
    desk.send(tune(desk.at_s, DOUBLE, "chat-0"))
    desk.goes_on(3)
    assert wants(desk) == (0, {}, None)
    desk.goes_on(90)
    assert wants(desk) == (1, {"chat-0": 1}, 128)


def test_a_canary_that_goes_away_ends_its_trial() -> None:
    desk = trying()
    for _ in range(40):
        desk.at_s += 10
        desk.send(latest(desk.at_s, "chat-1"), latest(desk.at_s, "chat-2"))
        desk.send(latest(desk.at_s, None, instances=2, instances_up=2), tick(desk.at_s))
    assert desk.state is not None
    assert desk.state.tuning.phase is Phase.IDLE
    assert wants(desk)[0] == 0


def test_a_replica_that_was_launched_after_the_others_were_set_gets_their_setting() -> None:
    desk = Desk()
    desk.goes_on(9)
    desk.does(setting=DOUBLE, names=("chat-0", "chat-1"))
    desk.goes_on(1)
    assert wants(desk) == (2, {"chat-2": 1}, 128)
    desk.does(setting=DOUBLE, names=("chat-2",), state=EndState.REFUSED)
    desk.goes_on(1)
    assert wants(desk) == (0, {}, None), "it is not insisted on"


def test_a_finding_is_told_when_it_changes_and_else_every_two_minutes() -> None:
    desk = Desk()
    desk.goes_on(20)
    times = [each.at_ms for each in desk.found if each.kind == "tuning"]
    assert len(times) >= 10
    assert all(later - sooner <= 120_000 for sooner, later in pairwise(times))


def test_a_minute_with_a_restart_in_it_says_nothing_of_the_canary() -> None:
    desk = trying()
    torn = minute(desk.at_s + 60, "chat-0", late=1.0).model_copy(update={"coverage_ratio": 0.5})
    desk.send(torn)
    desk.goes_on(1)
    desk.goes_on(1)
    assert wants(desk)[0] == 0
