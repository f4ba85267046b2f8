"""Settings and shares beside replicas: who waits for whom, what rests after what; more capacity never waits."""

from __future__ import annotations

import pytest

from agents.core.review import judge
from contracts.events import ActionKind, ActionSpec, Answer, Candidate, EndState, Judgement, Refusal, Risk, Verdict
from contracts.laws.bounds import Comparator
from tests.agents.arbiter_desk import Desk, answer, down, ended, found, judged, limited, up
from tests.agents.review_sets import a_fact, a_set, scale_up
from tests.agents.saga_help import ROUTE, TUNE
from tests.agents.test_arbiter_flights import stacking

R = Refusal
CALM = a_fact("load_per_replica", 60, Comparator.LT, 6.0, 1.5)
NAMES = {f"chat-{n}": 1.0 for n in range(4)}


def candidate(spec: ActionSpec, rule: str, priority: int = 50) -> Candidate:
    return Candidate(
        rule=rule, rule_version=1, pack="performance", priority=priority, cooldown_s=60.0, spec=spec, facts=(CALM,)
    )


def tune(priority: int = 50, rule: str = "tune-on-trial") -> Candidate:
    """Other settings for two of the four replicas."""
    return candidate(TUNE, rule, priority)


def route(priority: int = 40) -> Candidate:
    """Other shares for all four."""
    shares = dict.fromkeys(NAMES, 0.25)
    return candidate(ROUTE.model_copy(update={"replicas": 4, "by_replica": shares}), "balance", priority)


def test_each_kind_has_a_target_of_its_own_and_goes_as_it_was_proposed() -> None:
    desk = Desk()
    assert desk.begin(tune()).target == "chat/engine"
    other = Desk()
    action = other.begin(route())
    assert (action.target, action.spec) == ("chat/router", route().spec)


@pytest.mark.parametrize("under_way", [tune(), route()], ids=["tune", "route"])
def test_more_capacity_waits_for_neither_settings_nor_shares(under_way: Candidate) -> None:
    desk = Desk()
    desk.begin(under_way)
    action = desk.begin(up(), at_s=5)
    assert action.preempts == "", "what is under way goes on"
    assert len(desk.state.flights) == 2


@pytest.mark.parametrize(
    ("under_way", "then", "expected"),
    [
        (tune(), down(), (R.IN_FLIGHT,)),
        (route(), down(), ()),
        (up(), tune(), (R.IN_FLIGHT,)),
        (down(), tune(), (R.IN_FLIGHT,)),
        (route(), tune(), (R.IN_FLIGHT,)),
        (tune(), tune(priority=60, rule="tune-more"), (R.IN_FLIGHT,)),
        (tune(), route(), (R.IN_FLIGHT,)),
        (up(), route(), ()),
        (route(), route(priority=60), (R.IN_FLIGHT,)),
    ],
    ids=lambda each: each.spec.kind.value if isinstance(each, Candidate) else "",
)
def test_less_capacity_waits_for_settings_and_settings_for_everything(
    under_way: Candidate, then: Candidate, expected: tuple[R, ...]
) -> None:
    desk = Desk()
    desk.begin(under_way)
    assert desk.decide(judged(found(then, at_s=5))).reasons == expected


@pytest.mark.parametrize(
    ("first", "then", "after_s", "expected"),
    [
        (up(), tune(), 0, ()),
        (down(), tune(), 299, (R.COOLDOWN,)),
        (tune(), down(), 299, (R.COOLDOWN,)),
        (tune(), tune(), 299, (R.COOLDOWN,)),
        (tune(), up(), 0, ()),
        (route(), up(), 0, ()),
        (route(), down(), 0, ()),
        (route(), tune(), 0, ()),
        (route(), route(), 59, (R.COOLDOWN,)),
        (tune(), route(), 0, ()),
    ],
    ids=lambda each: each.spec.kind.value if isinstance(each, Candidate) else str(each),
)
def test_what_rests_after_what(first: Candidate, then: Candidate, after_s: float, expected: tuple[R, ...]) -> None:
    desk = Desk()
    action = desk.begin(first)
    desk.send(ended(action, at_s=30))
    assert desk.decide(judged(found(then, at_s=30 + after_s))).reasons == expected


@pytest.mark.parametrize("other", [route(), tune()], ids=["route", "tune"])
@pytest.mark.parametrize("end_state", [EndState.REFUSED, EndState.UNDONE, EndState.VERIFIED])
def test_replicas_that_start_are_not_forgotten_for_shares_or_settings_that_come_and_go(
    other: Candidate, end_state: EndState
) -> None:
    desk = Desk()  # four answer, eight are the maximum
    action = desk.begin(other)
    desk.begin(stacking(asks=3), at_s=5)
    desk.send(ended(action, end_state, at_s=10))
    assert desk.begin(stacking(asks=3, rule="forecast"), at_s=15).spec.replicas == 1, "seven are ordered"


def test_replicas_that_start_are_not_forgotten_for_shares_that_are_set_beside_them() -> None:
    desk = Desk()
    desk.begin(stacking(asks=3))
    desk.begin(route(), at_s=5)
    assert desk.begin(stacking(asks=3, rule="forecast"), at_s=15).spec.replicas == 1, "seven are ordered"


def take_back() -> Candidate:
    """The canary gets the setting of the rest again."""
    spec = TUNE.model_copy(update={"replicas": 1, "by_replica": {"chat-0": 1.0}, "restores": True})
    return candidate(spec, "take-back", priority=60)


