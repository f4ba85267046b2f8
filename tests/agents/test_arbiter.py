"""The arbiter decides: one good scenario, and what one change of it makes of the answer."""

from __future__ import annotations

from typing import Any

import pytest

from agents.core.arbiter_settings import ArbiterSettings, Limits
from contracts.events import (
    Action,
    Answer,
    CandidateSet,
    ControlKind,
    Decision,
    Message,
    Mode,
    Refusal,
    Review,
    Risk,
    Verdict,
)
from contracts.events.acting import action_id
from tests.agents.arbiter_desk import (
    AT_MS,
    SETTINGS,
    Desk,
    by_hand,
    control,
    down,
    ended,
    found,
    judged,
    limited,
    settings,
    tick,
    up,
)

R = Refusal
SEMI = settings(default_mode=Mode.SEMI_AUTONOMOUS)
ADVISORY = settings(default_mode=Mode.ADVISORY)
ALONE = settings(has_controller=False)
UNBOUND = settings(default_limits=Limits())


OF_OLD = by_hand(-1000)
"""Makes the workload known, and is too long ago to matter: ticks reach workloads that are known."""


def test_an_approved_candidate_becomes_one_action_with_the_numbers_that_decided() -> None:
    desk, asked = Desk(), found()
    assert desk.send(asked) == []
    decision, action = desk.send(judged(asked))
    assert isinstance(decision, Decision)
    assert isinstance(action, Action)
    assert decision.answer is Answer.APPROVED
    assert decision.code == "approved"
    assert decision.decision_id == asked.candidate_id(asked.candidates[0])
    assert (decision.set_id, decision.revision, decision.replicas) == (asked.id, 0, 1)
    assert (decision.mode, decision.reviewer, decision.action_id) == (Mode.AUTONOMOUS, "deterministic", action.id)
    assert decision.detail == ("deterministic: approve, confidence 0.95, risk low",)
    assert action.id == action_id(decision.decision_id, "chat/replicas")
    assert (action.target, action.approved_by, action.preempts) == ("chat/replicas", "mode:autonomous", "")
    assert (action.at_ms, action.start_by_ms, action.cause_ms) == (AT_MS, AT_MS + 30_000, AT_MS - 500)
    assert action.spec == asked.candidates[0].spec


def test_a_review_that_comes_before_its_set_decides_it_and_the_set_changes_nothing() -> None:
    desk, asked = Desk(), found()
    assert desk.decide(judged(asked)).answer is Answer.APPROVED
    assert desk.send(asked, tick(1), tick(100)) == []


def test_repeats_of_a_set_and_of_its_review_change_nothing() -> None:
    desk, asked = Desk(), found()
    desk.send(asked, asked, judged(asked))
    assert desk.send(judged(asked), asked, judged(asked, reviewer="llm")) == []


def case(what: str, expected: tuple[R, ...], asked: CandidateSet, review: Review | None = None, **more: Any) -> Any:
    return pytest.param(asked, review, expected, more, id=what)


