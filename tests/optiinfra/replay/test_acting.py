"""Reviewer and executor under the virtual driver: an action is carried to its end between two messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.reviewer.deterministic import DeterministicReviewer
from contracts.events import Action, Alert, AuditEntry, ControlKind, EndState, Message, Outcome, PlanStep, Tick
from contracts.laws.bounds import Comparator
from contracts.ledger import ClaimLimits
from contracts.ports import Controller
from optiinfra.replay.acting import Acting
from optiinfra.replay.hands import SceneController
from optiinfra.replay.scene import Scene
from optiinfra.replay.virtual import VirtualClock, VirtualDriver
from tests.agents.ledger_help import control
from tests.agents.saga_help import DOWN, UP, action, replicas_up, sli
from tests.optiinfra.replay.test_scene import scene

Tell = Callable[[int, Scene], list[Message]]


def life(controller: Controller, fleet: Scene, *first: Message, until_s: int = 400) -> list[Message]:
    """A driver with the executor alone: SLIs that tell the truth and a tick every 5 s, and what comes `first`, each at
    its time, at 10 s at the soonest. All messages but those."""
    clock, heard = VirtualClock(), list[Message]()
    begin_ms = fleet.options.begin_ms
    limits = ClaimLimits(lease_s=30)
    with Acting(DeterministicReviewer(), lambda action: controller, clock, limits=limits, max_age_s=30.0) as acting:
        driver = clock.driver = VirtualDriver((), acting.readers, heard=heard.append)
        for at_s in range(5, until_s, 5):
            fleet.advance(at_s)
            at_ms = begin_ms + at_s * 1000
            up = len(fleet.names(*(each.phase for each in fleet.present if each.has_served)))
            driver.put([sli(at_ms, replicas_up=up, load_per_replica=2), sli(at_ms, 10, ttft_burn_rate=0.5)])
            due = [each for each in first if max(each.at, begin_ms + 10_000) == at_ms]
            driver.put([Tick(at_ms=at_ms, partition=0), *due])
            driver.run(at_ms)
    return [each for each in heard if isinstance(each, Action | Outcome | Alert | AuditEntry)]


def ordered(spec: object, fleet: Scene) -> Action:
    at_ms = fleet.options.begin_ms + 10_000
    return action(spec, at_ms=at_ms, cause_ms=at_ms, start_by_ms=at_ms + 30_000)  # type: ignore[arg-type]


@pytest.fixture
def fleet() -> Scene:
    return scene([0] * 600, 3, startup_s=60, drain_s=30)


def test_capacity_is_added_and_verified_by_what_is_measured(fleet: Scene) -> None:
    told = life(SceneController(fleet), fleet, ordered(UP, fleet))
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert outcome.end_state is EndState.VERIFIED
    assert outcome.began_ms == fleet.options.begin_ms + 10_000
    assert outcome.at_ms == fleet.options.begin_ms + 70_000, "ready at 70 s, and seen to answer at once"
    assert [each.what for each in told if isinstance(each, AuditEntry)][:2] == ["epoch_begun", "recorded"]


def stacked(fleet: Scene, at_s: int, beside: tuple[Action, ...] = (), serving: int = 3) -> Action:
    """One more replica, ordered while others may still start."""
    effect = UP.effect.model_copy(update={"expect": replicas_up(Comparator.GE, serving + 1)})
    spec = UP.model_copy(update={"effect": effect, "stacks": True})
    at_ms = fleet.options.begin_ms + at_s * 1000
    named = {"candidate_id": f"at {at_s}", "beside": tuple(each.id for each in beside)}
    return action(spec, at_ms=at_ms, cause_ms=at_ms, start_by_ms=at_ms + 30_000, **named)


def test_orders_follow_one_another_while_replicas_start_and_each_is_verified_by_its_own(fleet: Scene) -> None:
    """A minute of start-up; the second replica answers when four are wanted by both, the third's own come later."""
    first = stacked(fleet, 10)
    second = stacked(fleet, 25, (first,))
    third = stacked(fleet, 40, (first, second))
    told = life(SceneController(fleet), fleet, first, second, third)
    ends = {each.action.id: each for each in told if isinstance(each, Outcome)}
    begin_ms = fleet.options.begin_ms
    assert [ends[each.id].end_state for each in (first, second, third)] == [EndState.VERIFIED] * 3
    began_s = [((ends[each.id].began_ms or 0) - begin_ms) // 1000 for each in (first, second, third)]
    assert began_s == [10, 25, 40], "none waited for the one before"
    assert [(ends[each.id].at_ms - begin_ms) // 1000 for each in (first, second, third)] == [70, 85, 100]
    lines = [each for each in told if isinstance(each, AuditEntry) and each.subject == second.id]
    assert [each.detail.endswith("its target is free") for each in lines if each.what == "applying"][:2] == [
        False,
        True,
    ]


def test_one_that_is_undone_is_not_held_against_those_beside_it(fleet: Scene) -> None:
    """The first never shows what it expects, and is taken back after the second was decided on a count with it."""
    first = stacked(fleet, 10, serving=98)
    second = stacked(fleet, 100, (first,), serving=4)
    told = life(SceneController(fleet), fleet, first, second)
    ends = {each.action.id: each for each in told if isinstance(each, Outcome)}
    assert (ends[first.id].end_state, ends[first.id].reasons) == (EndState.UNDONE, ("lied",))
    assert ends[second.id].end_state is EndState.VERIFIED, ends[second.id].detail
    assert ends[second.id].detail.startswith("replicas_up ≥ 4: 4; ")
    assert ends[second.id].detail.endswith("; 1 replicas beside its own were taken back")
    assert len(fleet.present) == 4


def test_capacity_is_drained_tried_and_removed(fleet: Scene) -> None:
    told = life(SceneController(fleet), fleet, ordered(DOWN, fleet))
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert (outcome.end_state, outcome.steps_applied) == (EndState.VERIFIED, 2)
    assert len(fleet.present) == 2
    assert outcome.at_ms >= fleet.options.begin_ms + (10 + 30 + 30) * 1000, "drained, and on trial as long as settles"


def test_the_kill_switch_keeps_an_action_from_beginning(fleet: Scene) -> None:
    at_ms = fleet.options.begin_ms
    killed = control(ControlKind.KILL, at_ms, at_ms=at_ms + 9_000)
    told = life(SceneController(fleet), fleet, killed, ordered(UP, fleet))
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert (outcome.end_state, outcome.reasons[0]) == (EndState.REFUSED, "kill_switch")
    assert len(fleet.present) == 3


class Broken(SceneController):
    """A controller with a fault of its own."""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        raise ZeroDivisionError("a bug")


def test_people_are_told_of_an_action_that_cannot_be_carried_on(fleet: Scene) -> None:
    told = life(Broken(fleet), fleet, ordered(UP, fleet))
    alerts = [each for each in told if isinstance(each, Alert)]
    assert [each.name for each in alerts][:1] == ["action_troubled"]
    assert "ZeroDivisionError: a bug" in alerts[0].summary
