"""Trials in life that go wrong: each comes to an end, none is forgotten, and none keeps the fleet from acting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agents.performance.core import judging
from agents.performance.core.canary import Canary, Seen
from agents.performance.core.steering_state import Phase, Trial, TuningState
from agents.performance.core.trialling import AT_ONCE, Tuning
from agents.performance.core.trials import Setting
from agents.performance.core.usage import Why
from contracts.events import Action, EndState, Refusal
from tests.agents.performance.steering_desk import NAMES, PRESENT, SETTINGS, Desk, latest, tune
from tests.agents.performance.test_trialling import DOUBLE, QUICK, SLOW, trying, wants
from tests.agents.watching_desk import ms, outcome, tick

ALL = dict.fromkeys(NAMES, 20.0)
SEEN = Canary().see(Seen(4000, 4000, 8000, 8000))
"""No worse than the rest."""


def phase(desk: Desk) -> Phase:
    assert desk.state is not None
    return desk.state.tuning.phase


def trial_of(**changes: Any) -> Trial:
    return Trial(setting=DOUBLE, canary="chat-0", why=Why.FULL, since_ms=ms(0), requests=SEEN).model_copy(
        update=changes
    )


def state_of(stage: Phase, **changes: Any) -> TuningState:
    return TuningState(phase=stage, trial=trial_of(**changes))


def refused(state: TuningState, action: Action, at_s: float, *reasons: str) -> TuningState:
    over = outcome(action, at_s, EndState.REFUSED).model_copy(update={"reasons": reasons, "steps_applied": 0})
    return Tuning(SETTINGS).ended(state, over)


def asked(
    state: TuningState, at_s: float, answering: Mapping[str, float] = ALL, *, whole: bool = True
) -> tuple[str, ...]:
    return Tuning(SETTINGS).look(state, "chat", ms(at_s), answering, whole=whole)[1].replicas


def test_a_canary_that_needs_not_be_set_back_is_not_asked_for_for_ever() -> None:
    state = state_of(Phase.BACK)
    for many in range(1, 4):
        assert state.phase is Phase.BACK
        at_s = 1000.0 * many
        state = refused(state, tune(at_s, PRESENT, "chat-0"), at_s, Refusal.DRY_RUN_FAILED)
    assert (state.phase, state.trial) == (Phase.IDLE, None)
    assert [(each.setting, each.kept) for each in state.past] == [(DOUBLE, False)]


def test_a_rest_that_has_the_setting_already_ends_the_roll_out() -> None:
    state = state_of(Phase.ROLLING)
    for many in range(1, 4):
        at_s = 1000.0 * many
        state = refused(state, tune(at_s, DOUBLE, "chat-1", "chat-2"), at_s, Refusal.DRY_RUN_FAILED)
    assert (state.phase, state.present, state.given) == (Phase.IDLE, DOUBLE, NAMES)


def test_refusals_that_say_nothing_of_the_replica_end_nothing_and_are_asked_again_after_ever_longer_pauses() -> None:
    state, at_s, pauses = state_of(Phase.BACK), 0.0, []
    for _ in range(6):
        state = refused(state, tune(at_s, PRESENT, "chat-0"), at_s, Refusal.AT_MINIMUM)
        since_s = at_s
        while not asked(state, at_s):
            at_s += 30
        pauses.append(at_s - since_s)
    assert pauses == [60, 120, 240, 480, 480, 480]
    assert state.phase is Phase.BACK


def test_a_canary_held_of_which_no_step_is_known_is_taken_back_until_the_controller_says_it_has_its_setting() -> None:
    desk = Desk()
    desk.goes_on(9)
    action = tune(desk.at_s, DOUBLE, "chat-0")
    held = outcome(action, desk.at_s, EndState.HELD_UNVERIFIED)
    desk.send(action, held.model_copy(update={"steps_applied": 0, "began_ms": None}))
    begun = 0
    for _ in range(60):
        desk.goes_on(1)
        if wants(desk)[0] == 3:
            begun += 1
            action = tune(desk.at_s, PRESENT, "chat-0")
            over = outcome(action, desk.at_s, EndState.REFUSED)
            desk.send(action, over.model_copy(update={"steps_applied": 0, "reasons": (Refusal.DRY_RUN_FAILED,)}))
    assert begun == 3
    assert phase(desk) is Phase.IDLE


def test_a_setting_that_rules_cannot_give_back_is_left_alone() -> None:
    desk = Desk(replace(SETTINGS, engines={"chat": Setting(64, 131_072, 1)}))
    change = {"ttft_p95_s": 0.2, "itl_p95_s": 0.072, "requests_waiting_max": 0.0}
    desk.goes_on(12, chat_0=change, chat_1=change, chat_2=change)
    assert wants(desk) == (0, {}, None)
    assert "no way back" in desk.asked().words


def test_of_a_large_fleet_so_many_are_set_at_once_as_a_controller_does_and_the_others_then() -> None:
    many = {f"chat-{n}": 1.0 for n in range(2 * AT_ONCE + 10)}
    state = state_of(Phase.ROLLING)
    first = asked(state, 0, many)
    assert len(first) == AT_ONCE
    action = tune(0, DOUBLE, *first)
    state = Tuning(SETTINGS).ended(state, outcome(action, 60))
    second = asked(state, 90, many)
    assert len(second) == AT_ONCE
    assert not {"chat-0", *first} & set(second)


def test_a_bad_canary_that_nobody_sees_for_a_while_is_still_taken_back_when_it_is_seen_again() -> None:
    desk = trying()
    desk.goes_on(6, chat_0=SLOW)
    assert phase(desk) is Phase.BACK
    for _ in range(36):
        desk.at_s += 10
        desk.send(*(latest(desk.at_s, name) for name in NAMES[1:]))
        desk.send(latest(desk.at_s, None, instances_up=2), tick(desk.at_s))
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


@pytest.mark.parametrize("stage", [Phase.TRYING, Phase.BACK])
def test_a_trial_outlives_hours_without_any_scrape(stage: Phase) -> None:
    desk = trying()
    if stage is Phase.BACK:
        desk.goes_on(6, chat_0=SLOW)
    assert phase(desk) is stage
    for _ in range(8):
        desk.at_s += 1800
        desk.send(tick(desk.at_s))
    desk.goes_on(10, chat_0=SLOW)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


def test_a_setting_that_was_given_to_all_outlives_hours_without_any_scrape_and_a_workload_without_one_does_not() -> (
    None
):
    given, plain = Desk(), Desk()
    for desk in (given, plain):
        desk.goes_on(1)
    given.does(setting=DOUBLE, names=NAMES)
    for desk in (given, plain):
        desk.at_s += 4000
        desk.send(tick(desk.at_s))
    assert plain.state is None
    assert given.state is not None
    assert (given.state.tuning.present, given.state.tuning.given, given.state.replicas) == (DOUBLE, NAMES, {})


def test_a_roll_out_that_cannot_be_done_takes_the_canary_back() -> None:
    desk = trying()
    desk.goes_on(24, chat_0=QUICK)
    assert phase(desk) is Phase.ROLLING
    desk.does(setting=DOUBLE, names=("chat-1", "chat-2"), state=EndState.FAILED)
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


def test_where_a_listed_replica_does_not_answer_the_rest_waits_and_the_way_back_does_not() -> None:
    assert asked(state_of(Phase.ROLLING), 0) == ("chat-1", "chat-2")
    assert asked(state_of(Phase.ROLLING), 0, whole=False) == ()
    new = TuningState(present=DOUBLE, given=("chat-0", "chat-1"))
    assert asked(new, 0) == ("chat-2",)
    assert asked(new, 0, whole=False) == ()
    assert asked(state_of(Phase.BACK), 0, whole=False) == ("chat-0",)


def verdict(**changes: Any) -> Phase:
    trial = trial_of(**changes)
    return judging.verdict_of(TuningState(phase=Phase.TRYING, trial=trial), trial, ms(3600)).phase


@pytest.mark.parametrize(
    ("telling", "paced", "spread", "then"),
    [
        (5, (690.0, 600.0), 990.0, Phase.ROLLING),
        (5, (640.0, 600.0), 940.0, Phase.TRYING),
        (30, (640.0, 600.0), 940.0, Phase.BACK),
        (5, (600.0, 600.0), 900.0, Phase.BACK),
        (30, (3840.0, 3600.0), 5640.0, Phase.ROLLING),
    ],
    ids=["surely more", "perhaps chance", "perhaps chance in the end", "no more", "the same gain, seen for longer"],
)
def test_a_gain_is_only_of_use_where_chance_does_not_make_as_much(
    telling: int, paced: tuple[float, float], spread: float, then: Phase
) -> None:
    assert verdict(telling=telling, paced=paced, spread=spread) is then


@pytest.mark.parametrize(("rest_late", "then"), [(16, Phase.TRYING), (80, Phase.ROLLING)])
def test_fewer_late_requests_are_only_of_use_where_chance_does_not_make_as_few(rest_late: int, then: Phase) -> None:
    seen = Canary().see(Seen(4000, 3994, 8000, 8000 - rest_late))
    assert verdict(telling=5, paced=(600.0, 600.0), spread=900.0, requests=seen) is then


def test_a_canary_that_finishes_less_than_half_is_taken_back_though_what_it_finishes_is_in_time() -> None:
    desk = trying()
    desk.goes_on(30, chat_0={"requests_per_s": 0.8})
    assert phase(desk) is Phase.BACK
    assert verdict(telling=4, paced=(200.0, 480.0), spread=440.0, requests=Canary()) is Phase.TRYING
    assert verdict(telling=5, paced=(250.0, 600.0), spread=550.0, requests=Canary()) is Phase.BACK
    assert verdict(telling=5, paced=(2.0, 5.0), spread=4.5, requests=Canary()) is Phase.TRYING, "of so few, chance"


def test_a_canary_of_whose_requests_nothing_comes_is_taken_back_within_minutes_whatever_the_load() -> None:
    desk = trying()
    desk.goes_on(7, every=1000, chat_0={"requests_per_s": 0.0, "done": 0})
    assert wants(desk) == (3, {"chat-0": 1}, 64)
    assert "nothing came of its requests" in desk.asked().words


def test_a_canary_without_requests_is_not_one_that_hangs() -> None:
    desk = trying()
    idle = {"requests_per_s": 0.0, "requests_running": 0.0, "requests_waiting": 0.0, "done": 0}
    desk.goes_on(12, every=1000, chat_0=idle)
    assert phase(desk) is Phase.TRYING
