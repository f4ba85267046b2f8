"""A declaration of KV tiers that is withdrawn during the roll-out: whoever was reached has none in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.performance.core.steering_state import Phase, SteeringSettings, TuningState
from agents.performance.core.trialling import AT_ONCE, Tuning
from agents.performance.stages import steering_stage
from contracts.events import EndState, Outcome, Refusal
from tests.agents.performance.steering_desk import PRESENT, SETTINGS, Desk, tune
from tests.agents.performance.test_tier_trials import HITS, TIERED, WITH, beside, phase, trying, wants
from tests.agents.performance.test_trialling_ends import state_of
from tests.agents.watching_desk import ms, outcome

REST = ("chat-1", "chat-2")


def rolling() -> Desk:
    desk = trying()
    beside(desk, 12, **HITS)
    assert phase(desk) is Phase.ROLLING
    return desk


def set_back(desk: Desk) -> str:
    """The one replica that is asked to be set back, and is."""
    desk.goes_on(1)
    (name,) = desk.asked().by_replica
    assert wants(desk) == (3, {name: 1}, 0, 0)
    desk.does(setting=PRESENT, names=(name,), tiers=True)
    return name


def test_a_roll_out_that_was_under_way_is_taken_back_from_all_one_at_a_time() -> None:
    desk = rolling()
    action = tune(desk.at_s, WITH, *REST, tiers=True)
    desk.send(action)
    desk.stage = steering_stage(replace(TIERED, tiers={}))
    desk.goes_on(2)
    assert wants(desk)[:2] == (None, {}), "what is under way is waited for"
    desk.send(outcome(action, desk.at_s))
    assert [set_back(desk) for _ in range(3)] == ["chat-0", "chat-1", "chat-2"]
    assert desk.state is not None
    assert (phase(desk), desk.state.tuning.present) == (Phase.IDLE, None)
    desk.stage = steering_stage(TIERED)
    desk.goes_on(2)
    assert wants(desk)[0] == 1, "what is declared once more is tried once more"


def test_one_that_was_left_half_done_is_taken_back_from_whom_it_may_have_reached() -> None:
    desk = rolling()
    action = tune(desk.at_s, WITH, *REST, tiers=True)
    half = outcome(action, desk.at_s, EndState.HELD_UNVERIFIED).model_copy(update={"steps_applied": 1})
    desk.send(action, half)
    desk.goes_on(2)
    assert wants(desk)[:2] == (2, {"chat-1": 1, "chat-2": 1}), "both are asked for again"
    desk.stage = steering_stage(replace(TIERED, tiers={}))
    assert [set_back(desk) for _ in range(2)] == ["chat-0", "chat-1"]
    for _ in range(3):
        of = tune(desk.at_s, PRESENT, "chat-2", tiers=True)
        has_none = (Refusal.DRY_RUN_FAILED,)
        desk.send(of, Outcome(action=of, end_state=EndState.REFUSED, at_ms=ms(desk.at_s), reasons=has_none))
        desk.goes_on(1)
    assert phase(desk) is Phase.IDLE


FLEET = {f"chat-{number:02d}": 1.0 for number in range(AT_ONCE + 9)}


def asked(state: TuningState, at_s: float, settings: SteeringSettings) -> tuple[TuningState, tuple[str, ...]]:
    state, found = Tuning(settings).look(state, "chat", ms(at_s), FLEET, whole=True)
    return state, found.replicas


def done(state: TuningState, at_s: float, to: object, names: tuple[str, ...]) -> TuningState:
    tiers = to == WITH
    assert tiers or to == PRESENT
    return Tuning(TIERED).ended(state, outcome(tune(at_s, WITH if tiers else PRESENT, *names, tiers=True), at_s))


@pytest.mark.parametrize("keeps", [True, False])
def test_a_fleet_larger_than_one_action_has_the_tiers_when_all_of_it_has(keeps: bool) -> None:
    state = state_of(Phase.ROLLING, canary="chat-00", setting=WITH)
    state, first = asked(state, 0, TIERED)
    state = done(state, 10, WITH, first)
    state, second = asked(state, 20, TIERED)
    assert (len(first), len(second), state.phase) == (AT_ONCE, 8, Phase.ROLLING)
    if keeps:
        state, nobody = asked(done(state, 30, WITH, second), 40, TIERED)
        assert (state.phase, state.present, set(state.given), nobody) == (Phase.IDLE, WITH, set(FLEET), ())
        return
    trial = state.trial
    assert trial is not None
    state = state.model_copy(update={"phase": Phase.BACK})  # as a guard that broke, or tiers that nobody wants any more
    freed: list[str] = []
    while state.trial is not None:
        state, names = asked(state, 100.0 + len(freed), SETTINGS)
        freed += names
        state = done(state, 100.0 + len(freed), PRESENT, names)
    assert freed == ["chat-00", *first], "the canary first, and nobody who was not reached"


def test_whoever_is_gone_meanwhile_is_not_waited_for() -> None:
    state = state_of(Phase.BACK, reached={"chat-1": True, "chat-2": True})
    state = Tuning(SETTINGS).gone(state, ("chat-2", "chat-3"))
    assert state.trial is not None
    assert (state.trial.canary, state.trial.reached) == ("chat-2", {})
    assert Tuning(SETTINGS).gone(state, ("chat-3",)).phase is Phase.IDLE
