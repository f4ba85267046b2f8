"""Reviewer and executor under the virtual driver: an action is carried to its end between two messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.reviewer.deterministic import DeterministicReviewer
from contracts.events import Action, Alert, AuditEntry, ControlKind, EndState, Message, Outcome, PlanStep, Tick
from contracts.ledger import ClaimLimits
from contracts.ports import Controller
from optiinfra.replay.acting import Acting
from optiinfra.replay.hands import SceneController
from optiinfra.replay.scene import Scene
from optiinfra.replay.virtual import VirtualClock, VirtualDriver
from tests.agents.ledger_help import control
from tests.agents.saga_help import DOWN, UP, action, sli
from tests.optiinfra.replay.test_scene import scene

Tell = Callable[[int, Scene], list[Message]]


def life(controller: Controller, fleet: Scene, first: list[Message], until_s: int = 400) -> list[Message]:
    """A driver with the executor alone: SLIs that tell the truth and a tick every 5 s. All messages but those."""
    clock, heard = VirtualClock(), []
    begin_ms = fleet.options.begin_ms
    limits = ClaimLimits(lease_s=30)
    with Acting(DeterministicReviewer(), controller, clock, limits=limits, max_age_s=30.0) as acting:
        driver = clock.driver = VirtualDriver((), acting.readers, heard=heard.append)
        for at_s in range(5, until_s, 5):
            fleet.advance(at_s)
            at_ms = begin_ms + at_s * 1000
            up = len(fleet.names(*(each.phase for each in fleet.present if each.has_served)))
            driver.put([sli(at_ms, replicas_up=up, load_per_replica=2), sli(at_ms, 10, ttft_burn_rate=0.5)])
            driver.put([Tick(at_ms=at_ms, partition=0), *(first if at_s == 10 else ())])
            driver.run(at_ms)
    return [each for each in heard if isinstance(each, Action | Outcome | Alert | AuditEntry)]


def ordered(spec: object, fleet: Scene) -> Action:
    at_ms = fleet.options.begin_ms + 10_000
    return action(spec, at_ms=at_ms, cause_ms=at_ms, start_by_ms=at_ms + 30_000)  # type: ignore[arg-type]


@pytest.fixture
def fleet() -> Scene:
    return scene([0] * 600, 3, startup_s=60, drain_s=30)


def test_capacity_is_added_and_verified_by_what_is_measured(fleet: Scene) -> None:
    told = life(SceneController(fleet), fleet, [ordered(UP, fleet)])
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert outcome.end_state is EndState.VERIFIED
    assert outcome.began_ms == fleet.options.begin_ms + 10_000
    assert outcome.at_ms == fleet.options.begin_ms + 70_000, "ready at 70 s, and seen to answer at once"
    assert [each.what for each in told if isinstance(each, AuditEntry)][:2] == ["epoch_begun", "recorded"]


def test_capacity_is_drained_tried_and_removed(fleet: Scene) -> None:
    told = life(SceneController(fleet), fleet, [ordered(DOWN, fleet)])
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert (outcome.end_state, outcome.steps_applied) == (EndState.VERIFIED, 2)
    assert len(fleet.present) == 2
    assert outcome.at_ms >= fleet.options.begin_ms + (10 + 30 + 30) * 1000, "drained, and on trial as long as settles"


def test_the_kill_switch_keeps_an_action_from_beginning(fleet: Scene) -> None:
    at_ms = fleet.options.begin_ms
    killed = control(ControlKind.KILL, at_ms, at_ms=at_ms + 9_000)
    told = life(SceneController(fleet), fleet, [killed, ordered(UP, fleet)])
    (outcome,) = [each for each in told if isinstance(each, Outcome)]
    assert (outcome.end_state, outcome.reasons[0]) == (EndState.REFUSED, "kill_switch")
    assert len(fleet.present) == 3


class Broken(SceneController):
    """A controller with a fault of its own."""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        raise ZeroDivisionError("a bug")


def test_people_are_told_of_an_action_that_cannot_be_carried_on(fleet: Scene) -> None:
    told = life(Broken(fleet), fleet, [ordered(UP, fleet)])
    alerts = [each for each in told if isinstance(each, Alert)]
    assert [each.name for each in alerts][:1] == ["action_troubled"]
    assert "ZeroDivisionError: a bug" in alerts[0].summary
