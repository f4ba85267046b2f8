"""A trial of KV tiers ends by what is measured and declared, and by nothing else; what was taken back stays so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.performance.core.learning import FOREVER_MS, PAST_LIMIT, with_learnt
from agents.performance.core.steering_state import Declared, Learnt, Phase, TuningState
from agents.performance.stages import steering_stage
from contracts.events import Action, EndState, Outcome, Refusal
from tests.agents.performance.steering_desk import NAMES, PRESENT, SETTINGS, Desk, tune
from tests.agents.performance.test_tier_trials import (
    CANARY,
    DECLARED,
    HITS,
    PLAIN,
    TIERED,
    WITH,
    barred_days,
    beside,
    phase,
    trying,
    wants,
)
from tests.agents.watching_desk import ms, outcome


def context_tune(desk: Desk) -> Action:
    """A smaller context window for all, which a person approved."""
    action = tune(desk.at_s, PRESENT, *NAMES)
    return action.model_copy(update={"spec": action.spec.model_copy(update={"settings": {"max_model_len": 13_107.0}})})


def test_an_action_that_sets_something_else_does_not_end_a_trial() -> None:
    desk = trying()
    action = context_tune(desk)
    desk.send(action, outcome(action, desk.at_s))
    assert desk.state is not None
    assert (phase(desk), desk.state.tuning.busy) == (Phase.TRYING, "")
    beside(desk, 12, **HITS)
    assert wants(desk)[0] == 2


def test_nor_does_one_that_is_refused_end_a_take_back() -> None:
    desk = trying()
    beside(desk, 10, ttft_mean_s=0.4, **HITS)
    for _ in range(3):
        of = context_tune(desk)
        reasons = (Refusal.DRY_RUN_FAILED,)
        desk.send(of, Outcome(action=of, end_state=EndState.REFUSED, at_ms=ms(desk.at_s), reasons=reasons))
        desk.goes_on(1)
    assert (phase(desk), wants(desk)[:2]) == (Phase.BACK, (3, {"chat-0": 1}))


@pytest.mark.parametrize("tiers", [{}, {"chat": replace(DECLARED, tiers=(16, 0))}], ids=["withdrawn", "others"])
@pytest.mark.parametrize("rolling", [False, True])
def test_tiers_that_are_no_longer_declared_are_taken_back_and_not_rolled_out(
    tiers: dict[str, Declared], rolling: bool
) -> None:
    desk = trying()
    if rolling:
        beside(desk, 12, **HITS)
        assert phase(desk) is Phase.ROLLING
    desk.stage = steering_stage(replace(TIERED, tiers=tiers))
    beside(desk, 1, ttft_mean_s=0.1, **HITS)
    assert wants(desk) == (3, {"chat-0": 1}, 0, 0)
    assert "are no longer declared" in desk.asked().words
    desk.stage = steering_stage(TIERED)
    desk.does(setting=PRESENT, names=CANARY, tiers=True)
    desk.goes_on(2)
    assert wants(desk)[0] == 1, "what is declared once more is tried once more"


def test_what_is_launched_later_is_not_given_tiers_that_are_no_longer_declared() -> None:
    desk = trying()
    beside(desk, 12, **HITS)
    desk.does(setting=WITH, names=("chat-1",), tiers=True)
    desk.stage = steering_stage(SETTINGS)
    desk.goes_on(3)
    assert wants(desk)[0] is None
    assert desk.asked().by_replica == {}


def test_tiers_that_hurt_stay_left_alone_under_another_engine_setting() -> None:
    desk = trying()
    beside(desk, 10, ttft_mean_s=0.4, **HITS)
    desk.does(setting=PRESENT, names=CANARY, tiers=True)
    desk.does(setting=replace(PRESENT, max_num_seqs=128), names=NAMES)
    desk.goes_on(3)
    assert wants(desk)[0] is None
    assert "are left alone until others are declared: first tokens come much later" in desk.asked().words


def test_what_is_barred_for_good_is_not_forgotten_for_more_recent_trials() -> None:
    state = with_learnt(TuningState(), Learnt(setting=WITH, kept=False, until_ms=FOREVER_MS))
    for number in range(PAST_LIMIT + 5):
        setting = replace(PRESENT, max_num_seqs=number + 8)
        state = with_learnt(state, Learnt(setting=setting, kept=False, until_ms=number))
    assert state.past[0].setting == WITH
    assert len(state.past) == PAST_LIMIT + 1
    assert state.past[-1].until_ms == PAST_LIMIT + 4


def test_where_nothing_tells_what_the_tiers_gave_nothing_is_decided_for_six_hours_and_then_barred_for_a_day() -> None:
    desk = trying()
    beside(desk, 12, ttft_mean_s=0.15)
    assert phase(desk) is Phase.TRYING
    assert "its tiers gave not told" in desk.asked().words
    assert "tier_tokens_ratio" not in desk.asked().values
    desk.at_s += 6 * 3600
    beside(desk, 1)
    assert wants(desk)[0] == 3
    desk.does(setting=PRESENT, names=CANARY, tiers=True)
    assert barred_days(desk) == pytest.approx(1, abs=0.01)


def test_failures_that_nobody_tells_are_told_as_that() -> None:
    desk = Desk(TIERED)
    desk.goes_on(1)
    desk.does(setting=WITH, names=CANARY, tiers=True)
    untold = {name: value for name, value in (PLAIN | HITS).items() if name != "error_ratio"}
    desk.goes_on(14, every=99, chat_0=untold, chat_1=PLAIN, chat_2=PLAIN)
    assert "requests that failed: not told" in desk.asked().words
