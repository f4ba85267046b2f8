"""The reviewer as off-stream work: one review for each set, whatever the reviewer does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.reviewer.deterministic import DeterministicReviewer
from agents.reviewer.handler import reviewing
from contracts.events import CandidateSet, Review, Tick, Verdict
from tests.agents.review_sets import a_set, scale_up


class Broken:
    """A reviewer that breaks the promise of its port."""

    name = "broken"

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def review(self, candidates: CandidateSet) -> Review:
        raise self._error


def steps() -> Iterator[float]:
    """A clock that goes on by a quarter of a second each time it is read."""
    now_s = 100.0
    while True:
        yield now_s
        now_s += 0.25


async def test_a_set_gets_one_review_and_how_long_it_took() -> None:
    handle = reviewing(DeterministicReviewer(), clock_s=steps().__next__)
    candidates = a_set(scale_up())
    [review] = await handle(candidates)
    assert isinstance(review, Review)
    assert (review.candidates, review.took_s, review.judgements[0].verdict) == (candidates, 0.25, Verdict.APPROVE)


async def test_the_same_set_gets_the_same_review_id_again() -> None:
    handle = reviewing(DeterministicReviewer(), clock_s=steps().__next__)
    [first], [second] = await handle(a_set(scale_up())), await handle(a_set(scale_up()))
    assert first.id == second.id


async def test_other_messages_are_none_of_its_business() -> None:
    handle = reviewing(DeterministicReviewer(), clock_s=steps().__next__)
    assert await handle(Tick(at_ms=1, partition=0)) == []


@pytest.mark.parametrize("error", [ValueError("sk-sesame"), KeyError("sk-sesame"), RuntimeError(), TimeoutError()])
async def test_a_reviewer_that_breaks_gives_a_failed_review_without_the_errors_words(error: Exception) -> None:
    [review] = await reviewing(Broken(error), clock_s=steps().__next__)(a_set(scale_up()))
    assert isinstance(review, Review)
    assert (review.failure, review.judgements) == (f"the reviewer broke: {type(error).__name__}", ())
    assert "sesame" not in review.model_dump_json()
