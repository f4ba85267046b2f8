"""What limits leave of what a rule asks for, and what is then expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.arbiter_limits import grant, granted_spec
from agents.core.arbiter_settings import Limits
from contracts.events import ActionKind, Answer, Candidate
from contracts.laws.bounds import Bound, Comparator
from tests.agents.arbiter_desk import Desk, down, found, judged, limited, up

UP, DOWN = ActionKind.SCALE_UP, ActionKind.SCALE_DOWN


@pytest.mark.parametrize(
    ("kind", "wanted", "replicas", "limits", "granted"),
    [
        (UP, 1, 4, Limits(max_replicas=8), 1),
        (UP, 4, 4, Limits(max_replicas=8), 4),
        (UP, 5, 4, Limits(max_replicas=8), 4),
        (UP, 1, 8, Limits(max_replicas=8), 0),
        (UP, 1, 9, Limits(max_replicas=8), 0),
        (UP, 7, 4, Limits(), 7),
        (DOWN, 1, 4, Limits(min_replicas=2), 1),
        (DOWN, 2, 4, Limits(min_replicas=2), 1),
        (DOWN, 2, 10, Limits(min_replicas=2), 2),
        (DOWN, 3, 10, Limits(min_replicas=2), 2),
        (DOWN, 3, 14, Limits(min_replicas=2), 2),
        (DOWN, 3, 15, Limits(min_replicas=2), 3),
        (DOWN, 99, 100, Limits(min_replicas=2, max_step_down_ratio=0.29), 29),
        (DOWN, 9, 10, Limits(min_replicas=8, max_step_down_ratio=1.0), 2),
        (DOWN, 9, 10, Limits(max_step_down_ratio=1.0), 9),
        (DOWN, 1, 1, Limits(), 0),
        (DOWN, 1, 0, Limits(), 0),
        (DOWN, 1, 2, Limits(min_replicas=2), 0),
        (DOWN, 1, 1, Limits(min_replicas=2), 0),
    ],
)
def test_a_grant_keeps_the_limits(kind: ActionKind, wanted: int, replicas: int, limits: Limits, granted: int) -> None:
    given = grant(kind, wanted, replicas, limits)
    assert given.replicas == granted
    assert bool(given.words) == (granted != wanted)


@given(
    kind=st.sampled_from(ActionKind),
    wanted=st.integers(1, 1000),
    replicas=st.integers(0, 1000),
    least=st.integers(1, 500),
    room=st.integers(0, 500),
    ratio=st.floats(0.01, 1.0),
)
def test_no_grant_leaves_the_limits_or_exceeds_what_was_asked(
    kind: ActionKind, wanted: int, replicas: int, least: int, room: int, ratio: float
) -> None:
    limits = Limits(min_replicas=least, max_replicas=least + room, max_step_down_ratio=ratio)
    given = grant(kind, wanted, replicas, limits).replicas
    assert 0 <= given <= wanted
    if given and kind is UP:
        assert replicas + given <= least + room
    if given and kind is DOWN:
        assert replicas - given >= least
        assert given == 1 or given <= replicas * ratio + 1e-6


@pytest.mark.parametrize(
    ("candidate", "granted", "moved", "expected"),
    [
        (up(asks=3, seen=4), 3, 0, 7.0),
        (up(asks=3, seen=4), 1, 0, 5.0),
        (up(asks=3, seen=4), 3, 2, 9.0),
        (up(asks=3, seen=4), 2, -1, 5.0),
        (down(asks=3, seen=10), 3, 0, 7.0),
        (down(asks=3, seen=10), 1, 0, 9.0),
        (down(asks=3, seen=10), 2, -1, 7.0),
    ],
)
def test_what_is_expected_of_the_replicas_follows_what_is_granted(
    candidate: Candidate, granted: int, moved: int, expected: float
) -> None:
    spec = granted_spec(candidate.spec, granted, moved)
    assert (spec.replicas, spec.effect.expect.value) == (granted, expected)
    before = candidate.spec.effect
    assert spec.effect.model_copy(update={"expect": before.expect}) == before


def test_what_is_expected_of_anything_else_stays() -> None:
    load = Bound(sli="load_per_replica", size_s=0, comparator=Comparator.LE, value=6.0)
    spec = up(asks=3).spec
    spec = spec.model_copy(update={"effect": spec.effect.model_copy(update={"expect": load})})
    assert granted_spec(spec, 1, 5).effect.expect == load


def test_a_candidate_that_asks_for_too_much_gets_what_there_is_room_for() -> None:
    desk = Desk(limited(max_replicas=6))
    decision = desk.decide(judged(found(up(asks=3))))
    assert (decision.answer, decision.replicas, decision.reasons) == (Answer.APPROVED, 2, ())
    assert decision.detail[-1] == "2 of 3 granted: 4 replicas answer, maximum 6"
    assert decision.candidate.spec.replicas == 3, "the decision tells what was asked"
    spec = desk.actions[0].spec
    assert (spec.replicas, spec.effect.expect.value) == (2, 6.0)
