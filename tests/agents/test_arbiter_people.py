"""What people say to the arbiter: yes, no, too late, twice; another mode; stop."""

from __future__ import annotations

import pytest

from agents.core.arbiter_settings import ArbiterSettings
from contracts.events import (
    Action,
    Alert,
    Answer,
    Approval,
    Candidate,
    ControlKind,
    Decision,
    EndState,
    Message,
    Mode,
    Refusal,
    Verdict,
)
from tests.agents.arbiter_desk import (
    SETTINGS,
    Desk,
    answer,
    by_hand,
    control,
    down,
    ended,
    found,
    judged,
    limited,
    revision,
    settings,
    tick,
    up,
    wall_ms,
)

R = Refusal
KILL, RESUME, MODE = ControlKind.KILL, ControlKind.RESUME, ControlKind.MODE
TTL_EVENT_S = SETTINGS.approval_ttl_wall_s * SETTINGS.anchor.speed


@pytest.mark.parametrize("with_settings", [SETTINGS, settings(default_mode=Mode.ADVISORY)], ids=["asked", "advised"])
def test_a_yes_makes_an_action_in_the_persons_name(with_settings: ArbiterSettings) -> None:
    desk = Desk(with_settings)
    asked = desk.ask(up())
    yes = answer(asked, at_s=20, reason="launch day")
    decision, action = desk.send(tick(20), yes)
    assert isinstance(decision, Decision)
    assert isinstance(action, Action)
    assert (decision.answer, decision.reasons, decision.revision) == (Answer.APPROVED, (), 1)
    assert (decision.decision_id, decision.action_id) == (asked.decision_id, action.id)
    assert (decision.actor, decision.answers) == ("ann", yes.id)
    assert decision.detail == ("approved by ann: launch day",)
    assert decision.expires_wall_ms is None
    assert (action.approved_by, action.start_by_ms) == ("ann", tick(50).at_ms)
    assert [flight.action_id for flight in desk.state.flights] == [action.id]


def test_a_no_refuses_with_the_reason() -> None:
    desk = Desk()
    asked = desk.ask(up())
    decision = revision(desk.send(answer(asked, approve=False, reason="we expect it to pass")))
    assert (decision.answer, decision.reasons, decision.replicas) == (Answer.REFUSED, (R.REJECTED,), 0)
    assert decision.detail == ("rejected by ann: we expect it to pass",)
    assert desk.actions == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_of_two_who_answer_the_second_is_told_how_it_stands(first: bool, second: bool) -> None:
    desk = Desk()
    asked = desk.ask(up())
    stands = revision(desk.send(answer(asked, "ann", approve=first, at_s=1)))
    late = answer(asked, "bob", approve=second, at_s=1)
    decision = revision(desk.send(late))
    assert (decision.answer, decision.reasons, decision.action_id) == (stands.answer, stands.reasons, stands.action_id)
    assert decision.detail == (f"already {'approved' if first else 'rejected'} by ann",)
    assert (decision.actor, decision.answers, decision.revision) == ("ann", late.id, 2)
    assert len(desk.actions) == first


def test_a_repeat_of_an_answer_changes_nothing() -> None:
    desk = Desk()
    yes = answer(desk.ask(up()))
    desk.send(yes)
    assert desk.send(yes) == []


@pytest.mark.parametrize(
    ("first_at_s", "newest_s"), [(0, 600), (700, 799.9)], ids=["older than the newest", "newer than any"]
)
def test_a_fleet_that_tells_all_it_remembers_makes_no_repeat_of_an_answer_or_a_control_count(
    first_at_s: float, newest_s: float
) -> None:
    """Whoever follows a fleet tells of all its changes anew when it starts: more than ids are remembered."""
    desk = Desk()
    desk.send(by_hand(600, number=500))
    yes, kill = answer(desk.ask(up(), at_s=601)), control(KILL, at_s=602)
    desk.send(yes, kill)
    assert desk.send(*(by_hand(first_at_s + n / 10, number=n) for n in range(1000))) == []
    assert desk.send(yes, kill) == []
    assert desk.state.manual_ms == by_hand(newest_s).at_ms


