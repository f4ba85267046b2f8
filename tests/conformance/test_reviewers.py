"""What every reviewer promises, whoever judges: a review of the set that was asked about, and no exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from agents.core.review import judge_all
from agents.reviewer.deterministic import DeterministicReviewer
from agents.reviewer.llm import LlmOptions, LlmReviewer
from contracts.events import ActionKind, CandidateSet, Review, Verdict
from contracts.ports import Reviewer
from tests.agents.llm_server import LlmServer, approves_everything
from tests.agents.review_sets import a_set, a_spec, scale_down, scale_up

Member = Callable[[], AbstractAsyncContextManager[Reviewer]]


@asynccontextmanager
async def deterministic() -> AsyncIterator[Reviewer]:
    yield DeterministicReviewer()


@asynccontextmanager
async def llm() -> AsyncIterator[Reviewer]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LlmServer(approves_everything()))
        yield await stack.enter_async_context(LlmReviewer(LlmOptions(model="loopback", base_url=server.url)))


members = pytest.mark.parametrize("member", [deterministic, llm], ids=lambda member: member.__name__)

SETS = {
    "one candidate": a_set(scale_up()),
    "opposites": a_set(scale_up(), scale_down()),
    "a large step": a_set(scale_up(spec=a_spec(ActionKind.SCALE_UP, 9))),
    "no evidence": a_set(scale_down(), evidence={}, replicas=None, coverage_ratio=0.0),
    "no facts": a_set(scale_up(facts=())),
    "a rule twice": a_set(scale_up(), scale_up(rule_version=2)),
    "many": a_set(*(scale_up(rule=f"rule-{number}") for number in range(100))),
    "names of no reader": a_set(scale_up(rule="\u202e\x1b[2J\n" + "r" * 150), workload="a/b\x00c" + "w" * 150),
}
sets = pytest.mark.parametrize("candidates", SETS.values(), ids=SETS)


@members
@sets
async def test_a_review_judges_its_set_within_the_deterministic_limit(member: Member, candidates: CandidateSet) -> None:
    async with member() as reviewer:
        review = await reviewer.review(candidates)
    assert (review.candidates, review.reviewer, review.failure) == (candidates, reviewer.name, "")
    limits = {each.rule: each for each in judge_all(candidates)}
    order = list(Verdict)
    assert {each.rule for each in review.judgements} == limits.keys()
    for each in review.judgements:
        assert order.index(each.verdict) >= order.index(limits[each.rule].verdict)
        assert each.confidence <= limits[each.rule].confidence
        assert each.reasons


@members
@sets
async def test_a_review_survives_the_wire(member: Member, candidates: CandidateSet) -> None:
    async with member() as reviewer:
        review = await reviewer.review(candidates)
    assert Review.model_validate_json(review.model_dump_json()) == review


@members
async def test_the_same_set_gets_a_review_of_the_same_id(member: Member) -> None:
    async with member() as reviewer:
        first, second = await asyncio.gather(*(reviewer.review(SETS["opposites"]) for _ in range(2)))
    assert first.id == second.id
    assert first.judgements == second.judgements


@members
async def test_a_name_is_fit_for_a_message(member: Member) -> None:
    async with member() as reviewer:
        assert 1 <= len(reviewer.name) <= 200
        assert reviewer.name.isprintable()
