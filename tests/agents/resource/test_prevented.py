"""What is called prevented: a forecast, an act of ours, and memory that did not fill; nothing else is."""

from __future__ import annotations

import pytest

from agents.resource.core.prevented import HORIZON_S, RULES, Account
from agents.resource.core.readings import Reading
from contracts.events import ActionKind, EndState
from rules.book import RuleBook
from tests.agents.resource.memory_desk import OURS, action
from tests.agents.watching_desk import START_MS, ms, outcome


def seen(until_s: float, *, filled_at: float | None = None, missing: float = 0.0) -> list[Reading]:
    """Readings every ten seconds up to a moment; memory fills at one of them; a share of the first is missing."""
    ends = range(10, int(until_s) + 1, 10)
    return [
        Reading(end_ms=ms(end), size_s=10, cause_ms=0, kv=0.8, kv_max=1.0 if end == filled_at else 0.9)
        for place, end in enumerate(ends)
        if place >= missing * len(ends)
    ]


def case(at_s: float = 100, full_in_s: float | None = 240.0) -> Account:
    """With a forecast that memory is full in four minutes."""
    return Account().looked(ms(at_s), seen(at_s), full_in_s)


def counts(account: Account) -> tuple[int, int, int, int, int]:
    return (account.prevented, account.failed, account.false_alarms, account.came_true, account.unforeseen)


END_S = 100 + HORIZON_S


def test_a_forecast_that_we_answered_and_that_did_not_come_true_was_prevented() -> None:
    done = action(130)
    account = case().acted(done).ended(outcome(done, 200)).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "ends", [[], [(200, EndState.HELD_UNVERIFIED)], [(END_S + 1, EndState.VERIFIED)]], ids=["on", "held", "late"]
)
def test_capacity_that_nobody_saw_come_in_time_prevented_nothing(ends: list[tuple[int, EndState]]) -> None:
    done = action(130)
    account = case().acted(done)
    for at_s, end_state in ends:
        account = account.ended(outcome(done, at_s, end_state))
    account = account.looked(ms(END_S), seen(END_S), None).ended(outcome(done, END_S + 500, EndState.FAILED))
    assert (counts(account), account.case) == ((0, 0, 0, 0, 0), None)


@pytest.mark.parametrize("ended_at", [None, 90])
@pytest.mark.parametrize("rule", [OURS, "scale-up-to-forecast"])
def test_capacity_that_was_ordered_before_the_forecast_is_credited_to_nobody(rule: str, ended_at: int | None) -> None:
    before, ours = action(80, rule=rule), action(130)
    account = Account().acted(before)
    account = account if ended_at is None else account.ended(outcome(before, ended_at))
    account = account.looked(ms(100), seen(100), 240.0).acted(ours).ended(outcome(ours, 200))
    assert counts(account.looked(ms(END_S), seen(END_S), None))[:4] == (0, 0, 0, 0)


def test_capacity_that_never_came_or_came_long_ago_is_none() -> None:
    before, ours = action(10, rule="scale-up-to-forecast"), action(630)
    for at_s, end_state in ((90, EndState.FAILED), (200, EndState.VERIFIED)):
        account = Account().acted(before).ended(outcome(before, at_s, end_state)).looked(ms(600), seen(600), 240.0)
        account = account.acted(ours).ended(outcome(ours, 700))
        assert counts(account.looked(ms(1200), seen(1200), None)) == (1, 0, 0, 0, 0)


def test_of_two_acts_the_one_that_was_verified_stays_the_answer() -> None:
    first, second = action(130), action(140)
    account = case().acted(first).acted(second).ended(outcome(first, 200))
    account = account.ended(outcome(second, 210, EndState.REFUSED))
    assert counts(account.looked(ms(END_S), seen(END_S), None)) == (1, 0, 0, 0, 0)


def test_nothing_is_counted_before_the_time_is_over() -> None:
    account = case().acted(action(130)).looked(ms(END_S - 10), seen(END_S - 10), None)
    assert counts(account) == (0, 0, 0, 0, 0)


