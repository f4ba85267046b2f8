"""Plans for a change of settings or shares: what was granted and no more, on a fleet that bears it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.moves import Draft, Save
from contracts.events import ActionSpec, PlanStep, StepKind
from contracts.ledger import Mark, Phase
from contracts.ports import Observation
from tests.agents.saga_help import NOW, ROUTE, SEEN, TUNE, action, check, plan_for, record, view

U, D = Mark.UNTOUCHED, Mark.DONE


def draft_of(spec: ActionSpec, **changes: Any) -> dict[str, Any]:
    plan = plan_for(spec)
    return {"draft": Draft(plan.model_copy(update=changes), SEEN)}


def step(**changes: Any) -> PlanStep:
    values = {"kind": StepKind.RETUNE, "subject": "chat-0", "settings": {"max_num_seqs": 64.0}}
    return PlanStep(**(values | changes))


BAD_PLANS = [
    (TUNE, {"steps": (PlanStep(kind=StepKind.ADD),)}, "a tune restarts replicas"),
    (TUNE, {"steps": (step(final=True),)}, "a tune restarts replicas in steps that can be taken back"),
    (TUNE, {"steps": (step(settings={"max_num_seqs": 65.0}),)}, "its settings are not those that were granted"),
    (TUNE, {"steps": (step(subject="chat-2"),)}, "it restarts chat-2, granted were chat-0, chat-1"),
    (TUNE, {"steps": (step(), step())}, "it restarts chat-0, chat-0, granted were"),
    (TUNE, {"steps": (step(subject=""), step())}, "those to be launched are set after those that serve"),
    (TUNE, {"replicas_before": 1}, "the last replica in service is not restarted"),
    (ROUTE, {"steps": (step(),)}, "a route sets the shares that were granted"),
    (ROUTE, {"steps": (PlanStep(kind=StepKind.WEIGH, by_replica={"chat-0": 1.0}),)}, "a route sets the shares"),
]


@pytest.mark.parametrize(("spec", "changes", "said"), BAD_PLANS, ids=[said for _, _, said in BAD_PLANS])
def test_a_plan_that_does_other_things_than_were_granted_is_refused(
    spec: ActionSpec, changes: dict[str, Any], said: str
) -> None:
    end = check(record(spec), view(**draft_of(spec, **changes)), "refused dry_run_failed")
    assert isinstance(end, Save)
    assert said in end.record.detail


NEW_ONES = step(subject="")
KEEPS = "it sets those to be launched, and chat-2 would serve without these settings"


@pytest.mark.parametrize(
    ("change", "settings", "expected"),
    [
        ({}, {}, "refused dry_run_failed"),
        ({}, {"chat-2": {"max_num_seqs": 256.0}}, "refused dry_run_failed"),
        ({}, {"chat-2": {"max_num_seqs": 64.0}}, "planned u u u"),
        ({"restores": True}, {}, "planned u u u"),
    ],
)
def test_new_ones_are_launched_with_what_all_that_serve_come_to_have(
    change: dict[str, Any], settings: dict[str, Any], expected: str
) -> None:
    spec = TUNE.model_copy(update=change)
    steps = (*plan_for(spec).steps, NEW_ONES)
    fleet = replace(SEEN, settings=settings)
    draft = Draft(plan_for(spec).model_copy(update={"steps": steps}), fleet)
    move = check(record(spec), view(draft=draft), expected)
    assert isinstance(move, Save)
    assert (KEEPS in move.record.detail) == (expected != "planned u u u")


def test_a_plan_for_new_ones_alone_is_refused_where_those_that_serve_keep_theirs() -> None:
    end = check(record(TUNE), view(**draft_of(TUNE, steps=(NEW_ONES,))), "refused dry_run_failed")
    assert isinstance(end, Save)
    assert "chat-0, chat-1, chat-2 would serve without" in end.record.detail
    all_set = replace(SEEN, settings={name: {"max_num_seqs": 64.0} for name in SEEN.serving})
    plan = plan_for(TUNE).model_copy(update={"steps": (NEW_ONES,)})
    check(record(TUNE), view(draft=Draft(plan, all_set)), "planned u")


def test_setting_those_to_be_launched_waits_for_no_capacity() -> None:
    plan = plan_for(TUNE).model_copy(update={"steps": (*plan_for(TUNE).steps, NEW_ONES)})
    full = action(TUNE, least_replicas=4)
    last = record(TUNE, Phase.APPLYING, plan=plan, marks=(D, D, U), action=full, applied_ms=NOW)
    check(last, view(), "call 2")


def test_nothing_is_restarted_where_one_less_is_too_few() -> None:
    recorded = record(TUNE, action=action(TUNE, least_replicas=3))
    check(recorded, view(**draft_of(TUNE)), "refused at_minimum")
    check(record(TUNE), view(**draft_of(TUNE)), "planned u u")


@pytest.mark.parametrize("phase", [Phase.RECORDED, Phase.PLANNED])
@pytest.mark.parametrize("changing", [replace(SEEN, starting=("chat-3",)), replace(SEEN, draining=("chat-3",))])
def test_nothing_is_restarted_on_a_fleet_that_changes(phase: Phase, changing: Observation) -> None:
    sight = view(seen=changing, draft=Draft(plan_for(TUNE), changing))
    end = check(record(TUNE, phase), sight, "refused in_flight")
    assert isinstance(end, Save)
    assert "chat-3 start or drain" in end.record.detail
    check(
        record(ROUTE, phase),
        view(seen=changing, draft=Draft(plan_for(ROUTE), changing)),
        {Phase.RECORDED: "planned u", Phase.PLANNED: "call 0"}[phase],
    )
