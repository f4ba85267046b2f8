"""A reviewer's answers are recorded once and played back, and what was never asked is not approved."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.core.review import judge_all
from contracts.errors import ConfigError
from contracts.events import CandidateSet, Decision, Review
from optiinfra.replay.pipeline import Surroundings
from optiinfra.replay.reviews import RecordedReviewer
from tests.optiinfra.replay.loads import played, steps

LOAD = steps((24, 60), (40, 240))


class Model:
    """A reviewer that stands for a language model: it agrees, in words of its own, and counts what it is asked."""

    name = "llm:model"

    def __init__(self) -> None:
        self.asked = 0

    async def review(self, candidates: CandidateSet) -> Review:
        self.asked += 1
        return Review(candidates=candidates, reviewer=self.name, judgements=judge_all(candidates), cost_usd=0.25)


def test_answers_are_asked_once_and_then_played_back(tmp_path: Path) -> None:
    model, log = Model(), tmp_path / "reviews.jsonl"
    first, heard = played(LOAD, Surroundings(reviewer=model, review_log=log), scrape_s=5, initial_replicas=8)
    assert first.reviewer == "recorded:llm:model"
    assert first.deeds
    asked = model.asked
    assert asked == len(log.read_text().splitlines()) > 0
    again, repeated = played(LOAD, Surroundings(reviewer=model, review_log=log), scrape_s=5, initial_replicas=8)
    assert model.asked == asked
    assert again == first
    assert repeated == heard
    alone, _ = played(LOAD, Surroundings(review_log=log), scrape_s=5, initial_replicas=8)
    assert alone.deeds == first.deeds
    told = [each.reviewer for each in heard if isinstance(each, Review)]
    assert set(told) == {"llm:model"}


def test_without_a_log_the_model_is_not_asked_and_the_result_says_so() -> None:
    model = Model()
    result, heard = played(LOAD, Surroundings(reviewer=model), scrape_s=5, initial_replicas=8)
    assert model.asked == 0
    assert result.reviewer == "deterministic: llm:model is not asked without a review log"
    assert {each.reviewer for each in heard if isinstance(each, Review)} == {"deterministic"}


def test_what_was_never_recorded_is_not_approved(tmp_path: Path) -> None:
    result, heard = played(LOAD, Surroundings(review_log=tmp_path / "none.jsonl"), scrape_s=5, initial_replicas=8)
    assert result.deeds == ()
    codes = {each.code for each in heard if isinstance(each, Decision)}
    assert codes == {"review_failed"}


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"asked": "x", "reviewer": "y"}\n{"nonsense": 1}\n')
    with pytest.raises(ConfigError, match=r"reviews\.jsonl:2: no recorded review"):
        RecordedReviewer(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        RecordedReviewer(tmp_path)