def test_a_forecast_that_we_answered_and_that_came_true_was_not_prevented() -> None:
    account = case().acted(action(130)).looked(ms(310), seen(310, filled_at=300), None)
    assert counts(account) == (0, 1, 0, 0, 0)


@pytest.mark.parametrize(("filled_at", "expected"), [(None, (0, 0, 1, 0, 0)), (400, (0, 0, 0, 1, 0))])
def test_forecasts_that_nobody_answered_say_what_forecasts_are_worth(
    filled_at: float | None, expected: tuple[int, ...]
) -> None:
    assert counts(case().looked(ms(END_S), seen(END_S, filled_at=filled_at), None)) == expected


def test_an_act_without_a_forecast_prevents_nothing() -> None:
    done = action(130)
    account = Account().acted(done).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (0, 0, 0, 0, 0)
    ended = account.ended(outcome(done, END_S))
    assert counts(ended) == counts(ended.ended(outcome(done, END_S))) == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("end_state", [EndState.REFUSED, EndState.FAILED, EndState.UNDONE])
def test_an_act_without_a_forecast_that_came_to_nothing_is_none(end_state: EndState) -> None:
    done = action(130)
    assert counts(Account().acted(done).ended(outcome(done, 200, end_state))) == (0, 0, 0, 0, 0)


def test_capacity_that_others_added_is_credited_to_nobody() -> None:
    both = case().acted(action(130)).acted(action(140, rule="scale-up-to-forecast"))
    assert counts(both.looked(ms(END_S), seen(END_S), None)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("end_state", [EndState.REFUSED, EndState.FAILED, EndState.UNDONE])
def test_an_act_that_came_to_nothing_answered_nothing(end_state: EndState) -> None:
    done = action(130)
    account = case().acted(done).ended(outcome(done, 200, end_state)).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (0, 0, 1, 0, 0)


def test_what_was_hardly_observed_is_not_counted() -> None:
    done = action(130)
    account = case().acted(done).ended(outcome(done, 200)).looked(ms(END_S), seen(END_S, missing=0.7), None)
    assert counts(account) == (0, 0, 0, 0, 0)
    assert account.case is None


def test_the_same_act_told_twice_is_one() -> None:
    done = action(130)
    assert Account().acted(done).acted(done).ended(outcome(done, 200)).acted(done).unforeseen == 1


def test_settings_and_fewer_replicas_are_no_answer() -> None:
    told = case().acted(action(130, kind=ActionKind.TUNE)).acted(action(140, kind=ActionKind.SCALE_DOWN))
    assert counts(told.looked(ms(END_S), seen(END_S), None)) == (0, 0, 1, 0, 0)


@pytest.mark.parametrize("full_in_s", [None, HORIZON_S + 1.0])
def test_no_case_is_opened_without_a_forecast_within_ten_minutes(full_in_s: float | None) -> None:
    assert case(full_in_s=full_in_s).case is None


def test_what_is_full_already_is_no_forecast() -> None:
    assert Account().looked(ms(100), seen(100, filled_at=100), 0.0).case is None


def test_a_case_remembers_when_memory_was_to_be_full() -> None:
    found = case().case
    assert found is not None
    assert found.full_ms - START_MS == 340_000


def test_the_rules_that_are_credited_are_those_of_the_pack_that_act() -> None:
    of_pack = {rule.name: rule.rule for rule in RuleBook().rules.rules if rule.pack == "resource"}
    lifting = {"release-gateway-queue", "restore-context-at-gateway"}
    acting = {name for name, rule in of_pack.items() if rule.action.kind is not ActionKind.TUNE}
    assert acting - lifting == RULES


def test_where_nothing_was_counted_nothing_is_said() -> None:
    assert Account().explain() == ""


def test_every_count_stands_in_values_and_words() -> None:
    account = Account(prevented=3, failed=1, false_alarms=5, came_true=2, unforeseen=7)
    assert sorted(account.values().values()) == [1, 2, 3, 5, 7]
    assert account.explain() == (
        "rules against it prevented 3 of 4 times that memory was forecast to fill and they acted; of 7 that nobody "
        "answered, 2 came true; 7 acts without a forecast"
    )
