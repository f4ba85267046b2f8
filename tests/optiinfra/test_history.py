"""What the store remembers of a case: found by the first characters of its id, or told why it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from contracts.errors import ConfigError
from contracts.events import Action, CandidateSet, Decision, Message, Outcome, Review, Sli
from contracts.ports import Row, Scalar
from optiinfra.history import case_records, messages_of, moment, parse_time
from rules.core.ruleset import RuleSet
from rules.explain import RuleState, with_ticks
from tests.contracts.messages import FULL
from tests.rules.builders import START_MS, Workload, pack, rule, sizing, sli

NOW_MS = 1_700_000_000_000


class Remembered:
    """A store of these records, each under the ids by which the real one finds it."""

    def __init__(self, *records: tuple[Message, str, str]) -> None:
        self._records = records

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        raise AssertionError(table)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        assert name == "records_of"
        begin = str(params["case"])
        return [
            {"type": message.TYPE, "body": message.model_dump_json()}
            for message, *ids in self._records
            if any(ident.startswith(begin) for ident in ids)
        ]


def one(kind: type[Message]) -> Message:
    return next(message for message in FULL if isinstance(message, kind))


def story(ident: str, set_id: str) -> list[tuple[Message, str, str]]:
    """A case of the store, its decision, action and outcome."""
    decision, action, outcome = one(Decision), one(Action), one(Outcome)
    assert isinstance(action, Action)
    made = action.model_copy(update={"candidate_id": ident, "decision_id": ident})
    decided = decision.model_copy(update={"decision_id": ident, "set_id": set_id, "action_id": made.id})
    return [
        (decided, ident, made.id),
        (made, ident, made.id),
        (outcome.model_copy(update={"action": made}), made.id, ident),
    ]


async def test_a_case_is_found_by_its_decision_or_its_action_with_the_set_and_review_it_came_from() -> None:
    candidates, review = one(CandidateSet), one(Review)
    assert isinstance(review, Review)
    others = review.model_copy(
        update={"candidates": review.candidates.model_copy(update={"at_ms": review.candidates.at_ms + 1})}
    )
    own = story("d" * 32, candidates.id)
    store = Remembered(*own, (candidates, candidates.id, ""), (review, candidates.id, ""), (others, candidates.id, ""))
    action = own[1][0]
    for ident in ("dddddd", action.id[:10]):
        found = {each.id for each in await case_records(store, ident)}
        assert {each.id for each, *_ in own} <= found
        assert candidates.id in found
        assert others.id not in found


async def test_characters_that_are_too_few_or_begin_several_cases_find_none_of_them() -> None:
    store = Remembered(*story("abcdef01" * 4, "s1"), *story("abcdef02" * 4, "s2"))
    assert await case_records(store, "abcde") == []
    assert await case_records(store, "fedcba") == []
    with pytest.raises(ConfigError, match="'abcdef' begins the ids of 2 decisions: abcdef01abcd, abcdef02abcd"):
        await case_records(store, "abcdef")


def test_a_record_of_another_version_is_left_out() -> None:
    body = one(Decision).model_dump_json()
    rows: list[dict[str, Scalar]] = [
        {"type": Decision.TYPE, "body": body},
        {"type": Decision.TYPE, "body": '{"from": "the future"}'},
        {"type": "optiinfra.decisions.v9", "body": body},
    ]
    assert messages_of(rows) == [one(Decision)]


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [
        ("now", 0),
        ("22:13:20", 0),
        ("22:13", 20),
        ("22:13:21", 86_399),  # yesterday: today it has not been so late yet
        ("2023-11-14T22:13:00", 20),
        ("2023-11-14T23:13:00+01:00", 20),
        ("2023-11-14", 80_000),
    ],
)
def test_a_moment_is_named_by_a_time_of_day_or_in_full(text: str, ago_s: int) -> None:
    assert parse_time(text, NOW_MS) == NOW_MS - ago_s * 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("soon", "'soon' is no time"),
        ("", "'' is no time"),
        ("25:00", "'25:00' is no time"),
        ("2023-13-01", "'2023-13-01' is no time"),
        ("2023-11-14T22:13:21", "is yet to come"),
        ("1969-12-31", "is before all time"),
    ],
)
def test_what_is_no_moment_or_is_yet_to_come_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_time(text, NOW_MS)


LOW = {"sli": "load_per_replica", "window": "60s", "below": 10, "for": "120s", "on_missing": False, "doc": "d"}


class Kept:
    """A store of these SLIs and records of one workload, asked as the real one is for what lies between two times."""

    def __init__(self, slis: Sequence[Sli], records: Sequence[Message]) -> None:
        self._slis, self._records = slis, records

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        raise AssertionError(table)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        from_ms, to_ms = int(params["from_ms"] or 0), int(params["to_ms"] or 0)
        if name == "records_between":
            found = [each for each in self._records if from_ms <= each.at < to_ms and params.get("type") == each.TYPE]
            return [{"type": each.TYPE, "body": each.model_dump_json()} for each in reversed(found)]
        assert name == "slis_between"
        return [
            {"name": sli_name, "value": told.value, "samples": told.samples, "end_ms": each.end_ms}
            | {"start_ms": each.start_ms, "size_s": each.size_s, "coverage_ratio": 1.0, "freshness_s": 0.0}
            | {"instances": 1, "instances_up": 1, "stalled": 0}
            for each in sorted(self._slis, key=lambda one: one.end_ms)
            if from_ms < each.end_ms <= to_ms
            for sli_name, told in each.values.items()
        ]


def at(second: float) -> int:
    return START_MS + int(second * 1000)


def slack(**change: object) -> tuple[RuleSet, list[Sli], list[CandidateSet]]:
    """Half an hour of little load: its rules, its windows, and what was proposed, every 120 s once it is held."""
    workload = Workload([pack({"up": rule(cooldown="120s")}, {"waiting": LOW | change})])
    slis = [sli(second, 60, load_per_replica=3.0) for second in range(60, 1800, 60)]
    told = workload.tell(*with_ticks(slis, at(1800)))
    return workload.rules, slis, [each for each in told if isinstance(each, CandidateSet)]


async def test_a_cooldown_runs_from_what_the_store_says_was_proposed_however_long_the_hold() -> None:
    rules, slis, proposed = slack()
    assert [(each.at_ms - START_MS) / 1000 for each in proposed[:3]] == [180, 300, 420]
    found = await moment(Kept(slis, proposed), rules, "chat", at(1495), speed=20)
    [account] = found.accounts
    assert (account.state, account.last_ms, account.cooldown_left_s) == (RuleState.COOLING, at(1380), 5.0)
    cooldown, hold = account.why
    assert cooldown == "cooling down, 5 s of 120 s left"
    assert hold.endswith("held ≥ 295 s")


async def test_a_hold_that_began_within_the_history_is_told_to_the_second() -> None:
    rules, slis, proposed = slack()
    slis = [*slis[:20], slis[20].model_copy(update={"values": sli(0, load_per_replica=30.0).values}), *slis[21:]]
    found = await moment(Kept(slis, proposed), rules, "chat", at(1495), speed=20)
    assert found.accounts[0].why[-1].endswith("held 175 s")


async def test_a_hold_by_hysteresis_that_may_be_older_than_the_history_is_told_as_possible() -> None:
    rules, slis, proposed = slack(until=14)
    between = [each.model_copy(update={"values": sli(0, load_per_replica=12.0).values}) for each in slis]
    [account] = (await moment(Kept(between, proposed), rules, "chat", at(1495), speed=20)).accounts
    assert account.why[-1].endswith("is 12, needs < 10, or < 14 where it held before all that is told here")


async def test_nothing_is_called_proposed_of_which_no_proposal_is_kept() -> None:
    rules, slis, _ = slack()
    for second in range(600, 1500, 7):
        [account] = (await moment(Kept(slis, []), rules, "chat", at(second), speed=20)).accounts
        assert (account.state, account.last_ms) == (RuleState.FIRES, None)
    told = list((await moment(Kept(slis, []), rules, "chat", at(600), speed=20)).lines())
    assert "  up (priority 100) fired, though no proposal of it is kept for this moment:" in told


async def test_a_moment_is_a_second_and_what_was_proposed_within_it_is_told_with_the_numbers_of_then() -> None:
    rules, slis, proposed = slack()
    late = proposed[5].model_copy(update={"at_ms": proposed[5].at_ms + 350})
    for second, state in ((-1, RuleState.FIRES), (0, RuleState.PROPOSES), (1, RuleState.COOLING)):
        store = Kept(slis, [late])
        found = await moment(store, rules, "chat", proposed[5].at_ms + second * 1000, speed=20)
        assert found.accounts[0].state is state
        if state is RuleState.PROPOSES:
            (fact,) = late.candidates[0].facts
            assert found.accounts[0].why[0].endswith(f", the bound is < 10, for {fact.held_s:.0f} s")
            assert found.at_ms == late.at_ms


async def test_what_an_agent_found_is_told_as_it_was_at_the_moment() -> None:
    short = {"finding": "replicas_short", "above": 0, "on_missing": False, "doc": "d"}
    rules = Workload([pack({"up": rule()}, {"waiting": short})]).rules
    found = [sizing(second, replicas_short=float(second == 45)) for second in range(0, 90, 15)]
    for second, said in ((44, "replicas_short is 0, needs > 0"), (45, "replicas_short is 1, > 0, held 0 s")):
        store = Kept([sli(0, replicas_up=3.0)], found)
        [account] = (await moment(store, rules, "chat", at(second), speed=1)).accounts
        assert account.why == (f"waiting: {said}",)
