"""The deterministic judgement: one good candidate, one change a test; and the law that a limit is never widened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.review import bound, bound_all, judge, judge_all
from contracts.events import ActionKind, Candidate, CandidateSet, Judgement, Risk, Verdict
from contracts.laws.bounds import Comparator
from tests.agents.review_sets import a_fact, a_set, a_spec, scale_down, scale_up
from tests.agents.saga_help import TUNE

VERDICTS = [Verdict.APPROVE, Verdict.DEMOTE, Verdict.VETO]
RISKS = [Risk.LOW, Risk.MEDIUM, Risk.HIGH]
JUDGEMENTS = st.builds(
    Judgement,
    rule=st.sampled_from(["a", "b", "c"]),
    verdict=st.sampled_from(VERDICTS),
    confidence=st.floats(0, 1),
    risk=st.sampled_from(RISKS),
    reasons=st.lists(st.text(max_size=20), max_size=20).map(tuple),
)


def judged(candidate: Candidate, **change: Any) -> Judgement:
    """The candidate alone in a good set with this change."""
    return judge(a_set(candidate, **change), candidate)


def test_a_clear_burn_is_approved_at_low_risk_with_the_numbers() -> None:
    judgement = judged(scale_up())
    assert (judgement.verdict, judgement.risk, judgement.confidence) == (Verdict.APPROVE, Risk.LOW, 0.95)
    assert judgement.reasons == ("confidence 0.95: weakest fact 75% past its bound, held 30 s, coverage 100%",)


def test_clear_slack_is_approved_at_low_risk() -> None:
    judgement = judged(scale_down())
    assert (judgement.verdict, judgement.risk, judgement.confidence) == (Verdict.APPROVE, Risk.LOW, 0.95)


@pytest.mark.parametrize(
    ("fact", "confidence"),
    [
        (a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 2.0001, held_s=0.0), 0.65),  # just crossed
        (a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 4.0, held_s=30.0), 0.90),  # twice the bound, held
        (a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 4.0, held_s=15.0), 0.825),
        (a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 4.0, held_s=9000.0), 0.90),  # longer makes nobody surer
        (a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 1.5, holds=True, held_s=30.0), 0.80),  # by hysteresis alone
        (a_fact("kv_cache_usage_ratio", 0, Comparator.GE, 0.0, 0.0, held_s=30.0), 0.80),  # on a bound of zero
    ],
)
def test_confidence_grows_with_the_margin_and_the_hold(fact: Any, confidence: float) -> None:
    assert judged(scale_up(facts=(fact,))).confidence == pytest.approx(confidence, abs=1e-3)


def test_the_weakest_fact_decides_the_confidence() -> None:
    clear = a_fact("ttft_burn_rate", 60, Comparator.GT, 2.0, 200.0)
    weak = a_fact("ttft_burn_rate", 10, Comparator.GT, 2.0, 2.0001)
    assert judged(scale_up(facts=(clear, weak))).confidence == judged(scale_up(facts=(weak,))).confidence


def test_what_takes_capacity_is_less_sure_the_nearer_its_exclusions_are() -> None:
    facts = scale_down().facts
    near = facts[1].model_copy(update={"value": 0.95})
    assert judged(scale_down(facts=(facts[0], near))).confidence < judged(scale_down()).confidence - 0.1


@pytest.mark.parametrize(
    ("candidate", "change", "verdict", "risk", "reason"),
    [
        (scale_up(), {"coverage_ratio": 0.79}, Verdict.DEMOTE, Risk.MEDIUM, "coverage 79% is below 80%"),
        (scale_up(), {"coverage_ratio": 0.1}, Verdict.DEMOTE, Risk.MEDIUM, "coverage 10% is below 80%"),
        (scale_up(), {"replicas": None}, Verdict.DEMOTE, Risk.MEDIUM, "nobody knows how many replicas there are"),
        (scale_up(), {"replicas": 0}, Verdict.DEMOTE, Risk.MEDIUM, "no replica answers"),
        (scale_up(), {"replicas": 1}, Verdict.APPROVE, Risk.LOW, "confidence"),
        (
            scale_up(spec=a_spec(ActionKind.SCALE_UP, 2)),
            {"replicas": 3},
            Verdict.DEMOTE,
            Risk.MEDIUM,
            "2 more on 3 replicas: a step above 50%",
        ),
        (scale_up(spec=a_spec(ActionKind.SCALE_UP, 2)), {"replicas": 4}, Verdict.APPROVE, Risk.LOW, "confidence"),
        (
            scale_up(facts=(*scale_up().facts, a_fact("requests_waiting", 0, Comparator.GT, 4, None, holds=True))),
            {},
            Verdict.DEMOTE,
            Risk.MEDIUM,
            "requests_waiting is unknown",
        ),
        (scale_up(facts=()), {}, Verdict.VETO, Risk.HIGH, "no fact holds"),
        (scale_down(), {"coverage_ratio": 0.79}, Verdict.DEMOTE, Risk.MEDIUM, "coverage 79% is below 80%"),
        (scale_down(), {"coverage_ratio": 0.49}, Verdict.VETO, Risk.HIGH, "coverage 49% is below 50%"),
        (scale_down(), {"replicas": None}, Verdict.VETO, Risk.HIGH, "nobody knows how many replicas there are"),
        (scale_down(), {"replicas": 0}, Verdict.VETO, Risk.HIGH, "no replica answers"),
        (scale_down(), {"replicas": 1}, Verdict.VETO, Risk.HIGH, "1 of 1 replicas would leave none"),
        (scale_down(), {"replicas": 3}, Verdict.APPROVE, Risk.MEDIUM, "1 of 3 replicas: more than 20%"),
        (
            scale_down(spec=a_spec(ActionKind.SCALE_DOWN, 3)),
            {},
            Verdict.DEMOTE,
            Risk.HIGH,
            "3 of 5 replicas: a step above 50%",
        ),
        (
            scale_down(),
            {"evidence": {10: {"e2e_burn_rate": 1.5}}},
            Verdict.VETO,
            Risk.HIGH,
            "e2e_burn_rate over 10 s is 1.5, above 1",
        ),
        (scale_down(), {"evidence": {0: {"stalled": 1.0}}}, Verdict.VETO, Risk.HIGH, "an engine is stuck"),
        (
            scale_down(facts=(a_fact("load_per_replica", 60, Comparator.LT, 6.0, None, holds=True),)),
            {},
            Verdict.VETO,
            Risk.HIGH,
            "capacity is not taken on missing data",
        ),
    ],
)
def test_one_thing_against_a_good_candidate(
    candidate: Candidate, change: dict[str, Any], verdict: Verdict, risk: Risk, reason: str
) -> None:
    judgement = judged(candidate, **change)
    assert (judgement.verdict, judgement.risk) == (verdict, risk)
    assert reason in judgement.reasons[0]


@pytest.mark.parametrize("seen", [{10: {"e2e_burn_rate": 1.5}}, {0: {"stalled": 1.0}}], ids=["burns", "is stuck"])
def test_what_a_canary_breaks_does_not_keep_it_from_being_set_back(seen: dict[int, dict[str, float]]) -> None:
    canary = TUNE.model_copy(update={"by_replica": {"chat-1": 1.0}, "replicas": 1})
    fact = a_fact("load_per_replica", 60, Comparator.GT, 1.0, 4.0)
    back = scale_down(spec=canary.model_copy(update={"restores": True}), facts=(fact,))
    there = scale_down(spec=canary, facts=(fact,))
    assert judged(back, evidence=seen).verdict is Verdict.APPROVE
    assert judged(there, evidence=seen).verdict is Verdict.VETO


@pytest.mark.parametrize(
    ("replicas", "step", "short", "verdict", "risk", "reason"),
    [
        (3, 3, 3.0, Verdict.APPROVE, Risk.MEDIUM, "3 more on 3 replicas: a step above 50%, as the sizing asks"),
        (3, 2, 9.0, Verdict.APPROVE, Risk.MEDIUM, "2 more on 3 replicas: a step above 50%, as the sizing asks"),
        (10, 10, 10.0, Verdict.APPROVE, Risk.MEDIUM, "as the sizing asks"),
        (1, 2, 2.0, Verdict.APPROVE, Risk.MEDIUM, "2 more on 1 replicas"),  # two, on the smallest fleet
        (1, 3, 3.0, Verdict.DEMOTE, Risk.MEDIUM, "3 more on 1 replicas: a step above 50%"),
        (3, 4, 9.0, Verdict.DEMOTE, Risk.MEDIUM, "4 more on 3 replicas: a step above 50%"),  # more than doubles it
        (3, 3, 2.0, Verdict.DEMOTE, Risk.MEDIUM, "3 more on 3 replicas: a step above 50%"),  # more than is asked
        (3, 3, None, Verdict.DEMOTE, Risk.MEDIUM, "3 more on 3 replicas: a step above 50%"),
        (0, 2, 2.0, Verdict.DEMOTE, Risk.MEDIUM, "no replica answers"),
        (8, 4, 4.0, Verdict.APPROVE, Risk.LOW, "confidence"),  # it was never large
    ],
)
def test_a_large_step_up_needs_no_person_where_a_sizing_asks_for_as_much_and_it_is_bounded(
    replicas: int, step: int, short: float | None, verdict: Verdict, risk: Risk, reason: str
) -> None:
    found = {} if short is None else {15: {"replicas_short": short}}
    candidate = scale_up(spec=a_spec(ActionKind.SCALE_UP, step))
    judgement = judged(candidate, replicas=replicas, evidence={0: {"replicas_up": float(replicas)}} | found)
    assert (judgement.verdict, judgement.risk) == (verdict, risk)
    assert reason in judgement.reasons[0]


def test_no_finding_backs_a_large_step_down() -> None:
    candidate = scale_down(spec=a_spec(ActionKind.SCALE_DOWN, 3))
    judgement = judged(candidate, evidence={15: {"replicas_short": 9.0, "replicas_spare": 9.0}})
    assert (judgement.verdict, judgement.risk) == (Verdict.DEMOTE, Risk.HIGH)


def test_a_large_step_that_is_backed_still_waits_for_a_person_where_little_is_covered() -> None:
    candidate = scale_up(spec=a_spec(ActionKind.SCALE_UP, 5))
    judgement = judged(candidate, evidence={15: {"replicas_short": 5.0}}, coverage_ratio=0.7)
    assert judgement.verdict is Verdict.DEMOTE


def slack_beside(finding: Any) -> Judgement:
    return judged(scale_down(facts=(*scale_down().facts, finding)))


def test_slack_may_decide_where_a_finding_is_asked_for_and_there_is_none() -> None:
    absent = a_fact("replicas_wanted", 15, Comparator.GE, 0, None)
    judgement = slack_beside(absent)
    assert (judgement.verdict, judgement.risk, judgement.confidence) == (Verdict.APPROVE, Risk.LOW, 0.95)


@pytest.mark.parametrize(
    "finding",
    [
        a_fact("replicas_wanted", 15, Comparator.GE, 0, None, holds=True),
        a_fact("replicas_wanted", 15, Comparator.GE, 1, None),
        a_fact("replicas_spare", 15, Comparator.GE, 1, None, holds=True),
        a_fact("requests_waiting", 0, Comparator.GE, 0, None),
    ],
)
def test_every_other_value_that_is_missing_takes_no_capacity(finding: Any) -> None:
    assert slack_beside(finding).verdict is Verdict.VETO


def idle(load: float | None) -> CandidateSet:
    """A workload without a latency value: nothing ended in the window."""
    facts = (scale_down().facts[0], a_fact("ttft_burn_rate", 60, Comparator.GT, 1.0, None))
    evidence = {} if load is None else {0: {"load_per_replica": load}}
    return a_set(scale_down(facts=facts), evidence=evidence)


def test_an_idle_workload_may_shrink_though_nothing_gave_a_latency() -> None:
    assert judge_all(idle(0.0))[0].verdict is Verdict.APPROVE


@pytest.mark.parametrize("load", [1.1, None])
def test_a_missing_latency_of_a_workload_that_may_be_busy_is_a_veto(load: float | None) -> None:
    assert judge_all(idle(load))[0].verdict is Verdict.VETO


def test_a_latency_that_counts_as_holding_is_missed_even_where_nothing_runs() -> None:
    fast = a_fact("ttft_p95_s", 60, Comparator.LT, 0.2, None, holds=True)
    candidates = a_set(scale_down(facts=(scale_down().facts[0], fast)), evidence={0: {"load_per_replica": 0.0}})
    assert judge_all(candidates)[0].verdict is Verdict.VETO


def test_opposites_in_one_set_make_the_one_that_takes_capacity_wait_for_a_person() -> None:
    quiet = a_fact("requests_waiting", 0, Comparator.GT, 20, 40)
    up, down = judge_all(a_set(scale_up(facts=(quiet,)), scale_down()))
    assert (up.verdict, up.risk) == (Verdict.APPROVE, Risk.MEDIUM)
    assert (down.verdict, down.risk) == (Verdict.DEMOTE, Risk.MEDIUM)
    assert "by scale-up-on-burn" in down.reasons[0]


def test_the_same_rule_twice_in_a_set_counts_as_its_worse_half() -> None:
    large = scale_up(rule_version=2, spec=a_spec(ActionKind.SCALE_UP, 4))
    for order in ((scale_up(), large), (large, scale_up())):
        [judgement] = judge_all(a_set(*order))
        assert judgement.verdict is Verdict.DEMOTE


@given(
    st.sampled_from([scale_up, scale_down]),
    st.lists(
        st.builds(
            a_fact,
            st.sampled_from(["ttft_burn_rate", "load_per_replica", "stalled"]),
            st.sampled_from([0, 10, 60]),
            st.sampled_from(Comparator),
            st.floats(-1e300, 1e300),
            st.none() | st.floats(-1e300, 1e300),
            holds=st.booleans(),
            held_s=st.floats(0, 1e9),
        ),
        max_size=30,
    ).map(tuple),
    st.none() | st.integers(0, 1000),
    st.floats(0, 1),
)
def test_every_candidate_gets_a_judgement_and_no_capacity_is_taken_blindly(
    make: Any, facts: Any, replicas: int | None, coverage: float
) -> None:
    candidate = make(facts=facts)
    judgement = judged(candidate, replicas=replicas, coverage_ratio=coverage)
    assert Judgement.model_validate_json(judgement.model_dump_json()) == judgement
    blind = replicas is None or coverage < 0.5 or any(f.holds and f.value is None for f in facts)
    if candidate.spec.kind.takes_capacity and blind:
        assert judgement.verdict is Verdict.VETO


@given(JUDGEMENTS, JUDGEMENTS)
def test_a_bound_judgement_is_never_wider_than_its_limit(told: Judgement, limit: Judgement) -> None:
    result = bound(told, limit)
    assert result.rule == limit.rule
    for each in (told, limit):
        assert VERDICTS.index(result.verdict) >= VERDICTS.index(each.verdict)
        assert RISKS.index(result.risk) >= RISKS.index(each.risk)
        assert result.confidence <= each.confidence
    assert bound(result, limit).model_copy(update={"reasons": ()}) == result.model_copy(update={"reasons": ()})


@pytest.mark.parametrize(
    ("says", "allows", "first"),
    [
        (Verdict.VETO, Verdict.APPROVE, "the model"),
        (Verdict.VETO, Verdict.DEMOTE, "the model"),
        (Verdict.APPROVE, Verdict.VETO, "arithmetic"),
        (Verdict.DEMOTE, Verdict.DEMOTE, "arithmetic"),
    ],
)
def test_the_first_reason_is_of_whoever_is_stricter(says: Verdict, allows: Verdict, first: str) -> None:
    common: dict[str, Any] = {"rule": "r", "confidence": 0.9, "risk": Risk.LOW}
    told = Judgement(verdict=says, reasons=("the model",), **common)
    limit = Judgement(verdict=allows, reasons=("arithmetic",), **common)
    result = bound(told, limit)
    assert result.reasons[0] == first
    assert set(result.reasons) == {"the model", "arithmetic"}


@given(st.lists(JUDGEMENTS, max_size=8), st.lists(JUDGEMENTS, max_size=3, unique_by=lambda each: each.rule))
def test_only_rules_with_a_limit_that_were_judged_are_judged(told: list[Judgement], limits: list[Judgement]) -> None:
    result = bound_all(told, limits)
    known = {each.rule for each in limits}
    assert {each.rule for each in result} == known & {each.rule for each in told}
    for each in result:
        voices = [*(one for one in told if one.rule == each.rule), *(one for one in limits if one.rule == each.rule)]
        assert each.verdict is max((one.verdict for one in voices), key=VERDICTS.index)
        assert each.confidence == min(one.confidence for one in voices)
        assert each.risk is max((one.risk for one in voices), key=RISKS.index)
