"""The controller of the simulated fleet keeps its port's promises: tokens, fences, undo, and the last replica stays."""

from __future__ import annotations

import pytest

from contracts.errors import ConfigError, Conflict
from contracts.events import ActionSpec, PlanStep, StepKind
from contracts.ports import StepReport, StepState
from optiinfra.replay.hands import SceneController
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene
from tests.agents.saga_help import DOWN, ROUTE, TUNE, UP, action, plan_for
from tests.optiinfra.replay.test_scene import scene

ADD = PlanStep(kind=StepKind.ADD)


def drain(name: str) -> PlanStep:
    return PlanStep(kind=StepKind.DRAIN, subject=name)


def remove(name: str) -> PlanStep:
    return PlanStep(kind=StepKind.REMOVE, subject=name, final=True)


@pytest.fixture
def fleet() -> Scene:
    return scene([0] * 600, 3, startup_s=60, drain_s=30)


@pytest.fixture
def hands(fleet: Scene) -> SceneController:
    return SceneController(fleet)


async def state(hands: SceneController, token: str) -> StepState:
    return (await hands.inspect(token)).state


async def test_an_added_replica_is_done_when_it_serves(fleet: Scene, hands: SceneController) -> None:
    assert await state(hands, "t") is StepState.UNKNOWN
    await hands.apply("chat", ADD, "t", 1)
    assert await hands.inspect("t") == StepReport(StepState.RUNNING, "chat-3", "starting")
    fleet.advance(59)
    assert await state(hands, "t") is StepState.RUNNING
    fleet.advance(60)
    assert await state(hands, "t") is StepState.DONE
    seen = await hands.observe("chat")
    assert seen.serving == ("chat-0", "chat-1", "chat-2", "chat-3")
    assert seen.at_ms == fleet.options.begin_ms + 60_000


async def test_a_token_that_was_seen_does_nothing_again(fleet: Scene, hands: SceneController) -> None:
    for _ in range(3):
        await hands.apply("chat", ADD, "t", 1)
    assert len(fleet.present) == 4
    with pytest.raises(ConfigError, match="another order"):
        await hands.apply("chat", drain("chat-0"), "t", 1)


async def test_an_old_fence_is_refused(fleet: Scene, hands: SceneController) -> None:
    await hands.apply("chat", ADD, "one", 7)
    with pytest.raises(Conflict, match="older than 7"):
        await hands.apply("chat", ADD, "two", 6)
    with pytest.raises(Conflict):
        await hands.undo("chat", ADD, "one", "undo", 6)
    assert len(fleet.present) == 4


async def test_the_fence_of_another_part_of_the_workload_locks_nobody_out(fleet: Scene, hands: SceneController) -> None:
    weigh = PlanStep(kind=StepKind.WEIGH, by_replica={"chat-0": 1.0})
    with pytest.raises(ConfigError, match="no router"):
        await hands.apply("chat", weigh, "weigh", 9)
    await hands.apply("chat", ADD, "one", 7)
    assert len(fleet.present) == 4
    with pytest.raises(Conflict, match="older than 9"):
        await hands.apply("chat", weigh, "again", 8)


async def test_a_replica_is_drained_and_then_removed(fleet: Scene, hands: SceneController) -> None:
    with pytest.raises(ConfigError, match="chat-2 is serving"):
        await hands.apply("chat", remove("chat-2"), "early", 1)
    await hands.apply("chat", drain("chat-2"), "drain", 1)
    with pytest.raises(ConfigError, match="draining"):
        await hands.apply("chat", remove("chat-2"), "early", 1)
    fleet.advance(30)
    assert await state(hands, "drain") is StepState.DONE
    await hands.apply("chat", remove("chat-2"), "remove", 1)
    assert await state(hands, "remove") is StepState.DONE
    assert await state(hands, "early") is StepState.UNKNOWN, "what was refused leaves no token"
    assert fleet.names(Phase.SERVING, Phase.DRAINING) == ("chat-0", "chat-1")


