"""What is done at a gateway: who may, who waits for whom, what it risks, and which plan is the one that was granted."""

from __future__ import annotations

from typing import Any

import pytest

from agents.core.plans import flaw
from agents.core.review import judge
from agents.core.saga import next_move
from contracts.events import (
    GATEWAY_CHANGE,
    Action,
    ActionKind,
    ActionSpec,
    Answer,
    Candidate,
    Effect,
    EndState,
    FleetEvent,
    Plan,
    PlanStep,
    Refusal,
    Risk,
    StepKind,
    Verdict,
)
from contracts.laws.bounds import Bound, Comparator
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import Observation, StepState
from tests.agents.arbiter_desk import AT_MS, Desk, down, ended, found, judged, settings, tick, up, wall_ms
from tests.agents.review_sets import a_fact, a_set
from tests.agents.saga_help import NOW, action, check, look, record, reports, sli, told
from tests.agents.test_arbiter_kinds import tune

QUEUE, CONTEXT, BREAKER = ActionKind.QUEUE, ActionKind.CONTEXT, ActionKind.BREAKER
HELD = Bound(sli="kv_cache_usage_ratio", size_s=60, comparator=Comparator.LE, value=0.85)
FULL = a_fact("kv_cache_usage_ratio", 10, Comparator.GT, 0.85, 0.9)


def candidate(kind: ActionKind, value: float = 96.0) -> Candidate:
    spec = ActionSpec(
        kind=kind, replicas=1, settings={kind.gateway_setting: value}, effect=Effect(expect=HELD, by_s=300)
    )
    return Candidate(
        rule=f"does-{kind}", rule_version=1, pack="resource", priority=640, cooldown_s=180, spec=spec, facts=(FULL,)
    )


def desk(**change: object) -> Desk:
    return Desk(settings(gateways=frozenset({"chat"}), **change))


@pytest.mark.parametrize("kind", [QUEUE, CONTEXT, BREAKER])
def test_each_limit_has_a_target_of_its_own_and_goes_as_it_was_proposed(kind: ActionKind) -> None:
    begun = desk().begin(candidate(kind))
    assert (begun.target, begun.spec) == (f"chat/{kind}", candidate(kind).spec)


def test_where_no_gateway_is_named_it_is_recommended_and_that_is_said() -> None:
    decision = Desk().decide(judged(found(candidate(QUEUE))))
    assert (decision.answer, decision.reasons) == (Answer.RECOMMENDED, (Refusal.NO_CONTROLLER,))
    assert "no gateway is named for chat (gateways in optiinfra.yaml): nothing can be done" in decision.detail


def test_a_gateway_may_be_all_that_can_be_acted_on() -> None:
    alone = desk(has_controller=False)
    assert alone.decide(judged(found(up()))).reasons == (Refusal.NO_CONTROLLER,)
    assert alone.begin(candidate(QUEUE), at_s=5).target == "chat/queue"


def at_gateway(at_s: float, in_flight: int, breaker_until_ms: int = 0) -> FleetEvent:
    limits = {"max_in_flight": in_flight, "max_context_tokens": 0, "breaker_until_ms": breaker_until_ms}
    at_ms = AT_MS + round(at_s * 1000)
    return FleetEvent(workload="chat", name=GATEWAY_CHANGE, number=round(at_s), at_ms=at_ms, limits=limits)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(candidate(QUEUE), Answer.NEEDS_APPROVAL), (up(), Answer.APPROVED), (down(), Answer.REFUSED)],
    ids=["queue", "up", "down"],
)
def test_what_people_set_at_the_gateway_is_left_to_them_and_holds_back_no_capacity(
    asked: Candidate, answer: Answer
) -> None:
    manned = desk()
    manned.send(tick(0), at_gateway(0, 50))
    decision = manned.decide(judged(found(asked, at_s=5)))
    assert decision.answer is answer
    assert (Refusal.MANUAL_CHANGE in decision.reasons) is (answer is not Answer.APPROVED)
    later = desk()
    later.send(tick(0), at_gateway(0, 50), tick(601))
    assert later.decide(judged(found(asked, at_s=601))).answer is Answer.APPROVED


@pytest.mark.parametrize("state", [EndState.VERIFIED, EndState.UNDONE])
def test_what_our_own_actions_set_there_is_no_change_by_hand(state: EndState) -> None:
    own = desk()
    begun = own.begin(candidate(QUEUE))
    own.send(tick(5), at_gateway(5, 96), at_gateway(7, 96))
    own.send(*([at_gateway(60, 0)] if state is EndState.UNDONE else []), ended(begun, state, at_s=61))
    if state is EndState.UNDONE:
        own.send(at_gateway(65, 0))
    own.begin(candidate(CONTEXT), at_s=70)
    own.send(tick(80), at_gateway(80, 40))
    assert Refusal.MANUAL_CHANGE in own.decide(judged(found(candidate(BREAKER), at_s=85))).reasons


def test_what_people_lift_after_our_action_is_their_doing() -> None:
    lifted = desk()
    begun = lifted.begin(candidate(QUEUE))
    lifted.send(tick(5), at_gateway(5, 96), ended(begun, at_s=90), tick(100), at_gateway(100, 0))
    decision = lifted.decide(judged(found(candidate(CONTEXT), at_s=105)))
    assert "at the gateway, max_in_flight 0" in " ".join(decision.detail)


