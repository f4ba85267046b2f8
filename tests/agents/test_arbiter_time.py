"""What time does to the arbiter: deadlines of reviews, sets that are forgotten, clocks that are ahead."""

from __future__ import annotations

from contracts.events import (
    Answer,
    ControlKind,
    EndState,
    Mode,
    Refusal,
)
from tests.agents.arbiter_desk import (
    AT_MS,
    Desk,
    control,
    down,
    ended,
    found,
    judged,
    tick,
    up,
)

R = Refusal


def test_a_set_without_a_review_is_refused_at_its_deadline_and_a_late_review_changes_nothing() -> None:
    desk, asked = Desk(), found()
    assert desk.send(asked, tick(39)) == []
    decision = desk.decide(tick(40))
    assert (decision.answer, decision.code) == (Answer.REFUSED, "no_review")
    assert desk.send(judged(asked)) == []
    assert desk.actions == []


def test_a_late_review_of_a_set_that_nobody_has_seen_is_no_review() -> None:
    desk = Desk()
    desk.begin(up())
    desk.send(ended(desk.actions[0], EndState.REFUSED), tick(50))
    decision = desk.decide(judged(found(at_s=5)))
    assert decision.reasons == (R.NO_REVIEW,)
    assert desk.send(found(at_s=5)) == []


def test_of_too_many_sets_that_wait_the_oldest_is_answered() -> None:
    desk = Desk()
    assert desk.send(*(found(at_s=n) for n in range(16))) == []
    decision = desk.decide(found(at_s=16))
    assert (decision.at_ms, decision.code) == (AT_MS + 16_000, "no_review")
    assert decision.set_id == found(at_s=0).id


def test_a_set_as_old_as_one_that_was_forgotten_counts_as_answered() -> None:
    desk = Desk()
    first = found(at_s=0)
    desk.send(judged(first), tick(3_700))
    assert desk.state.decided.ids == {}
    assert desk.send(first, judged(first)) == []


def test_a_set_that_waits_is_answered_however_much_is_forgotten_meanwhile() -> None:
    desk, waits = Desk(), found(at_s=0)
    desk.send(waits)
    for n in range(1, 4):
        desk.send(judged(found(*(up(rule=f"rule-{n}-{k}", priority=k) for k in range(90)), at_s=n)))
    assert desk.state.decided.forgotten_ms > waits.at_ms
    assert desk.decide(tick(50)).set_id == waits.id


def test_a_moment_that_is_told_twice_with_other_rules_has_each_rule_answered_once() -> None:
    """Rules that crash between output and state may tell a moment again, of other evidence."""
    desk = Desk()
    first, again = found(up()), found(up(), down())
    desk.send(first, again, judged(first))
    assert desk.decide(judged(again)).candidate.rule == "scale-down-on-slack"
    assert desk.send(tick(50)) == []


def test_a_clock_that_is_ahead_moves_time_by_seconds_only() -> None:
    desk = Desk()
    action = desk.begin(up())
    desk.send(tick(1), ended(action, EndState.REFUSED, at_s=9_000))
    assert desk.state.now_ms == AT_MS + 6_000
    assert desk.decide(judged(found(at_s=7))).answer is Answer.APPROVED


def test_a_time_that_ran_ahead_before_the_first_tick_is_taken_back() -> None:
    desk = Desk()
    desk.send(control(ControlKind.MODE, mode=Mode.SEMI_AUTONOMOUS, at_s=100_000), tick(1))
    assert desk.state.now_ms == AT_MS + 6_000


def test_ticks_before_anything_else_and_old_ones_change_nothing() -> None:
    desk = Desk()
    assert desk.send(tick(1)) == []
    assert desk.state is None
    desk.send(found(), tick(10))
    before = desk.state
    assert desk.send(tick(10), tick(9)) == []
    assert desk.state == before