async def test_the_last_replica_that_serves_is_not_drained(fleet: Scene, hands: SceneController) -> None:
    await hands.apply("chat", drain("chat-0"), "one", 1)
    await hands.apply("chat", drain("chat-1"), "two", 1)
    assert "last replica" in await hands.dry_run("chat", drain("chat-2"))
    with pytest.raises(ConfigError, match="last replica"):
        await hands.apply("chat", drain("chat-2"), "three", 1)
    assert await hands.dry_run("chat", ADD) == ""


async def test_a_drain_is_undone_by_restoring(fleet: Scene, hands: SceneController) -> None:
    await hands.apply("chat", drain("chat-2"), "drain", 1)
    await hands.undo("chat", drain("chat-2"), "drain", "undo", 1)
    assert await state(hands, "undo") is StepState.DONE
    assert await state(hands, "drain") is StepState.FAILED, "it drains no longer"
    assert fleet.names(Phase.SERVING) == ("chat-0", "chat-1", "chat-2")


async def test_an_added_replica_is_undone_by_retiring(fleet: Scene, hands: SceneController) -> None:
    await hands.apply("chat", ADD, "add", 1)
    fleet.advance(60)
    await hands.undo("chat", ADD, "add", "undo", 1)
    assert await state(hands, "undo") is StepState.RUNNING
    fleet.advance(90)
    assert await state(hands, "undo") is StepState.DONE
    assert await state(hands, "add") is StepState.DONE, "it had been ready"
    assert len(fleet.present) == 3


async def test_an_undo_calls_off_an_order_that_never_came(fleet: Scene, hands: SceneController) -> None:
    await hands.undo("chat", ADD, "add", "undo", 1)
    await hands.apply("chat", ADD, "add", 1)
    assert (await hands.inspect("add")).detail == "called off before it came"
    assert await state(hands, "undo") is StepState.DONE
    assert len(fleet.present) == 3


async def test_a_removal_is_not_undone(fleet: Scene, hands: SceneController) -> None:
    with pytest.raises(ConfigError, match="does not come back"):
        await hands.undo("chat", remove("chat-0"), "gone", "undo", 1)


async def test_a_replica_that_is_lost_while_it_starts_failed(fleet: Scene, hands: SceneController) -> None:
    await hands.apply("chat", ADD, "add", 1)
    fleet.retire("chat-3")
    assert await state(hands, "add") is StepState.FAILED


async def test_plans_are_those_of_the_twin(hands: SceneController) -> None:
    seen = await hands.observe("chat")
    assert [step.kind for step in (await hands.plan(action(UP), seen)).steps] == [StepKind.ADD]
    assert [step.subject for step in (await hands.plan(action(DOWN), seen)).steps] == ["chat-2", "chat-2"]


async def test_another_workload_and_an_unknown_replica_are_refused(hands: SceneController) -> None:
    with pytest.raises(ConfigError, match="no workload 'code'"):
        await hands.observe("code")
    with pytest.raises(ConfigError, match="no replica 'chat-9'"):
        await hands.apply("chat", drain("chat-9"), "t", 1)


@pytest.mark.parametrize("spec", [TUNE, ROUTE], ids=["tune", "route"])
async def test_a_fluid_scene_has_neither_settings_nor_shares_and_says_so(
    hands: SceneController, spec: ActionSpec
) -> None:
    (step, *_) = plan_for(spec).steps
    with pytest.raises(ConfigError, match="a fluid scene has no engine settings and no router"):
        await hands.plan(action(spec), await hands.observe("chat"))
    with pytest.raises(ConfigError, match="a fluid scene has no engine settings"):
        await hands.apply("chat", step, "t", 1)
    assert "no engine settings" in await hands.dry_run("chat", step)
    assert await state(hands, "t") is StepState.UNKNOWN