def test_what_nobody_answers_expires_in_wall_time() -> None:
    desk = Desk()
    asked = desk.ask(up())
    assert asked.expires_wall_ms == wall_ms(TTL_EVENT_S)
    assert desk.send(tick(TTL_EVENT_S - 1)) == []
    decision = revision(desk.send(tick(TTL_EVENT_S)))
    assert (decision.answer, decision.code, decision.revision) == (Answer.REFUSED, "expired", 1)
    assert (decision.actor, decision.answers) == ("", "")
    late = revision(desk.send(answer(asked, at_s=TTL_EVENT_S + 1)))
    assert late.reasons == (R.EXPIRED,)
    assert "already expired" in late.detail[0]
    assert desk.actions == []


def test_a_yes_after_expiry_is_too_late_even_before_a_tick_says_so() -> None:
    desk = Desk()
    asked = desk.ask(up())
    decision = revision(desk.send(answer(asked, at_wall_ms=asked.expires_wall_ms)))
    assert (decision.answer, decision.reasons, decision.actor) == (Answer.REFUSED, (R.EXPIRED,), ""), "time refused it"
    assert desk.actions == []
    assert desk.send(tick(TTL_EVENT_S)) == [], "it has been answered"


def test_an_answer_to_what_nobody_was_asked_gets_an_alert() -> None:
    desk = Desk()
    desk.begin(up())
    yes = answer(desk.decisions[0])
    (alert,) = desk.send(yes)
    assert isinstance(alert, Alert)
    assert (alert.name, alert.subject) == ("approval_unknown", yes.id)
    assert "ann approved" in alert.summary
    assert yes.decision_id in alert.summary
    assert desk.send(yes) == []


def test_without_a_controller_a_yes_is_noted_and_nothing_is_done() -> None:
    desk = Desk(settings(has_controller=False))
    asked = desk.ask(up())
    decision = revision(desk.send(answer(asked)))
    assert (decision.answer, decision.reasons) == (Answer.RECOMMENDED, (R.NO_CONTROLLER,))
    assert "by hand" in decision.detail[1]
    assert desk.actions == []
    assert revision(desk.send(answer(asked, "bob"))).detail == ("already accepted by ann",)


@pytest.mark.parametrize(
    ("asked_for", "between", "reasons"),
    [
        (up(), [judged(found(up(rule="queue"), at_s=5))], (R.IN_FLIGHT,)),
        (up(), [by_hand(5)], ()),
        (down(), [by_hand(5)], ()),
        (up(), [tick(900)], ()),
        (up(), [tick(901)], (R.STALE_EVIDENCE,)),
        (up(), [found(up(rule="queue"), at_s=2_990), tick(3_000)], ()),
        (up(), [control(MODE, mode=Mode.ADVISORY, at_s=5)], ()),
        (up(), [found(up(rule="queue"), at_s=5, replicas=8)], (R.AT_MAXIMUM,)),
        (down(), [found(up(rule="queue"), at_s=5, replicas=2)], (R.AT_MINIMUM,)),
    ],
    ids=["in flight", "hand", "hand, down", "count", "old count", "old case", "mode", "maximum", "minimum"],
)
def test_what_may_have_changed_is_looked_at_again(
    asked_for: Candidate, between: list[Message], reasons: tuple[R, ...]
) -> None:
    desk = Desk()
    asked = desk.ask(asked_for)
    desk.send(*between)
    before = len(desk.actions)
    decision = revision(desk.send(answer(asked)))
    assert decision.reasons == reasons
    assert len(desk.actions) == before + (not reasons)
    if reasons:
        assert decision.answer is Answer.REFUSED
        again = revision(desk.send(answer(asked, "bob")))
        assert again.detail == (f"already refused when ann approved: {reasons[0]}",)


def test_a_target_that_rests_rests_for_people_too() -> None:
    desk = Desk()
    action = desk.begin(up(rule="queue"))
    desk.send(ended(action, at_s=10))
    asked = found(at_s=10)
    assert desk.decide(judged(asked, verdict=Verdict.DEMOTE)).reasons == (R.COOLDOWN, R.DEMOTED)
    desk = Desk()
    waits = desk.ask(up())
    action = desk.begin(up(rule="queue"), at_s=1)
    desk.send(ended(action, at_s=10))
    assert revision(desk.send(answer(waits, at_s=11))).reasons == (R.COOLDOWN,)


