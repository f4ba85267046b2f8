"""An action that is only followed: its orders were all taken, its target is free, and others go on beside it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from agents.core.moves import Call, Save, Wait
from agents.core.saga import next_move
from agents.core.undo import taken_back
from contracts.ledger import Mark, Phase
from contracts.ports import StepState
from tests.agents.saga_help import DOWN, NOW, QUIET, UP, check, evidence, look, record, reports, view

U, IN, A, D = Mark.UNTOUCHED, Mark.INTENDED, Mark.APPLIED, Mark.DONE
UNKNOWN, RUNNING, DONE, FAILED = StepState.UNKNOWN, StepState.RUNNING, StepState.DONE, StepState.FAILED
TWO_UP = UP.model_copy(update={"replicas": 2})
LATE_UP = NOW + 120_000


@pytest.mark.parametrize(
    ("gone", "replicas", "now_ms", "expected"),
    [
        (1, 3, NOW + 10_000, "verified expect_met"),
        (1, 2, LATE_UP, "undoing lied"),
        (2, 2, NOW + 10_000, "verified expect_met"),
        (0, 3, NOW + 10_000, "wait"),
    ],
)
def test_what_others_took_back_is_not_asked_of_an_action(
    gone: int, replicas: float, now_ms: int, expected: str
) -> None:
    """Its rule may have counted replicas of a scale-up before it that were taken away since."""
    sight = look({"now_ms": now_ms, "evidence": evidence(now_ms, replicas), "gone": gone})
    move = check(record(UP.model_copy(update={"goal": None}), Phase.VERIFYING, D), sight, expected)
    if isinstance(move, Save):
        assert f"{gone} replicas beside its own were taken back" in move.record.detail


def test_an_expectation_of_another_sli_is_kept_whatever_others_took_back() -> None:
    effect = UP.effect.model_copy(update={"expect": QUIET, "goal": None})
    spec = UP.model_copy(update={"effect": effect})
    now_ms = NOW + 10_000
    check(record(spec, Phase.VERIFYING, D), view(now_ms, evidence=evidence(now_ms, load=7), gone=3), "wait")


@pytest.mark.parametrize(
    ("spec", "phase", "marks", "followed"),
    [
        (TWO_UP, Phase.APPLYING, (A, A), True),
        (TWO_UP, Phase.APPLYING, (D, A), True),
        (TWO_UP, Phase.VERIFYING, (D, D), True),
        (TWO_UP, Phase.APPLYING, (D, IN), False),
        (TWO_UP, Phase.APPLYING, (A, U), False),
        (TWO_UP, Phase.UNDOING, (A, A), False),
        (TWO_UP, Phase.ENDED, (D, D), False),
        (TWO_UP, Phase.PLANNED, (), False),
        (DOWN, Phase.APPLYING, (A, A), False),
        (DOWN, Phase.VERIFYING, (D, D), False),
    ],
)
def test_a_scale_up_is_only_followed_once_all_its_orders_are_taken(
    spec: Any, phase: Phase, marks: tuple[Mark, ...], followed: bool
) -> None:
    assert record(spec, phase, *marks).followed is followed


@pytest.mark.parametrize("marks", [(A, A), (D, A), (D, D)])
def test_one_that_is_followed_gives_no_more_orders_but_to_take_them_back(marks: tuple[Mark, ...]) -> None:
    before = record(TWO_UP, Phase.APPLYING, *marks)
    for states in product((None, UNKNOWN, RUNNING, DONE, FAILED), repeat=2):
        for now_ms in (NOW + 1000, LATE_UP):
            move = next_move(before, look({"now_ms": now_ms, "reports": reports(before, *states)}))
            assert not isinstance(move, Call)
            assert isinstance(move, Wait) or move.record.followed or move.record.phase in (Phase.UNDOING, Phase.ENDED)


@pytest.mark.parametrize(
    ("spec", "phase", "marks", "count"),
    [
        (TWO_UP, Phase.UNDOING, (D, Mark.UNDO_INTENDED), 1),
        (TWO_UP, Phase.UNDOING, (Mark.UNDO_APPLIED, Mark.UNDONE), 2),
        (TWO_UP, Phase.ENDED, (D, Mark.UNDONE), 1),
        (TWO_UP, Phase.VERIFYING, (D, D), 0),
        (DOWN, Phase.UNDOING, (Mark.UNDONE, U), 0),
        (UP, Phase.RECORDED, (), 0),
    ],
)
def test_what_was_taken_back_is_counted_from_the_moment_it_is_meant_to_be(
    spec: Any, phase: Phase, marks: tuple[Mark, ...], count: int
) -> None:
    assert taken_back(record(spec, phase, *marks)) == count
