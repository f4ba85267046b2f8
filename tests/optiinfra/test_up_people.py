"""People and reviewers at the whole platform: it recommends, is answered, and tells the story of it afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.twin.fleet import WorkloadSpec
from connectors.twin.load import LoadSpec
from contracts.clock import ClockAnchor, EventClock
from contracts.events import Action, Answer, Approval, Decision, Outcome, Refusal
from tests.agents.llm_server import Answer as LlmAnswer
from tests.agents.llm_server import LlmServer, a_judgement, approves_everything, judges, sends, stalls
from tests.connectors.twin.running import serving
from tests.optiinfra.asked import BUSY, CALM, IDLE, Asked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170), pytest.mark.platform]

KEY = "sk-only-for-the-reviewer"


@pytest.fixture
async def running() -> AsyncIterator[list[Asked]]:
    """The platforms that a test has started: they end with it."""
    started: list[Asked] = []
    yield started
    for each in started:
        await each.ended()


def recommended(kind: str) -> Callable[[Decision], bool]:
    return lambda each: each.answer is Answer.RECOMMENDED and each.candidate.spec.kind == kind


async def test_in_mode_advisory_people_act_and_the_story_names_them(tmp_path: Path, running: list[Asked]) -> None:
    loop = Asked(tmp_path, 600, {"OPTIINFRA_MODE": "advisory"})
    running.append(loop)
    await loop.start("--speed", "5")
    await loop.load(BUSY)
    more = await loop.decision(recommended("scale_up"), "a recommendation to add")
    assert more.reasons[0] is Refusal.ADVISORY_MODE
    assert loop.told(Action) == []
    assert more.decision_id in [each["decision_id"] for each in await loop.told_of("decisions", "--waiting")]

    done = await loop.told_of("approve", more.decision_id[:10], "--as", "ann", "--reason", "launch at noon")
    assert (done["answer"], done["actor"]) == ("approved", "ann")
    [action] = loop.told(Action)
    assert (action.decision_id, action.approved_by) == (more.decision_id, "ann")
    await loop.until(lambda: loop.told(Outcome), "its end")
    [outcome] = {each.id: each for each in loop.told(Outcome)}.values()
    assert outcome.end_state == "verified"
    await loop.load(IDLE)
    less = await loop.decision(recommended("scale_down"), "a recommendation to take away")
    await loop.ask("reject", less.decision_id[:10], "--as", "bob", "--reason", "a job begins soon")

    await explained(loop, action.id[:10], "ann said yes: launch at noon", "approved by ann", "It ended: verified")
    await explained(loop, less.decision_id[:10], "bob said no: a job begins soon", "refused it (rejected)")
    kinds = [each["type"] for each in await loop.told_of("explain", more.decision_id)]
    assert {"optiinfra.decisions.v1", "optiinfra.approvals.v1", "optiinfra.outcomes.v1"} <= set(kinds)
    await moments(loop, more)
    await wrong_questions(loop, more)
    assert await loop.told_of("audit", "verify") == {"lines": len(await audit(loop)), "broken_at": None} | {
        "head": (await audit(loop))[-1]["hash"]
    }
    assert (await loop.told_of("mode", "set", "chat", "semi-autonomous"))["heard_by"] == ["ledger", "arbiter"]
    for _ in range(2):  # that it was said once does not make it known
        said = await loop.ask("mode", "set", "chatt", "advisory")
        assert "no workload chatt has been seen; known: chat" in said
    assert "chat" in (await loop.told_of("kill", "--as", "ann"))["workloads"]
    assert (await loop.told_of("resume", "chat"))["workloads"] == ["chat"]
    assert [each["approve"] for each in dumped(loop.told(Approval))] == [True, False]
    assert "acts: advisory on the simulated fleet" in await loop.stop()
    assert "explain: no store is running here" in await loop.ask("explain", more.decision_id, code=3)


def dumped(messages: list[Any]) -> list[dict[str, Any]]:
    return [each.model_dump() for each in sorted(messages, key=lambda each: each.at_ms)]


async def audit(loop: Asked) -> list[dict[str, Any]]:
    """The lines of the audit log."""
    return list(await loop.told_of("audit", "show", "-n", "1000"))


async def explained(loop: Asked, ident: str, *parts: str) -> None:
    """The story comes to hold these parts: the store is some batches behind the broker."""
    deadline_s = time.monotonic() + 40
    while True:
        try:
            story = await loop.ask("explain", ident)
        except AssertionError:
            story = ""
        if all(part in story for part in parts):
            return
        assert time.monotonic() < deadline_s, story
        await asyncio.sleep(0.5)


async def moments(loop: Asked, more: Decision) -> None:
    """A moment can be named in three ways; one of which nothing is known says so."""
    at = datetime.fromtimestamp(more.at_ms / 1000, UTC)
    for text in (f"{at:%H:%M:%S}", f"{at:%Y-%m-%dT%H:%M:%S}", f"{at + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00"):
        told = await loop.told_of("explain", "chat", "--at", text)
        assert abs(told["at_ms"] - more.at_ms) < 1000
        assert more.decision_id in [each.get("decision_id") for each in told["around"]]
        assert {each["rule"] for each in told["rules"]} == {"more", "less"}
    assert "chat at " in await loop.ask("explain", "chat", "--at", "now")
    before = await loop.ask("explain", "chat", "--at", "1990-01-01T00:00:00")
    assert "nothing is known of the workload at this moment" in before
    assert "Nothing was decided or done within 120 s of it." in before


async def wrong_questions(loop: Asked, more: Decision) -> None:
    """What cannot be answered is told in one line, with what would help."""
    for words, told in {
        ("ffffff",): "no decision, action or workload 'ffffff'",
        (more.decision_id[:4],): "of an id six characters are needed",
        ("nobody", "--at", "now"): "no workload 'nobody'. Workloads: chat",
        ("chat", "--at", "soon"): "'soon' is no time. Write 14:03:20",
        ("chat", "--at", "2190-01-01"): "'2190-01-01' is yet to come. Event time is",
        ("chat", "--at", "1890-01-01"): "is before all time that is told here",
        (): "say what is to be explained",
    }.items():
        said = await loop.ask("explain", *words, code=2)
        assert told in said
        assert len(said.splitlines()) == 1


async def test_for_targets_of_ones_own_it_recommends_only_and_says_so(tmp_path: Path, running: list[Asked]) -> None:
    wall_ms = int(time.time() * 1000)
    clock = EventClock(
        ClockAnchor(wall_anchor_ms=wall_ms, event_anchor_ms=wall_ms, speed=1.0), time.time, time.monotonic
    )
    busy = WorkloadSpec("chat", "a/chat-model", 2, LoadSpec(16.0, day_s=1_000_000))
    async with serving(tmp_path / "fleet", clock=clock, workloads=(busy,)) as fleet:
        loop = Asked(tmp_path, 600)
        running.append(loop)
        await loop.start("--targets", str(fleet.file_sd), acts=False)
        asked = await loop.decision(lambda each: True, "a decision")
        assert (asked.answer, asked.reasons[0]) == (Answer.RECOMMENDED, Refusal.NO_CONTROLLER)
        assert not {"executor", "twin"} & set(loop.run.pids)
        said = await loop.ask("approve", asked.decision_id[:10], "--as", "ann", code=4)
        assert "there is no controller for this fleet: it has to be done by hand" in said
        assert loop.told(Action) == []
        assert len(await fleet.phases()) == 2
        assert "acts: recommends only: there is no controller for targets of your own" in await loop.stop()
        assert loop.up.report()["actions"] == {}


class Moody:
    """Answers of a model as a test says at the time."""

    def __init__(self) -> None:
        self.mood: LlmAnswer = sends(500, '{"error": {"message": "' + KEY + '"}}')

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await self.mood(request, body)


async def test_a_model_that_fails_approves_nothing_and_one_that_answers_is_named(
    tmp_path: Path, running: list[Asked]
) -> None:
    moody = Moody()
    async with LlmServer(moody) as server:
        model = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        model |= {"OPTIINFRA_REVIEW__MODEL": "loopback", "OPTIINFRA_REVIEW__TIMEOUT_S": "1"}
        loop = Asked(tmp_path, 20, model)
        running.append(loop)
        await loop.start("--speed", "10")
        await loop.load(BUSY)
        failures: Mapping[str, LlmAnswer] = {
            "HTTP 500": moody.mood,
            "no answer within 1 s": stalls(),
            "the model's answer has the wrong shape": judges(a_judgement(confidence="high", verdict=True)),
        }
        for words, mood in failures.items():
            moody.mood = mood
            failed = await loop.decision(lambda each, words=words: words in str(each.detail), words)  # type: ignore[misc]
            assert (failed.answer, failed.reasons[0]) == (Answer.REFUSED, Refusal.REVIEW_FAILED)
            assert failed.reviewer.startswith("llm:loopback:")
        os.kill(loop.run.pids["reviewer"], signal.SIGSTOP)  # as one that hangs: the set is answered without it
        silent = await loop.decision(lambda each: Refusal.NO_REVIEW in each.reasons, "a decision without a review")
        assert (silent.answer, silent.reviewer) == (Answer.REFUSED, "")
        assert loop.told(Action) == []
        moody.mood = approves_everything()
        with suppress(ProcessLookupError):  # the watchdog may have ended it, and started another
            os.kill(loop.run.pids["reviewer"], signal.SIGCONT)
        judged = await loop.decision(lambda each: each.answer is Answer.APPROVED, "an approval")
        assert judged.reviewer.startswith("llm:loopback:")
        assert judged.judgement is not None
        await loop.load(CALM)
        await loop.until(lambda: loop.told(Outcome), "the end of an action")

        shown = await loop.ask("config", "check") + await loop.ask("config", "check", "--json")
        shown += await loop.ask("status", "--json")
        shown += "".join(" ".join(each.cmdline()) for each in loop.up.children())
        assert "reviewer: LLM (loopback)" in (output := await loop.stop())
    assert server.seen[-1][0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in shown + output
    assert await asyncio.to_thread(files_with, tmp_path, KEY) == []


def files_with(place: Path, text: str) -> list[str]:
    """The files below a place that hold a text."""
    return [str(file) for file in place.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]