def test_a_bad_setting_is_taken_back_from_one_replica_while_the_fleet_grows() -> None:
    desk = Desk(limited(max_replicas=20))
    first = desk.begin(up())
    action = desk.begin(take_back(), at_s=5)
    assert (action.preempts, action.beside) == ("", (first.id,))
    both = found(up(seen=6), take_back())
    other = Desk()
    other.send(both, judged(both))
    assert [each.answer for each in other.decisions] == [Answer.APPROVED, Answer.APPROVED]


def test_it_waits_for_less_capacity_and_for_settings_as_any_other_and_so_does_one_for_several_replicas() -> None:
    several = candidate(take_back().spec.model_copy(update={"replicas": 2, "by_replica": TUNE.by_replica}), "take-back")
    for under_way, then in ((down(), take_back()), (tune(), take_back()), (up(), several)):
        desk = Desk()
        desk.begin(under_way)
        assert desk.decide(judged(found(then, at_s=5))).reasons == (R.IN_FLIGHT,)


def test_settings_are_not_tried_where_more_capacity_is_asked_for_whatever_the_priority() -> None:
    desk = Desk()
    both = found(up(priority=10), tune(priority=990))
    desk.send(both, judged(both))
    decisions = {each.candidate.rule: each for each in desk.decisions}
    assert decisions["tune-on-trial"].reasons == (R.OUTRANKED,)
    assert decisions["scale-up-on-burn"].answer is Answer.APPROVED


@pytest.mark.parametrize(
    ("higher", "lower", "outranked"),
    [
        (tune(priority=500), down(), True),
        (down(priority=500), tune(), True),
        (route(priority=500), down(), False),
        (tune(priority=500), route(), True),
        (route(priority=990), up(), False),
    ],
)
def test_of_one_set_what_would_wait_for_a_higher_one_is_outranked(
    higher: Candidate, lower: Candidate, outranked: bool
) -> None:
    desk = Desk()
    both = found(higher, lower)
    desk.send(both, judged(both))
    assert [each.reasons for each in desk.decisions] == [(), (R.OUTRANKED,) if outranked else ()]


def test_nothing_restarts_where_one_less_is_below_the_minimum() -> None:
    desk = Desk(limited(min_replicas=4))
    decision = desk.decide(judged(found(tune())))
    assert decision.reasons == (R.AT_MINIMUM,)
    assert "one restarts at a time: 4 replicas answer, minimum 4" in decision.detail[0]


def test_a_rolling_restart_is_given_its_time_for_each_replica() -> None:
    desk = Desk()
    desk.begin(tune())
    (flight,) = desk.state.flights
    assert flight.overdue_ms == flight.action.start_by_ms + (30 + 6 * 2 * 240 + 300) * 1000


def test_a_yes_is_for_the_settings_that_were_asked_about() -> None:
    desk = Desk()
    asked = desk.ask(tune())
    more = TUNE.model_copy(update={"settings": {"max_num_seqs": 96.0}})
    desk.ask(candidate(more, "tune-on-trial"), at_s=10)
    answered = [each for each in desk.send(answer(asked, at_s=11)) if hasattr(each, "answer")]
    assert answered[0].answer is Answer.REFUSED, "the newer one is for other settings"
    assert desk.actions == []


def test_a_smaller_context_window_is_only_recommended_whatever_the_mode() -> None:
    less = candidate(TUNE.model_copy(update={"settings": {"max_model_len": 4096.0}}), "right-size-context")
    desk = Desk()
    asked = found(less)
    decision = desk.decide(asked, judged(asked))
    assert (decision.answer, decision.reasons) == (Answer.RECOMMENDED, (R.ADVISORY_MODE,))
    assert "max_model_len decides which requests are refused" in decision.detail[0]
    assert desk.actions == []


def test_an_outcome_of_settings_frees_its_target_alone() -> None:
    desk = Desk()
    tuning = desk.begin(tune())
    desk.begin(up(), at_s=5)
    desk.send(ended(tuning, EndState.UNDONE, at_s=20))
    assert [flight.kind for flight in desk.state.flights] == [ActionKind.SCALE_UP]


def judgement(one: Candidate, *others: Candidate, **change: object) -> Judgement:
    return judge(a_set(one, *others, **change), one)


def test_a_canary_is_of_low_risk_and_the_rest_of_medium() -> None:
    canary = candidate(TUNE.model_copy(update={"replicas": 1, "by_replica": {"chat-0": 1.0}}), "canary")
    assert (judgement(canary).verdict, judgement(canary).risk) == (Verdict.APPROVE, Risk.LOW)
    rest = judgement(tune())
    assert (rest.verdict, rest.risk) == (Verdict.APPROVE, Risk.MEDIUM)
    assert "2 of 5 replicas are set anew, one after the other" in rest.reasons


def test_settings_are_not_tried_on_the_only_replica_nor_while_a_budget_burns() -> None:
    assert judgement(tune(), replicas=1).verdict is Verdict.VETO
    assert judgement(tune(), evidence={10: {"ttft_burn_rate": 3.0}}).verdict is Verdict.VETO


def test_shares_for_other_replicas_than_answer_are_for_a_person() -> None:
    assert judgement(route()).verdict is Verdict.DEMOTE
    assert judgement(route(), replicas=4).verdict is Verdict.APPROVE


def test_settings_and_shares_beside_it_make_more_capacity_no_riskier() -> None:
    alone = judgement(scale_up())
    assert judgement(scale_up(), tune(), route()) == alone
    assert judgement(tune(), scale_up()).verdict is Verdict.DEMOTE