@pytest.mark.parametrize(
    ("asked", "review", "expected", "more"),
    [
        case("the review failed", (R.REVIEW_FAILED,), s := found(), judged(s, only=(), failure="timed out")),
        case("it was not judged", (R.NO_REVIEW,), s := found(), judged(s, only=())),
        case("the reviewer says no", (R.VETOED,), s := found(), judged(s, verdict=Verdict.VETO)),
        case(
            "old evidence", (R.STALE_EVIDENCE,), found(), settings=settings(max_age_s=20.0), before=[OF_OLD, tick(30)]
        ),
        case("nobody knows the replicas", (R.MISSING_EVIDENCE,), found(replicas=None)),
        case("coverage too thin to take capacity", (R.MISSING_EVIDENCE,), found(down(), coverage_ratio=0.49)),
        case("a missing value counts for taking capacity", (R.MISSING_EVIDENCE,), found(down(value=None))),
        case("at the maximum", (R.AT_MAXIMUM,), found(replicas=8)),
        case("beyond the maximum", (R.AT_MAXIMUM,), found(replicas=9)),
        case("at the minimum", (R.AT_MINIMUM,), found(down(), replicas=2)),
        case("none answers", (R.AT_MINIMUM,), found(down(), replicas=0)),
        case("killed", (R.KILL_SWITCH,), found(), before=[control(ControlKind.KILL)]),
        case("a person took some away", (R.MANUAL_CHANGE,), found(down(), at_s=9), before=[by_hand(0)]),
        case("a newer action is under way", (R.IN_FLIGHT,), found(at_s=9), begin=up()),
        case("a lower one may not pre-empt", (R.IN_FLIGHT,), found(down(), at_s=9), begin=up()),
        case("of the same kind none may pre-empt", (R.IN_FLIGHT,), found(up(priority=950), at_s=9), begin=up()),
        case(
            "all reasons are told, the decisive ones first",
            (R.KILL_SWITCH, R.VETOED, R.AT_MAXIMUM, R.LOW_CONFIDENCE),
            s := found(replicas=8),
            judged(s, verdict=Verdict.VETO, confidence=0.1),
            before=[control(ControlKind.KILL)],
        ),
        case(
            "a refusal weighs more than advice, and advice more than a question",
            (R.AT_MAXIMUM, R.NO_CONTROLLER, R.ADVISORY_MODE, R.DEMOTED),
            s := found(replicas=8),
            judged(s, verdict=Verdict.DEMOTE),
            settings=settings(default_mode=Mode.ADVISORY, has_controller=False),
        ),
    ],
)
def test_a_refusal_tells_every_reason(
    asked: CandidateSet, review: Review | None, expected: tuple[R, ...], more: dict[str, Any]
) -> None:
    desk = Desk(more.get("settings", SETTINGS))
    if "begin" in more:
        desk.begin(more["begin"])
    first: list[Message] = [*more.get("before", []), asked]
    desk.send(*first)
    decision = desk.decide(review or judged(asked))
    assert (decision.answer, decision.reasons) == (Answer.REFUSED, expected)
    assert len(decision.detail) >= len(expected)
    assert (decision.replicas, decision.action_id, decision.expires_wall_ms) == (0, "", None)
    assert len(desk.actions) == (1 if "begin" in more else 0)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (found(coverage_ratio=0.3), "thin coverage"),
        (found(up(facts=(down(value=None).facts[0],))), "a missing value that counts"),
    ],
    ids=["thin coverage", "a missing value"],
)
def test_capacity_may_be_added_on_thin_evidence(asked: CandidateSet, why: str) -> None:
    assert Desk().decide(judged(asked)).answer is Answer.APPROVED, why


def test_the_numbers_are_in_the_words() -> None:
    desk = Desk(limited(up_cooldown_s=60.0))
    action = desk.begin(up())
    desk.send(ended(action, at_s=10), tick(22.5))
    asked = found(replicas=8, at_s=22.5)
    decision = desk.decide(judged(asked, confidence=0.25))
    assert decision.detail == (
        "12.5 s of 60 s have passed since the last scale_up",
        "0 of 1 granted: 8 replicas answer, maximum 8",
        "confidence is 0.25, autonomous needs 0.5",
        "deterministic: approve, confidence 0.25, risk low",
    )


A, N, Y = Answer.APPROVED, Answer.NEEDS_APPROVAL, Answer.RECOMMENDED
APPROVE, DEMOTE = Verdict.APPROVE, Verdict.DEMOTE


@pytest.mark.parametrize(
    ("with_settings", "verdict", "confidence", "risk", "expected", "reasons"),
    [
        (SETTINGS, APPROVE, 0.5, Risk.HIGH, A, ()),
        (SETTINGS, APPROVE, 0.49, Risk.LOW, N, (R.LOW_CONFIDENCE,)),
        (SETTINGS, DEMOTE, 0.95, Risk.LOW, N, (R.DEMOTED,)),
        (SEMI, APPROVE, 0.9, Risk.LOW, A, ()),
        (SEMI, APPROVE, 0.89, Risk.LOW, N, (R.LOW_CONFIDENCE,)),
        (SEMI, APPROVE, 0.9, Risk.MEDIUM, N, (R.RISK_TOO_HIGH,)),
        (SEMI, DEMOTE, 0.4, Risk.HIGH, N, (R.DEMOTED, R.RISK_TOO_HIGH, R.LOW_CONFIDENCE)),
        (ADVISORY, APPROVE, 0.99, Risk.LOW, Y, (R.ADVISORY_MODE,)),
        (ADVISORY, DEMOTE, 0.01, Risk.HIGH, Y, (R.ADVISORY_MODE, R.DEMOTED)),
        (ALONE, APPROVE, 0.99, Risk.LOW, Y, (R.NO_CONTROLLER,)),
        (UNBOUND, APPROVE, 0.99, Risk.LOW, N, (R.NO_BOUNDS,)),
        (limited(min_replicas=None), APPROVE, 0.99, Risk.LOW, N, (R.NO_BOUNDS,)),
        (settings(default_limits=Limits(), default_mode=Mode.ADVISORY), APPROVE, 0.99, Risk.LOW, Y, (R.ADVISORY_MODE,)),
    ],
)
def test_the_mode_says_who_acts(
    with_settings: ArbiterSettings,
    verdict: Verdict,
    confidence: float,
    risk: Risk,
    expected: Answer,
    reasons: tuple[R, ...],
) -> None:
    desk = Desk(with_settings)
    decision = desk.decide(judged(found(), verdict=verdict, confidence=confidence, risk=risk))
    assert (decision.answer, decision.reasons) == (expected, reasons)
    assert len(desk.actions) == (expected is A)
    assert decision.replicas == 1
    assert (decision.expires_wall_ms is None) == (expected is A)


