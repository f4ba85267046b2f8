"""Replicas that are launched while a setting is rolled out or taken back, or that hang meanwhile: none of them keeps
it, and none holds up the others."""

from __future__ import annotations

import pytest

from agents.performance.core.asking import Asked
from agents.performance.core.comparing import Effect
from agents.performance.core.steering_state import Phase, TuningState
from agents.performance.core.trialling import Tuning
from connectors.twin.controller import plan
from connectors.twin.orders import Told
from contracts.errors import ConfigError
from contracts.events import EndState, Refusal, StepKind
from tests.agents.performance.steering_desk import NAMES, PRESENT, SETTINGS, Desk, tune
from tests.agents.performance.test_tier_trials import TIERED, WITH
from tests.agents.performance.test_trialling import DOUBLE, wants
from tests.agents.performance.test_trialling_ends import ALL, asked, refused, state_of
from tests.agents.watching_desk import ms, outcome
from tests.connectors.twin.test_actuation import after, made
from tests.connectors.twin.test_retuning import seqs

REST = NAMES[1:]


class Watched:
    """A twin of three replicas whose canary has a setting, with the tuning that watches it."""

    def __init__(self) -> None:
        self.twin, self.state = made(), state_of(Phase.ROLLING)
        self.at_s, self.orders = 0.0, list[tuple[str, Told]]()
        self.order("chat-0", DOUBLE.max_num_seqs)

    def order(self, subject: str, seqs_wanted: float) -> None:
        told = Told(settings={"max_num_seqs": float(seqs_wanted)})
        self.orders.append((subject, told))
        self.twin.apply("chat", StepKind.RETUNE, subject, f"t{len(self.orders)}", 1, told)
        after(self.twin, 200)

    def launch(self) -> None:
        self.twin.apply("chat", StepKind.ADD, "", "more", 1)

    def look(self) -> tuple[str, ...]:
        self.at_s += 500
        seen = self.twin.observe("chat")
        answering, silent = dict.fromkeys(seen.serving, 1.0), (*seen.starting, *seen.draining)
        tuning, at_ms = Tuning(SETTINGS), ms(self.at_s)
        self.state, found = tuning.look(self.state, "chat", at_ms, answering, whole=not silent, silent=silent)
        return found.replicas

    def take_back(self) -> list[str]:
        """Whom it asks to be set back, one after the other, until there is no trial any more."""
        names = []
        while self.state.phase is not Phase.IDLE:
            found = self.look()
            if not found:
                after(self.twin, 200)
                continue
            (name,) = found
            names.append(name)
            action = tune(self.at_s, PRESENT, name)
            action = action.model_copy(update={"spec": action.spec.model_copy(update={"restores": True})})
            try:
                for step in plan(action, self.twin.observe("chat")).steps:
                    self.order(step.subject, step.settings["max_num_seqs"])
                self.state = Tuning(SETTINGS).ended(self.state, outcome(action, self.at_s))
            except ConfigError:
                self.state = refused(self.state, action, self.at_s, Refusal.DRY_RUN_FAILED)
        return names


def test_one_that_was_launched_before_a_roll_out_was_undone_is_set_back_too() -> None:
    fleet = Watched()
    assert fleet.look() == REST
    action = tune(0, DOUBLE, *REST)
    for subject in (*REST, ""):
        fleet.order(subject, DOUBLE.max_num_seqs)
    fleet.launch()
    for number in (4, 3, 2):
        subject, told = fleet.orders[number - 1]
        fleet.twin.undo("chat", StepKind.RETUNE, subject, f"t{number}", f"u{number}", 1, told)
        after(fleet.twin, 200)
    assert seqs(fleet.twin) == {"chat-0": 128, "chat-1": 64, "chat-2": 64, "chat-3": 128}
    fleet.state = Tuning(SETTINGS).ended(fleet.state, outcome(action, 2000, EndState.UNDONE))
    assert fleet.take_back() == ["chat-0", "chat-3"]
    assert seqs(fleet.twin) == dict.fromkeys((*NAMES, "chat-3"), 64)


