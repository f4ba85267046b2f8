"""A reviewer's answers are recorded once and played back, and what was never asked is not approved."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agents.core.review import judge_all
from contracts.errors import ConfigError
from contracts.events import CandidateSet, Decision, Review
from optiinfra.cli import app
from optiinfra.replay.pipeline import Surroundings
from optiinfra.replay.reviews import MOST_FAILURES, RecordedReviewer
from tests.agents.llm_server import LlmServer, a_judgement, approves_everything, judges
from tests.connectors.traces import tables
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
    assert first.reviewer == "recorded:reviews.jsonl"
    assert first.deeds
    asked = model.asked
    assert asked == len(log.read_text().splitlines()) > 0
    assert first.reviews == {"llm:model": asked}
    again, repeated = played(LOAD, Surroundings(reviewer=model, review_log=log), scrape_s=5, initial_replicas=8)
    assert model.asked == asked
    assert again == first
    assert repeated == heard
    alone, _ = played(LOAD, Surroundings(review_log=log), scrape_s=5, initial_replicas=8)
    assert alone == first
    told = [each.reviewer for each in heard if isinstance(each, Review)]
    assert set(told) == {"llm:model"}


def test_without_a_log_the_model_is_not_asked_and_the_result_says_so() -> None:
    model = Model()
    result, heard = played(LOAD, Surroundings(reviewer=model), scrape_s=5, initial_replicas=8)
    assert model.asked == 0
    assert result.reviewer == "deterministic: llm:model is not asked without a review log"
    assert {each.reviewer for each in heard if isinstance(each, Review)} == {"deterministic"}


def test_what_was_never_recorded_is_judged_by_the_deterministic_reviewer_and_counted(tmp_path: Path) -> None:
    model, log = Model(), tmp_path / "reviews.jsonl"
    whole, _ = played(LOAD, Surroundings(reviewer=model, review_log=log), scrape_s=5, initial_replicas=8)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:1]))
    result, heard = played(LOAD, Surroundings(review_log=log), scrape_s=5, initial_replicas=8)
    told = Counter(each.reviewer for each in heard if isinstance(each, Review))
    assert told["llm:model"] == 1
    assert result.reviews == {"llm:model": 1, "deterministic: not in the log": told["deterministic"]}
    assert [each.action_id for each in result.deeds] == [each.action_id for each in whole.deeds], "both approve alike"


class Broken(Model):
    """Never has an answer."""

    async def review(self, candidates: CandidateSet) -> Review:
        self.asked += 1
        return Review(candidates=candidates, reviewer=self.name, failure="HTTP 500")


def test_an_answer_that_failed_is_no_approval_is_not_kept_and_is_soon_not_asked_for_any_more(tmp_path: Path) -> None:
    broken, log = Broken(), tmp_path / "reviews.jsonl"
    result, heard = played(LOAD, Surroundings(reviewer=broken, review_log=log), scrape_s=5, initial_replicas=8)
    assert result.deeds == ()
    assert {each.code for each in heard if isinstance(each, Decision)} == {"review_failed"}
    assert broken.asked == MOST_FAILURES < result.reviews["failed"]
    assert not log.exists()


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty minutes that double, and no settings of anybody else's."""
    for name in [each for each in os.environ if each.startswith(("OPTIINFRA_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    moments = [second + n / rate for second in range(1200) for rate in (5 + 5 * (second > 400),) for n in range(rate)]
    lines = [f"{at_s:.3f},m,1,1,2,log" for at_s in moments]
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    return tables.write(tmp_path / "b.csv", [head, *lines])


def replay(trace: Path, *words: str, **environment: str) -> Result:
    asked = ["replay", "--trace", str(trace), "--policy", "rules", "--startup", "60s", "--json", "r.json", *words]
    return CliRunner().invoke(app, [*asked, "--review-log", "log.jsonl"], env=environment)


def written(name: str) -> str:
    return Path(name).read_text()


def account() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(written("r.json"))["rules"][0]
    return told


async def test_a_model_is_asked_once_over_the_wire_and_then_played_back_without_it(trace: Path) -> None:
    async with LlmServer(approves_everything()) as server:
        environment = {"OPTIINFRA_REVIEW__BASE_URL": server.url, "OPTIINFRA_REVIEW__MODEL": "loopback"}
        result = await asyncio.to_thread(replay, trace, "--review-record", **environment)
        assert result.exit_code == 0, result.output
        first, asked = written("r.json"), len(server.seen)
        again = await asyncio.to_thread(replay, trace, "--review-record", **environment)
        assert again.exit_code == 0, again.output
        assert len(server.seen) == asked > 0
    told = account()
    (name,) = told["reviews"]
    assert name.startswith("llm:loopback:")
    assert told["reviews"] == {name: asked}
    assert f"reviewer: recorded:log.jsonl ({asked} {name})" in result.stdout
    assert told["deeds"]
    offline = await asyncio.to_thread(replay, trace)
    assert offline.exit_code == 0, offline.output
    assert written("r.json") == first
    assert written("log.jsonl").count("\n") == asked


async def test_a_model_that_vetoes_changes_what_the_replay_does(trace: Path) -> None:
    veto = [a_judgement(id=f"r{n}", verdict="veto", reasons=["no"]) for n in range(6)]
    async with LlmServer(judges(*veto)) as server:
        result = await asyncio.to_thread(replay, trace, "--review-record", OPTIINFRA_REVIEW__BASE_URL=server.url)
    assert result.exit_code == 0, result.output
    assert account()["deeds"] == []
    assert account()["decisions"].keys() == {"vetoed"}


def test_a_log_that_is_not_there_or_nobody_to_ask_is_refused_before_anything_runs(trace: Path) -> None:
    absent = replay(trace)
    assert (absent.exit_code, "no recorded answers" in absent.stderr) == (2, True)
    nobody = replay(trace, "--review-record")
    assert (nobody.exit_code, "name no model to be asked" in nobody.stderr) == (2, True)
    Path("log.jsonl").write_text("{}\n")
    broken = replay(trace)
    assert (broken.exit_code, "log.jsonl:1: no recorded review" in broken.stderr) == (2, True)
    unheeded = replay(trace, "--policy", "hpa")
    assert (unheeded.exit_code, "--review-log would change nothing" in unheeded.stderr) == (2, True)
    assert not Path("r.json").exists()


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"asked": "x", "reviewer": "y"}\n{"nonsense": 1}\n')
    with pytest.raises(ConfigError, match=r"reviews\.jsonl:2: no recorded review"):
        RecordedReviewer(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        RecordedReviewer(tmp_path)