@pytest.mark.parametrize("kind", [QUEUE, CONTEXT, BREAKER])
def test_people_are_asked_for_no_longer_than_five_minutes_for_the_number_is_of_the_minute(kind: ActionKind) -> None:
    assert desk().ask(candidate(kind)).expires_wall_ms == wall_ms(0) + 300_000
    assert desk().ask(up()).expires_wall_ms == wall_ms(0) + 86_400_000
    hurried = desk(approval_ttl_wall_s=60.0)
    assert hurried.ask(candidate(kind)).expires_wall_ms == wall_ms(0) + 60_000


def test_they_wait_for_nothing_but_their_own() -> None:
    busy = desk()
    busy.begin(tune())
    busy.begin(up(), at_s=5)
    for at_s, kind in ((10, QUEUE), (15, CONTEXT), (20, BREAKER)):
        busy.begin(candidate(kind), at_s=at_s)
    assert busy.decide(judged(found(candidate(QUEUE, 50.0), at_s=30))).reasons == (Refusal.IN_FLIGHT,)


def test_each_rests_after_its_own_kind_alone() -> None:
    rested = desk()
    rested.send(ended(rested.begin(candidate(QUEUE)), at_s=20))
    assert rested.decide(judged(found(candidate(QUEUE, 50.0), at_s=30))).reasons == (Refusal.COOLDOWN,)
    rested.begin(candidate(CONTEXT), at_s=35)


@pytest.mark.parametrize(
    ("kind", "value", "risk"),
    [(QUEUE, 96, Risk.LOW), (QUEUE, 0, Risk.LOW), (CONTEXT, 9000, Risk.MEDIUM), (CONTEXT, 0, Risk.LOW)],
)
def test_who_refuses_requests_risks_more_than_who_lets_them_wait(kind: ActionKind, value: float, risk: Risk) -> None:
    judged = judge(a_set(candidate(kind, value)), candidate(kind, value))
    assert (judged.verdict, judged.risk) == (Verdict.APPROVE, risk)


def test_engines_that_tell_nothing_speak_against_all_but_a_breaker() -> None:
    breaker, queue = candidate(BREAKER, 120), candidate(QUEUE)
    few = a_set(breaker, queue, coverage_ratio=0.4)
    assert judge(few, queue).verdict is Verdict.DEMOTE
    judged = judge(few, breaker)
    assert (judged.verdict, judged.risk) == (Verdict.APPROVE, Risk.MEDIUM)
    assert judged.confidence > 0.5
    assert "every request is refused for 120 s" in judged.reasons


def limits(settings: dict[str, float], **change: object) -> PlanStep:
    return PlanStep.model_validate(
        {"kind": StepKind.LIMIT, "settings": settings, "before": dict.fromkeys(settings, 0.0)} | change
    )


def flaw_of(of: Action, *steps: PlanStep) -> str:
    return flaw(Plan(steps=steps, replicas_before=0, manual_changes=0), of)


def test_a_plan_sets_what_was_granted_and_nothing_else() -> None:
    begun = desk().begin(candidate(QUEUE))
    good = limits({"max_in_flight": 96.0})
    assert flaw_of(begun, good) == ""
    for steps in (
        [limits({"max_in_flight": 10.0})],
        [limits({"max_context_tokens": 96.0})],
        [limits({"max_in_flight": 96.0}, final=True)],
        [good, good],
        [PlanStep(kind=StepKind.ADD)],
    ):
        assert "sets what was granted" in flaw_of(begun, *steps)


def test_a_breaker_is_open_from_the_decision_on_and_can_be_closed() -> None:
    begun = desk().begin(candidate(BREAKER, 120.0))
    assert begun.gateway_limits == {"breaker_until_ms": begun.at_ms + 120_000}
    assert flaw_of(begun, limits(begun.gateway_limits)) == ""
    closing = begun.model_copy(update={"spec": candidate(BREAKER, 0.0).spec})
    assert closing.gateway_limits == {"breaker_until_ms": 0.0}


def held_back(phase: Phase, mark: Mark, **change: Any) -> ActionRecord:
    """A queue that was set, or is about to be."""
    spec, step = candidate(QUEUE).spec, limits({"max_in_flight": 96.0})
    plan = Plan(steps=(step,), replicas_before=0, manual_changes=0)
    return record(spec, phase, plan=plan, marks=(mark,), action=action(spec), **change)


def use(kv: float, at_s: float) -> dict[str, Any]:
    at_ms = NOW + round(at_s * 1000)
    return {"now_ms": at_ms, "evidence": {60: sli(at_ms, 60, kv_cache_usage_ratio=kv)}}


def test_it_is_ordered_at_once_and_verified_by_what_the_engines_show_afterwards() -> None:
    check(held_back(Phase.PLANNED, Mark.UNTOUCHED), look(use(0.95, 1)), "call 0")
    verifying = held_back(Phase.VERIFYING, Mark.DONE)
    check(verifying, look(use(0.80, 59)), "wait")
    check(verifying, look(use(0.86, 120)), "wait")
    check(verifying, look(use(0.80, 61)), "verified expect_met")


def test_a_limit_that_does_not_help_is_set_back() -> None:
    verifying = held_back(Phase.VERIFYING, Mark.DONE)
    check(verifying, look(use(0.95, 301)), "undoing unverified")
    undoing = held_back(Phase.UNDOING, Mark.DONE)
    sight = look(use(0.95, 302) | {"reports": reports(undoing, StepState.DONE)})
    check(undoing, sight, "undo 0")


def test_a_change_by_hand_stops_it_on_its_way() -> None:
    applying = held_back(Phase.APPLYING, Mark.INTENDED)
    seen = Observation(at_ms=NOW, serving=(), manual_changes=1)
    sight = look(use(0.95, 1) | {"seen": seen, "reports": reports(applying, StepState.UNKNOWN)})
    assert "manual_change" in told(next_move(applying, sight))
