"""Cases that wait for people: which proposal takes whose place, and of which a yes or a no is said."""

from __future__ import annotations

import pytest

from contracts.events import (
    Answer,
    ControlKind,
    Decision,
    Refusal,
    Verdict,
)
from tests.agents.arbiter_desk import (
    SETTINGS,
    Desk,
    answer,
    control,
    down,
    found,
    judged,
    revision,
    up,
)

R = Refusal
KILL, RESUME, MODE = ControlKind.KILL, ControlKind.RESUME, ControlKind.MODE
TTL_EVENT_S = SETTINGS.approval_ttl_wall_s * SETTINGS.anchor.speed


def test_a_newer_proposal_of_a_rule_takes_the_place_of_the_open_one() -> None:
    desk = Desk()
    old = desk.ask(up())
    other = desk.ask(down(), at_s=1)
    asked = found(at_s=60)
    new, closed = desk.send(judged(asked, verdict=Verdict.DEMOTE))
    assert isinstance(new, Decision)
    assert isinstance(closed, Decision)
    assert (closed.decision_id, closed.reasons) == (old.decision_id, (R.SUPERSEDED,))
    assert closed.detail == (f"superseded by {new.decision_id}",)
    still_open = [each.decision.decision_id for each in desk.state.cases if not each.closed]
    assert still_open == [other.decision_id, new.decision_id]


def test_a_rule_that_acts_alone_at_last_closes_its_open_case() -> None:
    desk = Desk()
    old = desk.ask(up())
    _, _, closed = desk.send(judged(found(at_s=60)))
    assert isinstance(closed, Decision)
    assert (closed.decision_id, closed.code) == (old.decision_id, "superseded")
    late = revision(desk.send(answer(old, at_s=61)))
    assert (late.answer, late.reasons, late.actor) == (Answer.REFUSED, (R.SUPERSEDED,), "")
    assert late.detail[1] == f"nobody is asked about that one: optiinfra explain {desk.actions[0].decision_id}"


def test_a_yes_to_a_case_is_a_yes_to_the_one_in_its_place_that_asks_the_same() -> None:
    desk = Desk()
    first, _, last = (desk.ask(up(), at_s=60 * n) for n in range(3))
    yes = answer(first, at_s=121, reason="launch day")
    decision = revision(desk.send(yes))
    assert (decision.answer, decision.decision_id, decision.answers) == (Answer.APPROVED, last.decision_id, yes.id)
    assert (decision.actor, decision.action_id) == ("ann", desk.actions[0].id)
    said = f"(said of {first.decision_id}, in whose place this one is)"
    assert decision.detail == (f"approved by ann: launch day {said}",)
    late = revision(desk.send(answer(first, "bob", at_s=122)))
    assert late.detail == (f"already superseded by {first_after(desk, first)}", "and that one is approved by ann")
    assert (late.answer, late.actor) == (Answer.REFUSED, "")
    assert len(desk.actions) == 1


def first_after(desk: Desk, case: Decision) -> str:
    """The decision that took the place of this one."""
    return str(desk.state.case(case.decision_id).successor)


@pytest.mark.parametrize(("yes", "command"), [(True, "approve"), (False, "reject")])
def test_what_was_said_of_a_case_is_not_said_of_one_that_asks_for_more_which_is_named(yes: bool, command: str) -> None:
    desk = Desk()
    old, new = desk.ask(up(asks=1)), desk.ask(up(asks=2), at_s=60)
    decision = revision(desk.send(answer(old, approve=yes, at_s=61)))
    assert (decision.answer, decision.decision_id, decision.actor) == (Answer.REFUSED, old.decision_id, "")
    assert decision.detail == (
        f"already superseded by {new.decision_id}",
        f"waiting in its place, scale_up by 2: optiinfra {command} {new.decision_id}",
    )
    assert desk.actions == []
    assert revision(desk.send(answer(new, at_s=62))).answer is Answer.APPROVED


def test_a_no_is_said_of_one_case_only() -> None:
    desk = Desk()
    old, new = desk.ask(up()), desk.ask(up(), at_s=60)
    assert "optiinfra reject" in revision(desk.send(answer(old, approve=False, at_s=61))).detail[1]
    assert revision(desk.send(answer(new, at_s=62))).answer is Answer.APPROVED


def test_an_older_proposal_does_not_take_the_place_of_a_newer_one() -> None:
    desk = Desk()
    late = found(at_s=0)
    newer = desk.ask(up(), at_s=30)
    decision = desk.decide(judged(late, verdict=Verdict.DEMOTE))
    assert decision.reasons[0] is R.OUTRANKED
    assert newer.decision_id in decision.detail[0]


def test_a_refused_proposal_leaves_the_open_case_open() -> None:
    desk = Desk()
    old = desk.ask(up())
    desk.decide(judged(found(at_s=60), verdict=Verdict.VETO))
    assert revision(desk.send(answer(old, at_s=61))).answer is Answer.APPROVED


def test_of_too_many_open_cases_the_oldest_is_closed() -> None:
    desk = Desk()
    cases = [desk.ask(up(rule=f"rule-{n}"), at_s=n) for n in range(8)]
    _, closed = desk.send(judged(found(up(rule="one-more"), at_s=9), verdict=Verdict.DEMOTE))
    assert isinstance(closed, Decision)
    assert (closed.decision_id, closed.reasons) == (cases[0].decision_id, (R.EXPIRED,))


def test_a_case_that_was_looked_at_while_killed_is_no_younger_for_it() -> None:
    desk = Desk()
    cases = [desk.ask(up(rule=f"rule-{n}"), at_s=n) for n in range(8)]
    desk.send(control(KILL, at_s=8), answer(cases[0], at_s=9), control(RESUME, at_s=10))
    _, closed = desk.send(judged(found(up(rule="one-more"), at_s=11), verdict=Verdict.DEMOTE))
    assert closed.model_dump()["decision_id"] == cases[0].decision_id