@pytest.mark.parametrize("slowly", [False, True])
def test_one_that_was_launched_before_a_roll_out_was_withdrawn_is_set_back_too(slowly: bool) -> None:
    fleet = Watched()
    fleet.look()
    for subject in (*REST, ""):
        fleet.order(subject, DOUBLE.max_num_seqs)
    trial = fleet.state.trial
    assert trial is not None
    reached = trial.model_copy(update={"reached": dict.fromkeys(REST, True)})
    fleet.state = fleet.state.model_copy(update={"phase": Phase.BACK, "trial": reached})
    fleet.launch()
    if not slowly:
        after(fleet.twin, 200)
    assert fleet.take_back() == ["chat-0", *REST, "chat-3"]
    assert seqs(fleet.twin) == dict.fromkeys((*NAMES, "chat-3"), 64)


def test_one_that_has_the_old_setting_already_is_done_with_and_one_beside_a_mere_canary_is_not_asked() -> None:
    state, more = state_of(Phase.BACK, there=NAMES), ALL | {"chat-3": 1.0}
    alone = look(state_of(Phase.BACK), 0, more)[0].trial
    assert alone is not None
    assert alone.reached == {}
    state, _ = look(state, 0, more)
    state = Tuning(SETTINGS).ended(state, outcome(tune(0, PRESENT, "chat-0"), 10))
    for many in range(1, 4):
        at_s = 1000.0 * many
        state, found = look(state, at_s, more)
        assert found.replicas == ("chat-3",)
        state = refused(state, tune(at_s, PRESENT, "chat-3"), at_s, Refusal.DRY_RUN_FAILED)
    assert (state.phase, state.trial) == (Phase.IDLE, None)


def look(
    state: TuningState, at_s: float, answering: dict[str, float], hanging: tuple[str, ...] = ()
) -> tuple[TuningState, Asked]:
    return Tuning(SETTINGS).look(state, "chat", ms(at_s), answering, whole=True, silent=hanging, hanging=hanging)


@pytest.mark.parametrize("reasons", [("guard_broken", "undo_failed"), ("unverified", "undo_failed")])
@pytest.mark.parametrize("undone", [2, 0])
def test_a_roll_out_whose_guards_broke_and_that_could_not_be_undone_is_not_kept(
    reasons: tuple[str, ...], undone: int
) -> None:
    action = tune(0, DOUBLE, *REST)
    stuck = outcome(action, 60, EndState.HELD_UNVERIFIED, reasons=reasons)
    stuck = stuck.model_copy(update={"steps_applied": 3, "steps_undone": undone})
    state = Tuning(SETTINGS).ended(state_of(Phase.ROLLING), stuck)
    assert (state.phase, state.present) == (Phase.BACK, None)
    assert state.trial is not None
    assert state.trial.reached == dict.fromkeys(REST, False)
    held = stuck.model_copy(update={"steps_undone": 0, "reasons": ("no_evidence",)})
    assert Tuning(SETTINGS).ended(state_of(Phase.ROLLING), held).present == DOUBLE


