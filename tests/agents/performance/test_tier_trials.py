"""KV tiers that people declared: when they are asked for, on whom, and what becomes of a replica that has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.performance.core.comparing import Effect, Paired
from agents.performance.core.judging import so_far
from agents.performance.core.steering_state import Declared, Phase, SteeringSettings
from agents.performance.core.trials import Setting
from contracts.events import EndState
from tests.agents.performance.steering_desk import PRESENT, SETTINGS, Desk, tune
from tests.agents.watching_desk import ms, outcome

DECLARED = Declared((64, 500), warm_s=120, watch_s=480)
WITH = replace(PRESENT, kv_offloading_size=64, kv_disk_gb=500)
TIERED = replace(SETTINGS, tiers={"chat": DECLARED})
CANARY = ("chat-0",)
HITS = {"external_hit_ratio": 0.3, "looked": 100_000}
PLAIN = {"prefix_cache_hit_ratio": 0.2, "looked": 138_000, "ttft_mean_s": 0.2, "error_ratio": 0.0}
"""What a minute of a replica is like that has no tiers."""


def wants(desk: Desk) -> tuple[float | None, dict[str, float], float | None, float | None]:
    found = desk.asked()
    numbers = (found.value(name) for name in ("host_gib_wanted", "disk_gb_wanted"))
    return found.value("tier_stage"), found.by_replica, *numbers  # type: ignore[return-value]  # two of them


def beside(desk: Desk, minutes: int, **canary: Any) -> None:
    """So many minutes in which the canary tells something else than the rest."""
    desk.goes_on(minutes, every=99, chat_0=PLAIN | canary, chat_1=PLAIN, chat_2=PLAIN)


def trying(settings: SteeringSettings = TIERED, to: Setting = WITH) -> Desk:
    """A canary with other tiers that has warmed up."""
    desk = Desk(settings)
    desk.goes_on(1)
    desk.does(setting=to, names=CANARY, tiers=True)
    beside(desk, 3)
    assert phase(desk) is Phase.TRYING
    return desk


def phase(desk: Desk) -> Phase:
    assert desk.state is not None
    return desk.state.tuning.phase


def barred_days(desk: Desk) -> float:
    """For how long what was tried is left alone."""
    assert desk.state is not None
    (tried,) = (each for each in desk.state.tuning.past if each.setting == WITH)
    return (tried.until_ms - ms(desk.at_s)) / 86_400_000


def test_tiers_that_are_declared_and_not_there_are_asked_for_on_one_replica_with_all_its_flags() -> None:
    desk = Desk(TIERED)
    desk.goes_on(2)
    found = desk.asked()
    assert wants(desk) == (1, {"chat-0": 1}, 64, 500)
    assert (found.value("trial_stage"), found.value("seqs_wanted"), found.value("batched_tokens_wanted")) == (
        0,
        64,
        512,
    )
    assert "KV tiers of 64 GiB host memory and 500 GB disk are declared, there are no KV tiers" in found.words


def test_tiers_that_are_there_already_are_not() -> None:
    desk = Desk(replace(TIERED, engines={"chat": WITH}))
    desk.goes_on(2)
    assert wants(desk)[0] is None


def test_where_no_replica_can_be_spared_they_wait() -> None:
    desk = Desk(TIERED)
    desk.goes_on(2, load=50.0)
    assert wants(desk)[0] is None
    assert "not now: 150 requests" in desk.asked().words


def test_nothing_of_the_warm_up_counts() -> None:
    desk = Desk(TIERED)
    desk.goes_on(1)
    desk.does(setting=WITH, names=CANARY, tiers=True)
    beside(desk, 1, ttft_mean_s=0.6)
    assert desk.state is not None
    trial = desk.state.tuning.trial
    assert trial is not None
    assert trial.effect is not None
    assert (trial.effect.warm, trial.effect.ttft.count) == (False, 0)
    assert "it warms up" in so_far(trial)
    beside(desk, 12, **HITS)
    assert wants(desk)[:2] == (2, {"chat-1": 1, "chat-2": 1})


def test_only_what_is_far_worse_ends_it_in_the_warm_up() -> None:
    desk = Desk(TIERED)
    desk.goes_on(1)
    desk.does(setting=WITH, names=CANARY, tiers=True)
    beside(desk, 2, late=0.6)
    assert wants(desk) == (3, {"chat-0": 1}, 0, 0)
    assert "far worse in its warm-up" in desk.asked().words


def test_first_tokens_that_come_sooner_keep_it_and_ask_for_the_rest() -> None:
    desk = trying()
    for ttft_s in (0.15, 0.16, 0.14, 0.15, 0.16):
        assert wants(desk)[0] is None, "before it was watched for so long"
        beside(desk, 1, ttft_mean_s=ttft_s, **HITS)
    beside(desk, 5, ttft_mean_s=0.15, **HITS)
    assert wants(desk) == (2, {"chat-1": 1, "chat-2": 1}, 64, 500)
    found = desk.asked()
    assert 0.3 < found.values["tier_tokens_ratio"] <= 30_000 / 69_000
    assert 0.7 < found.values["canary_ttft_ratio"] < 0.85
    for part in ("first tokens come sooner", "of its prompt tokens its tiers gave 4", "those of the rest not told and"):
        assert part in found.words
    desk.does(setting=WITH, names=("chat-1", "chat-2"), tiers=True)
    desk.goes_on(2)
    assert wants(desk)[0] is None
    assert desk.state is not None
    assert (desk.state.tuning.present, phase(desk)) == (WITH, Phase.IDLE)


def test_no_worse_and_tokens_that_came_from_them_is_enough() -> None:
    desk = trying()
    beside(desk, 12, **HITS)
    assert wants(desk)[0] == 2
    assert desk.asked().words.split(": ", 2)[1] == "no worse"


@pytest.mark.parametrize(
    ("canary", "words", "minutes"),
    [
        ({"external_hit_ratio": 0.0}, "of no use, its tiers gave less than 1% of its prompt tokens", 10),
        (HITS | {"late": 0.3}, "it is worse than the rest", 6),
        (HITS | {"error_ratio": 0.2}, "more of its requests fail", 8),
        (HITS | {"ttft_mean_s": 0.22}, "first tokens come later", 10),
        (HITS | {"ttft_mean_s": 0.4}, "first tokens come much later", 7),
    ],
    ids=["no hits", "late", "failures", "a little later", "much later"],
)
def test_what_hurts_or_is_of_no_use_is_taken_back_and_left_alone(
    canary: dict[str, Any], words: str, minutes: int
) -> None:
    desk = trying()
    beside(desk, minutes, **canary)
    assert wants(desk) == (3, {"chat-0": 1}, 0, 0)
    assert words in desk.asked().words
    desk.does(setting=PRESENT, names=CANARY, tiers=True)
    desk.goes_on(3)
    assert (wants(desk)[0], phase(desk), barred_days(desk) > 10_000) == (None, Phase.IDLE, True)
    assert f"are left alone until others are declared: {words[:20]}" in desk.asked().words


def test_a_canary_that_died_in_its_start_is_left_alone_and_an_order_that_never_came_is_not() -> None:
    for applied, for_good in ((1, True), (0, False)):
        desk = Desk(TIERED)
        desk.goes_on(1)
        action = tune(desk.at_s, WITH, *CANARY, tiers=True)
        desk.send(action)
        end = outcome(action, desk.at_s, EndState.FAILED).model_copy(update={"steps_applied": applied})
        desk.send(end.model_copy(update={"detail": "chat-0 is failed, and was restarting"}))
        desk.goes_on(3)
        assert wants(desk)[0] is None
        assert "chat-0 is failed, and was restarting" in desk.asked().words
        assert barred_days(desk) > 10_000 if for_good else barred_days(desk) < 0.05


def test_others_that_are_declared_are_tried_and_the_first_too_when_they_are_declared_again() -> None:
    desk = trying()
    beside(desk, 10, external_hit_ratio=0.0)
    desk.does(setting=PRESENT, names=CANARY, tiers=True)
    desk.goes_on(2)
    assert wants(desk)[0] is None
    others = Desk(replace(SETTINGS, tiers={"chat": replace(DECLARED, tiers=(32, 0))}))
    others.state, others.at_s = desk.state, desk.at_s
    others.goes_on(2)
    assert wants(others) == (1, {"chat-0": 1}, 32, 0)
    again = Desk(TIERED)
    again.state, again.at_s = others.state, others.at_s
    again.goes_on(2)
    assert wants(again) == (1, {"chat-0": 1}, 64, 500)


def test_a_replica_that_is_launched_later_without_them_gets_them() -> None:
    desk = trying()
    beside(desk, 12, **HITS)
    desk.does(setting=WITH, names=("chat-1",), tiers=True)
    desk.goes_on(2)
    assert wants(desk) == (2, {"chat-2": 1}, 64, 500)
    assert "launched since it was given to the others" in desk.asked().words


def test_tiers_may_be_declared_away_and_that_needs_no_hits() -> None:
    away = replace(SETTINGS, engines={"chat": WITH}, tiers={"chat": replace(DECLARED, tiers=(0, 0))})
    desk = Desk(away)
    desk.goes_on(2)
    assert wants(desk) == (1, {"chat-0": 1}, 0, 0)
    desk = trying(away, PRESENT)
    beside(desk, 12)
    assert wants(desk) == (2, {"chat-1": 1, "chat-2": 1}, 0, 0)


def test_a_difference_is_told_however_even_the_minutes_are() -> None:
    later, sooner, alike = Paired(), Paired(), Paired()
    for _ in range(6):
        later, sooner = later.with_pair(3.75, (1.75, 1.75)), sooner.with_pair(0.2, (0.4,))
        alike = alike.with_pair(1.01, (1.0,))
    assert (later.much_worse, sooner.better) == (True, True)
    assert not alike.worse
    assert not Paired().worse


def test_a_difference_is_told_from_chance_by_pairs_of_minutes() -> None:
    alike, later = Paired(), Paired()
    for n in range(20):
        load = 1 + n % 5
        noise = 0.1 * (n % 3 - 1)
        alike = alike.with_pair(load * (1 + noise), (load, load))
        later = later.with_pair(load * (1.3 + noise), (load, None, load))
    assert not alike.worse
    assert not alike.better
    assert later.worse
    assert later.ratio == pytest.approx(1.3, rel=0.02)
    assert later.with_pair(None, (1.0,)) == later.with_pair(1.0, (None,)) == later


def test_what_was_measured_is_told_in_words_also_before_anything_was() -> None:
    words = Effect(warm_ms=0, watched_ms=1, needs_hits=True).explain()
    assert "its tiers gave not told" in words
    assert "in 0 minutes its mean TTFT was 1.00 times theirs" in words
    assert "failed: not told" in words
