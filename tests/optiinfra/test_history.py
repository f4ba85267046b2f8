"""What the store remembers of a case: found by the first characters of its id, or told why it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from contracts.errors import ConfigError
from contracts.events import Action, CandidateSet, Decision, Message, Outcome, Review
from contracts.ports import Row, Scalar
from optiinfra.history import case_records, messages_of, parse_time
from tests.contracts.test_schemas import FULL

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