def test_replicas_that_hang_hold_up_no_way_back_and_are_set_back_when_they_answer() -> None:
    state, rest = state_of(Phase.BACK, reached={"chat-1": True}), {"chat-2": 1.0, "chat-3": 1.0}
    assert look(state, 0, rest, ("chat-0",))[0].phase is Phase.BACK, "chat-1 may answer yet"
    state, _ = look(state, 0, rest, ("chat-0", "chat-1"))
    assert (state.phase, state.trial) == (Phase.IDLE, None)
    assert [(each.setting, each.kept) for each in state.past] == [(DOUBLE, False)]
    state = TuningState.model_validate_json(state.model_dump_json())
    busy = state.model_copy(update={"busy": "another", "busy_until_ms": ms(9e9)})
    assert look(busy, 30, rest | {"chat-1": 1.0})[0].phase is Phase.IDLE, "what is under way is waited for"
    state, found = look(state, 60, rest | {"chat-1": 1.0, "chat-4": 1.0}, ("chat-0",))
    assert (found.replicas, found.values["trial_stage"]) == (("chat-1",), 3)
    state = Tuning(SETTINGS).ended(state, outcome(tune(60, PRESENT, "chat-1"), 90))
    state, found = look(state, 120, rest | {"chat-1": 1.0}, ("chat-0",))
    assert (state.phase, found.replicas) == (Phase.IDLE, ())
    assert look(state, 150, rest | {"chat-0": 1.0})[1].replicas == ("chat-0",)
    assert Tuning(SETTINGS).gone(state, tuple(rest)).parked is None


def test_one_that_is_gone_is_not_waited_for_beside_a_canary_that_hangs() -> None:
    state = Tuning(SETTINGS).gone(state_of(Phase.BACK, reached={"chat-1": True}), ("chat-0", "chat-2"))
    assert look(state, 0, {"chat-2": 1.0}, ("chat-0",))[0].phase is Phase.IDLE


def test_what_was_set_while_a_trial_was_resumed_is_set_back_with_it() -> None:
    state = Tuning(SETTINGS).ended(state_of(Phase.BACK), outcome(tune(0, WITH, "chat-2", tiers=True), 60))
    assert state.trial is not None
    assert state.trial.reached == {"chat-2": False}


def test_a_canary_that_hangs_for_long_keeps_nothing_else_from_being_tried() -> None:
    desk = Desk(SETTINGS)
    desk.goes_on(1)
    desk.does(setting=DOUBLE, names=("chat-0",), state=EndState.HELD_UNVERIFIED)
    desk.goes_on(18, silent=("chat-0",))
    assert desk.state is not None
    assert (desk.state.tuning.phase, wants(desk)[0]) == (Phase.IDLE, 0)
    assert "to be set back when they answer: chat-0" in desk.asked().words
    desk.goes_on(1)
    assert wants(desk) == (3, {"chat-0": 1}, 64)


def test_once_new_replicas_had_a_setting_already_none_is_asked_to_be_given_it_until_another_is_given() -> None:
    state, more = TuningState(present=DOUBLE, given=NAMES), ALL | {"chat-3": 1.0}
    assert asked(state, 0, more) == ("chat-3",)
    assert "may have been launched with others" in look(state, 0, more)[1].words
    unlucky = refused(state, tune(0, DOUBLE, "chat-3"), 10, Refusal.AT_MINIMUM)
    assert asked(unlucky, 60, more | {"chat-4": 1.0}) == ("chat-4",)
    state = refused(state, tune(0, DOUBLE, "chat-3"), 10, Refusal.DRY_RUN_FAILED)
    assert asked(state, 60, more | {"chat-4": 1.0}) == ()
    state = Tuning(SETTINGS).ended(state, outcome(tune(70, PRESENT, *more), 80))
    assert asked(state, 90, more | {"chat-4": 1.0}) == ("chat-4",)


def test_tiers_that_are_no_longer_declared_are_taken_from_one_that_came_meanwhile() -> None:
    effect = Effect(warm_ms=0, watched_ms=0, needs_hits=True)
    state, whole = state_of(Phase.ROLLING, setting=WITH, effect=effect), ALL | {"chat-3": 1.0}
    state, found = Tuning(TIERED).look(state, "chat", ms(0), ALL, whole=True)
    assert found.replicas == REST
    state = Tuning(TIERED).said(state, tune(0, WITH, *REST, tiers=True))
    state, _ = look(state, 60, whole)
    assert state.trial is not None
    assert (state.phase, state.trial.reached) == (Phase.BACK, {"chat-3": False})