def test_a_yes_on_a_fleet_that_has_moved_expects_what_is_true_now() -> None:
    desk = Desk(limited(max_replicas=7))
    asked = desk.ask(up(asks=2))
    desk.send(found(up(rule="queue"), at_s=5, replicas=6))
    decision, action = desk.send(answer(asked))
    assert isinstance(decision, Decision)
    assert isinstance(action, Action)
    assert (decision.replicas, decision.detail[1]) == (1, "1 of 2 granted: 6 replicas answer, maximum 7")
    assert (action.spec.replicas, action.spec.effect.expect.value) == (1, 7.0)


def test_a_yes_may_push_a_lower_action_aside() -> None:
    desk = Desk()
    asked = desk.ask(up())
    lower = desk.begin(down(), at_s=1)
    desk.send(answer(asked))
    assert desk.actions[-1].preempts == lower.id


def test_the_mode_that_is_set_holds_for_what_comes_after_it_in_the_log() -> None:
    desk = Desk()
    assert desk.decide(judged(found(at_s=0), confidence=0.6)).mode is Mode.AUTONOMOUS
    desk.send(ended(desk.actions[0], EndState.REFUSED, at_s=1), control(MODE, mode=Mode.SEMI_AUTONOMOUS, at_s=2))
    decision = desk.decide(judged(found(at_s=3), confidence=0.6))
    assert (decision.mode, decision.reasons) == (Mode.SEMI_AUTONOMOUS, (R.LOW_CONFIDENCE,))


def test_a_control_that_is_older_than_what_is_set_changes_nothing_and_is_told_of() -> None:
    desk = Desk()
    newer, older = control(MODE, mode=Mode.ADVISORY, at_s=40), control(MODE, mode=Mode.AUTONOMOUS, at_s=0)
    assert desk.send(newer) == []
    (alert,) = desk.send(older)
    assert isinstance(alert, Alert)
    assert (alert.name, alert.subject) == ("control_ignored", older.id)
    assert "2 s older" in alert.summary
    assert desk.send(older, newer) == []
    assert desk.state.mode is Mode.ADVISORY


def test_the_kill_switch_refuses_all_until_a_person_resumes() -> None:
    desk = Desk()
    desk.send(control(KILL, at_s=0))
    decision = desk.decide(judged(found(at_s=1)))
    assert (decision.reasons, decision.detail[0]) == (
        (R.KILL_SWITCH,),
        "all action on chat was stopped by ann: launch day",
    )
    desk.send(control(RESUME, at_s=2))
    assert desk.decide(judged(found(at_s=3))).answer is Answer.APPROVED


@pytest.mark.parametrize("order", [(KILL, RESUME), (RESUME, KILL)])
def test_of_a_kill_and_a_resume_at_once_the_kill_holds(order: tuple[ControlKind, ControlKind]) -> None:
    desk = Desk()
    desk.send(*(control(kind) for kind in order))
    assert desk.decide(judged(found(at_s=1))).reasons == (R.KILL_SWITCH,)


def test_while_killed_an_open_case_stays_open_and_can_only_be_rejected() -> None:
    desk = Desk()
    first, second = desk.ask(up()), desk.ask(down(), at_s=1)
    desk.send(control(KILL, at_s=2))
    decision = revision(desk.send(answer(first, at_s=3)))
    assert (decision.answer, decision.reasons) == (Answer.NEEDS_APPROVAL, (R.KILL_SWITCH, R.DEMOTED))
    assert decision.expires_wall_ms == first.expires_wall_ms
    assert revision(desk.send(answer(second, approve=False, at_s=4))).reasons == (R.REJECTED,)
    assert desk.actions == []
    desk.send(control(RESUME, at_s=5))
    again = revision(desk.send(answer(first, at_s=6)))
    assert (again.answer, again.revision) == (Answer.APPROVED, 2)


def test_every_answer_of_many_people_gets_exactly_one_message() -> None:
    desk = Desk()
    asked = desk.ask(up())
    said: list[Approval] = [answer(asked, f"person-{n}", approve=n % 3 > 0, at_s=n) for n in range(12)]
    for each in said:
        assert [
            message.model_dump().get("answers") for message in desk.send(each) if isinstance(message, Decision)
        ] == [each.id]
    assert len(desk.actions) == 0, "the first said no"
