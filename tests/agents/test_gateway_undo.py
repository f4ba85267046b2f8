"""A limit at a gateway is loosened on fresh evidence that it does not help, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.core.moves import Save
from agents.core.steps import open_tokens
from contracts.events import Plan, Refusal
from contracts.ledger import Mark, Phase
from contracts.ports import Observation, StepState
from tests.agents.saga_help import NOW, SEEN, action, check, look, record, reports, sli
from tests.agents.test_gateway_kinds import QUEUE, candidate, held_back, limits, use

STANDS = Observation(at_ms=NOW, serving=(), settings={"gateway": {"max_in_flight": 96.0, "max_context_tokens": 0.0}})
KILLED, BY_HAND = {"barred": Refusal.KILL_SWITCH}, {"seen": replace(STANDS, manual_changes=1)}
THEIRS = {"seen": replace(STANDS, manual_changes=1, settings={"gateway": {"max_in_flight": 20.0}})}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "undo 0"),
        (use(0.80, 100), "held_unverified preempted"),
        ({"evidence": {}}, "held_unverified preempted no_evidence"),
        (use(0.95, 100) | {"now_ms": NOW + 400_000}, "held_unverified preempted no_evidence"),
        ({"evidence": {60: sli(NOW + 30_000, 60, kv_cache_usage_ratio=0.95)}}, "held_unverified preempted no_evidence"),
        (KILLED, "held_unverified preempted kill_switch"),
        (BY_HAND, "held_unverified preempted manual_change"),
        (THEIRS, "undo 0"),  # which changes nothing: what others have set stays
        ({"stop": "another goes before it"}, "undo 0"),
    ],
)
def test_a_limit_is_loosened_only_on_fresh_evidence_that_it_does_not_help(change: Any, expected: str) -> None:
    undoing = held_back(Phase.UNDOING, Mark.DONE, reasons=("preempted",))
    sight = {"seen": STANDS, "reports": reports(undoing, StepState.DONE)} | use(0.95, 100)
    check(undoing, look(sight | change), expected)


def test_who_was_stopped_by_people_loosens_nothing_though_they_let_it_go_on() -> None:
    undoing = held_back(Phase.UNDOING, Mark.DONE, reasons=("kill_switch",))
    sight = {"seen": STANDS, "reports": reports(undoing, StepState.DONE)} | use(0.95, 100)
    check(undoing, look(sight), "held_unverified kill_switch")


def test_an_undo_that_was_ordered_on_evidence_is_given_again_without_but_not_under_the_kill_switch() -> None:
    undoing = held_back(Phase.UNDOING, Mark.UNDO_INTENDED)
    told = reports(undoing, StepState.DONE) | reports(undoing, StepState.UNKNOWN, undo=True)
    sight = {"seen": STANDS, "reports": told} | use(0.80, 100)
    check(undoing, look(sight), "undo 0")
    check(undoing, look(sight | KILLED), "held_unverified kill_switch")


def test_what_tightens_is_set_back_without_evidence_and_a_queue_that_never_came_is_called_off() -> None:
    spec, step = candidate(QUEUE, 0.0).spec, limits({"max_in_flight": 0.0}, before={"max_in_flight": 96.0})
    plan = Plan(steps=(step,), replicas_before=0, manual_changes=0)
    lifted = record(spec, Phase.UNDOING, plan=plan, marks=(Mark.DONE,), action=action(spec))
    check(lifted, look({"evidence": {}, "reports": reports(lifted, StepState.DONE)} | KILLED), "undo 0")
    never = held_back(Phase.UNDOING, Mark.INTENDED)
    check(never, look({"evidence": {}, "reports": reports(never, StepState.UNKNOWN)}), "undo 0")


@pytest.mark.parametrize(
    ("phase", "mark"), [(Phase.APPLYING, Mark.APPLIED), (Phase.TRIAL, Mark.DONE), (Phase.VERIFYING, Mark.DONE)]
)
def test_a_gateway_that_forgot_a_limit_is_told_to_people_and_not_verified(phase: Phase, mark: Mark) -> None:
    forgot = held_back(phase, mark)
    assert forgot.token(0) in open_tokens(forgot)
    sight = look(use(0.80, 100) | {"seen": SEEN, "reports": reports(forgot, StepState.UNKNOWN)})
    move = check(forgot, sight, "held_unverified forgotten")
    assert isinstance(move, Save)
    assert "has forgotten that it was given max_in_flight 96" in move.record.detail
    check(forgot, replace(sight, seen=replace(SEEN, manual_changes=1)), "held_unverified manual_change")
