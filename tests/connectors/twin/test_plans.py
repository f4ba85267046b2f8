"""The steps that the twin's controller plans for an action on the fleet that it sees."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.twin.controller import plan
from contracts.errors import ConfigError
from contracts.events import Action, ActionKind, ActionSpec, Effect, Mode, PlanStep, StepKind
from contracts.laws.bounds import Bound, Comparator
from contracts.ports import Observation

ADD = PlanStep(kind=StepKind.ADD)


def action(kind: ActionKind, replicas: int) -> Action:
    bound = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=1.0)
    spec = ActionSpec(kind=kind, replicas=replicas, effect=Effect(expect=bound, by_s=60))
    names = {"workload": "chat", "target": "chat/replicas", "candidate_id": "c", "decision_id": "d", "rule": "r"}
    times = {"at_ms": 1, "cause_ms": 1, "start_by_ms": 2}
    return Action(priority=1, spec=spec, mode=Mode.AUTONOMOUS, approved_by="mode:autonomous", **names, **times)  # type: ignore[arg-type]  # by name


def seen(*serving: str, **more: Any) -> Observation:
    return Observation(at_ms=1, serving=serving, manual_changes=7, **more)


def test_a_scale_up_is_so_many_adds() -> None:
    made = plan(action(ActionKind.SCALE_UP, 2), seen("chat-0"))
    assert made.steps == (ADD, ADD)
    assert (made.replicas_before, made.manual_changes) == (1, 7)


@pytest.mark.parametrize(
    ("in_flight", "count", "chosen"),
    [
        ({}, 1, ["chat-3"]),
        ({"chat-0": 2, "chat-1": 1, "chat-2": 1, "chat-3": 5}, 1, ["chat-2"]),
        ({"chat-0": 2, "chat-1": 1, "chat-2": 1, "chat-3": 5}, 3, ["chat-2", "chat-1", "chat-0"]),
        ({"chat-0": 0, "chat-1": 1, "chat-2": 1, "chat-3": 1}, 2, ["chat-0", "chat-3"]),
    ],
)
def test_a_scale_down_drains_the_idlest_of_the_newest_before_it_removes_any(
    in_flight: dict[str, int], count: int, chosen: list[str]
) -> None:
    there = seen("chat-0", "chat-1", "chat-2", "chat-3", draining=("chat-9",), in_flight=in_flight)
    made = plan(action(ActionKind.SCALE_DOWN, count), there)
    drains = [PlanStep(kind=StepKind.DRAIN, subject=name) for name in chosen]
    removes = [PlanStep(kind=StepKind.REMOVE, subject=name, final=True) for name in chosen]
    assert list(made.steps) == drains + removes
    assert made.replicas_before == 4


@pytest.mark.parametrize(
    ("kind", "count", "there"),
    [
        (ActionKind.SCALE_DOWN, 2, 2),
        (ActionKind.SCALE_DOWN, 1, 0),
        (ActionKind.SCALE_DOWN, 51, 99),
        (ActionKind.SCALE_UP, 101, 1),
    ],
)
def test_no_plan_leaves_nobody_in_service_or_has_more_steps_than_a_plan_may(
    kind: ActionKind, count: int, there: int
) -> None:
    with pytest.raises(ConfigError):
        plan(action(kind, count), seen(*(f"chat-{n}" for n in range(there))))


SETTINGS = {"max_num_seqs": 16.0}


def named(kind: ActionKind, **by_replica: float) -> Action:
    """An action on the replicas `chat_0` and so on."""
    names = {name.replace("_", "-"): value for name, value in by_replica.items()}
    settings = SETTINGS if kind is ActionKind.TUNE else {}
    one = action(ActionKind.SCALE_UP, 1)
    fields = {"kind": kind, "replicas": len(names), "settings": settings, "by_replica": names}
    return one.model_copy(update={"spec": one.spec.model_copy(update=fields)})


def test_a_tune_is_a_step_for_each_replica_that_serves_and_has_other_settings() -> None:
    there = seen("chat-0", "chat-1", "chat-2", settings={"chat-1": {"max_num_seqs": 16.0, "max_num_batched_tokens": 1}})
    made = plan(named(ActionKind.TUNE, chat_0=1, chat_1=1, chat_9=1), there)
    assert made.steps == (PlanStep(kind=StepKind.RETUNE, subject="chat-0", settings=SETTINGS),)
    assert (made.replicas_before, made.manual_changes) == (3, 7)


OLD, TIERS = {"max_num_seqs": 64.0}, {"kv_offloading_size": 0.0}
NEW_ONES = PlanStep(kind=StepKind.RETUNE, settings=SETTINGS)


@pytest.mark.parametrize(
    ("flags", "launched_with", "new_ones"),
    [
        ([OLD, OLD, SETTINGS], OLD, True),
        ([OLD, SETTINGS, SETTINGS], OLD, True),
        ([SETTINGS, SETTINGS, SETTINGS], OLD, True),
        ([OLD, OLD, OLD], OLD, False),
        ([OLD, SETTINGS, OLD], OLD, False),
        ([OLD, OLD, SETTINGS], SETTINGS, False),
        ([OLD, OLD, SETTINGS], None, False),
    ],
)
def test_what_all_that_serve_come_to_have_new_replicas_are_launched_with(
    flags: list[dict[str, float]], launched_with: dict[str, float] | None, new_ones: bool
) -> None:
    names = [f"chat-{number}" for number in range(3)]
    there = seen(*names, settings=dict(zip(names, flags, strict=True)), launched_with=launched_with)
    made = plan(named(ActionKind.TUNE, chat_0=1, chat_1=1), there)
    restarts = [PlanStep(kind=StepKind.RETUNE, subject=name, settings=SETTINGS) for name in names[:2]]
    others = [step for step, had in zip(restarts, flags, strict=False) if had != SETTINGS]
    assert list(made.steps) == [*others, *([NEW_ONES] if new_ones else [])]


@pytest.mark.parametrize(("launched_with", "new_ones"), [(OLD, True), ({"max_num_seqs": 32.0}, False)])
def test_the_first_replica_that_a_bad_setting_is_taken_from_frees_new_ones_of_it_too(
    launched_with: dict[str, float], new_ones: bool
) -> None:
    names = ("chat-0", "chat-1", "chat-2")
    there = seen(*names, settings=dict.fromkeys(names, OLD), launched_with=launched_with)
    asked = named(ActionKind.TUNE, chat_0=1)
    asked = asked.model_copy(update={"spec": asked.spec.model_copy(update={"restores": True})})
    assert (plan(asked, there).steps[-1] == NEW_ONES) == new_ones


@pytest.mark.parametrize(("many", "launched_with", "steps"), [(99, OLD, 100), (100, None, 100), (100, OLD, None)])
def test_new_replicas_are_never_left_out_for_want_of_a_step(
    many: int, launched_with: dict[str, float] | None, steps: int | None
) -> None:
    names = [f"chat-{number}" for number in range(many)]
    there = seen(*names, settings=dict.fromkeys(names, OLD), launched_with=launched_with)
    asked = named(ActionKind.TUNE, **dict.fromkeys(names, 1.0))
    if steps is None:
        with pytest.raises(ConfigError, match="100 replicas take 101 steps, more than 100"):
            plan(asked, there)
    else:
        assert len(plan(asked, there).steps) == steps


def test_a_flag_for_tiers_that_is_not_told_is_none_of_them() -> None:
    there = seen("chat-0", "chat-1", settings={"chat-0": OLD, "chat-1": OLD}, launched_with=OLD)
    asked = named(ActionKind.TUNE, chat_0=1)
    spec = asked.spec.model_copy(update={"settings": OLD | TIERS})
    with pytest.raises(ConfigError, match="chat-0 have these settings already"):
        plan(asked.model_copy(update={"spec": spec}), there)


def test_a_route_is_one_step() -> None:
    made = plan(named(ActionKind.ROUTE, chat_0=0.5, chat_1=0.5), seen("chat-0", "chat-1"))
    assert made.steps == (PlanStep(kind=StepKind.WEIGH, by_replica={"chat-0": 0.5, "chat-1": 0.5}),)


@pytest.mark.parametrize(
    ("asked", "there", "said"),
    [
        (named(ActionKind.TUNE, chat_0=1), seen("chat-0"), "none would be left in service"),
        (named(ActionKind.TUNE, chat_9=1), seen("chat-0", "chat-1"), "chat-9 do not serve"),
        (
            named(ActionKind.TUNE, chat_0=1),
            seen("chat-0", "chat-1", settings={"chat-0": SETTINGS}),
            "chat-0 have these settings already",
        ),
        (named(ActionKind.ROUTE, chat_0=0.5, chat_9=0.5), seen("chat-0"), "shares for chat-9, which do not serve"),
    ],
)
def test_what_cannot_be_done_or_is_done_already_has_no_plan(asked: Action, there: Observation, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(asked, there)