@pytest.mark.parametrize("verdict", [APPROVE, DEMOTE])
def test_a_fallback_that_judged_approves_nothing(verdict: Verdict) -> None:
    decision = Desk().decide(judged(found(), degraded=True, verdict=verdict))
    assert decision.answer is Answer.NEEDS_APPROVAL
    assert decision.reasons[0] is R.DEGRADED_REVIEW


def test_a_fallback_may_veto() -> None:
    assert Desk().decide(judged(found(), degraded=True, verdict=Verdict.VETO)).code == "vetoed"


def test_adding_capacity_soon_after_a_change_by_hand_is_put_to_a_person() -> None:
    desk = Desk()
    decision = desk.decide(by_hand(0), judged(found(at_s=30)))
    assert (decision.answer, decision.reasons) == (Answer.NEEDS_APPROVAL, (R.MANUAL_CHANGE,))
    assert "a replica was added" in decision.detail[0]


def test_a_hold_for_people_ends_and_other_events_do_not_begin_one() -> None:
    desk = Desk()
    other = by_hand(590).model_copy(update={"name": "deploy"})
    desk.send(by_hand(0), tick(595), other)
    assert desk.decide(judged(found(at_s=600))).answer is Answer.APPROVED


def test_of_two_that_do_the_same_the_higher_priority_acts() -> None:
    desk = Desk()
    asked = found(up(rule="queue", priority=800), up())
    desk.send(judged(asked))
    first, second = desk.decisions
    assert (first.candidate.rule, first.answer) == ("scale-up-on-burn", Answer.APPROVED)
    assert (second.candidate.rule, second.reasons) == ("queue", (R.OUTRANKED,))
    assert len(desk.actions) == 1


def test_a_need_that_was_refused_above_is_served_below() -> None:
    desk = Desk()
    asked = found(up(rule="queue", priority=800), up())
    review = judged(asked)
    vetoed = tuple(
        each.model_copy(update={"verdict": Verdict.VETO}) if each.rule == "scale-up-on-burn" else each
        for each in review.judgements
    )
    desk.send(review.model_copy(update={"judgements": vetoed}))
    assert [(each.candidate.rule, each.code) for each in desk.decisions] == [
        ("scale-up-on-burn", "vetoed"),
        ("queue", "approved"),
    ]


@pytest.mark.parametrize("replicas", [4, 8])
def test_of_opposites_the_lower_loses_even_when_the_higher_cannot_act(replicas: int) -> None:
    desk = Desk()
    desk.send(judged(found(down(), up(), replicas=replicas)))
    first, second = desk.decisions
    assert first.candidate.rule == "scale-up-on-burn"
    assert second.reasons == (R.OUTRANKED,)
    assert "scale-up-on-burn goes first" in second.detail[0]


def test_a_rule_named_twice_in_a_set_is_answered_once() -> None:
    desk = Desk()
    desk.send(judged(found(up(), up())))
    assert len(desk.decisions) == len(desk.actions) == 1


def test_limits_of_a_workload_go_before_the_common_ones() -> None:
    own = settings(limits={"chat": Limits(min_replicas=1, max_replicas=4)})
    assert Desk(own).decide(judged(found())).reasons == (R.AT_MAXIMUM,)


def test_the_longest_name_of_a_workload_still_makes_an_action() -> None:
    desk = Desk()
    asked = found(workload="w" * 200)
    desk.send(judged(asked))
    assert desk.actions[0].target.endswith("/replicas")
