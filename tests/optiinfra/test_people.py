"""What people say at the command line, with the real arbiter behind it: it is answered at once, and acted on once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, Conflict
from contracts.events import (
    Action,
    Alert,
    Answer,
    Approval,
    Control,
    ControlKind,
    Decision,
    Message,
    Mode,
    Refusal,
    Verdict,
)
from contracts.ports import Publisher
from contracts.topics import BY_MESSAGE
from optiinfra import controls, people
from optiinfra.commands.people import MOST_READ
from optiinfra.wiring import open_publisher
from streams.brokers import admin
from tests.agents.arbiter_desk import found, judged, up
from tests.conftest import Broker
from tests.contracts.messages import FULL
from tests.optiinfra.arbiter_process import TTL_WALL_S
from tests.optiinfra.test_up import clean_environment

pytestmark = [pytest.mark.timeout(120)]

M = TypeVar("M", bound=Message)
ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0


class Office:
    """A broker, the arbiter as a process, and people who speak to it."""

    def __init__(self, broker: Broker, publisher: Publisher, place: Path, *flags: str) -> None:
        self.broker, self.publisher, self.place = broker, publisher, place
        now_ms = int(time.time() * 1000)
        self.anchor = ClockAnchor(wall_anchor_ms=now_ms, event_anchor_ms=now_ms, speed=1.0)
        command = [sys.executable, "-m", "tests.optiinfra.arbiter_process", "--bootstrap", broker.bootstrap]
        command += ["--anchor-ms", str(now_ms), *(["--embedded"] if broker.embedded else []), *flags]
        self.process = subprocess.Popen(command, cwd=ROOT)

    def told(self, kind: type[M]) -> list[M]:
        tailed = admin.tail(self.broker.bootstrap, BY_MESSAGE[kind].name, from_beginning=True, follow=False)
        return [each.message for each in tailed if isinstance(each.message, kind)]

    async def until(self, look: Callable[[], list[M]]) -> M:
        """The newest of what is looked for, once there is one."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not (seen := await asyncio.to_thread(look)):
            assert self.process.poll() is None, "the arbiter ended"
            assert time.monotonic() < deadline_s, "it did not happen"
            await asyncio.sleep(0.2)
        return seen[-1]

    async def proposed(self, verdict: Verdict = Verdict.DEMOTE, ago_s: float = 0.0) -> Decision:
        """A proposal, reviewed, and what the arbiter first says to it."""
        at_ms = int(time.time() * 1000 - ago_s * 1000)
        candidates = found(up(), at_ms=at_ms, cause_ms=at_ms - 500)
        for message in (candidates, judged(candidates, verdict=verdict)):
            await self.publisher.publish(message)
        ident = candidates.candidate_id(candidates.candidates[0])
        return await self.until(lambda: [each for each in self.told(Decision) if each.decision_id == ident])

    async def say(self, ident: str, *, approve: bool = True, actor: str = "ann", reason: str = "") -> Decision:
        return await people.answer(
            self.broker.bootstrap, self.publisher, self.anchor, ident, approve=approve, actor=actor, reason=reason
        )

    async def set(self, kind: ControlKind, mode: Mode | None = None, ago_s: float = 0.0) -> controls.Said:
        def made(workload: str) -> Control:
            control = controls.control(workload, kind, self.anchor, actor="ann", reason="incident 7", mode=mode)
            return control.model_copy(update={"at_wall_ms": control.at_wall_ms - int(ago_s * 1000)})

        return await controls.say(made, ("chat",), redis_url="", bootstrap=self.broker.bootstrap)

    async def ask(self, *words: str) -> tuple[int, str, str]:
        """A command: its exit code, what it printed, and what it said on stderr."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "optiinfra", *words, "--kafka", self.broker.bootstrap, "--state", "state"),
            cwd=self.place,
            env=clean_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, error = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, output.decode(), error.decode()


Opened = Callable[..., Office]


@pytest.fixture
async def opened(own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Opens an office; with flags of the arbiter's process."""
    monkeypatch.setattr(people, "ANSWER_WITHIN_S", PATIENCE_S)
    own_broker.make_topics(["arbiter"])
    publisher = await open_publisher(own_broker.bootstrap, "test")
    made: list[Office] = []

    def make(*flags: str) -> Office:
        made.append(Office(own_broker, publisher, tmp_path, *flags))
        return made[-1]

    yield make
    await publisher.stop()
    for office in made:
        office.process.kill()
        office.process.wait(30)


async def test_a_yes_becomes_an_action_once_and_whoever_comes_second_is_told_who_was_first(opened: Opened) -> None:
    office = opened()
    asked = await office.proposed()
    assert asked.answer is Answer.NEEDS_APPROVAL
    assert [each.decision_id for each in await asyncio.to_thread(people.waiting, office.broker.bootstrap)] == [
        asked.decision_id
    ]
    both = await asyncio.gather(
        *(office.ask("approve", asked.decision_id[:8], "--as", name, "--reason", "already planned") for name in "ab")
    )
    assert sorted(code for code, _, _ in both) == [0, 4], both
    first = "a" if both[0][0] == 0 else "b"
    texts = {code: output for code, output, _ in both}
    assert f"approved by {first}: already planned" in texts[0]
    assert f"already approved by {first}" in texts[4]
    assert "by " + ("b" if first == "a" else "a") not in texts[4]
    [action] = {each.id: each for each in office.told(Action)}.values()
    assert (action.decision_id, action.approved_by) == (asked.decision_id, first)

    late = await office.say(action.id[:10], approve=False, actor="carl")  # by the action's id as well
    assert (late.answer, late.detail) == (Answer.APPROVED, (f"already approved by {first}",))
    assert await office.ask("decisions", "--waiting") == (0, "nothing waits\n", "")
    assert await asyncio.to_thread(people.waiting, office.broker.bootstrap) == []


async def test_a_yes_to_a_case_whose_rule_proposed_anew_is_a_yes_to_the_newer_one(opened: Opened) -> None:
    office = opened()
    first = await office.proposed(ago_s=1)
    second = await office.proposed()
    code, output, _ = await office.ask("approve", first.decision_id[:10], "--as", "ann")
    assert (code, f"said of {first.decision_id}" in output, "approved: " in output) == (0, True, True)
    [action] = {each.id: each for each in office.told(Action)}.values()
    assert (action.decision_id, action.approved_by) == (second.decision_id, "ann")


async def test_who_follows_an_empty_topic_is_told_so(own_broker: Broker) -> None:
    own_broker.make_topics([])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "optiinfra", "topics", "tail", "deadletter", "--from-beginning"),
        *("--kafka", own_broker.bootstrap),
        env=clean_environment(),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert await asyncio.wait_for(process.stderr.readline(), 60) == b"none so far; Ctrl-C ends\n"
    process.kill()
    await process.communicate()


async def test_a_no_too_late_and_a_kill_each_make_no_action_and_say_so(opened: Opened) -> None:
    office = opened()
    old = await office.proposed(ago_s=TTL_WALL_S + 30)
    late = await office.say(old.decision_id)
    assert (late.answer, late.reasons) == (Answer.REFUSED, (Refusal.EXPIRED,))
    code, output, _ = await office.ask("approve", old.decision_id)
    assert (code, "already expired" in output) == (4, True)

    asked = await office.proposed()
    code, output, _ = await office.ask("reject", asked.decision_id, "--as", "ann", "--reason", "it will pass", "--json")
    told = json.loads(output)
    assert (code, told["answer"], told["reasons"]) == (0, "refused", ["rejected"])
    assert told["detail"] == ["rejected by ann: it will pass"]

    open_case = await office.proposed()
    assert (await office.set(ControlKind.KILL)).topic
    code, output, _ = await office.ask("approve", open_case.decision_id[:10], "--as", "bob")
    assert (code, "stopped by ann: incident 7" in output, "the case stays open" in output) == (4, True, True)
    assert office.told(Action) == []
    await office.set(ControlKind.RESUME)
    assert (await office.say(open_case.decision_id, actor="bob")).answer is Answer.APPROVED
    assert [each.approved_by for each in office.told(Action)] == ["bob"]


async def test_a_mode_that_is_older_than_what_stands_changes_nothing_and_is_told(opened: Opened) -> None:
    office = opened()
    await office.proposed()
    await office.set(ControlKind.MODE, Mode.ADVISORY)
    await office.set(ControlKind.MODE, Mode.AUTONOMOUS, ago_s=60)
    alert = await office.until(lambda: [each for each in office.told(Alert) if each.name == "control_ignored"])
    assert "changed nothing" in alert.summary
    newest = await office.proposed(Verdict.APPROVE)
    assert (newest.mode, newest.answer) == (Mode.ADVISORY, Answer.RECOMMENDED)


async def test_a_yes_without_a_controller_says_that_it_has_to_be_done_by_hand(opened: Opened) -> None:
    office = opened("--no-controller")
    asked = await office.proposed(Verdict.APPROVE)
    assert (asked.answer, asked.reasons[0]) == (Answer.RECOMMENDED, Refusal.NO_CONTROLLER)
    code, output, _ = await office.ask("approve", asked.decision_id, "--as", "ann")
    assert code == 4
    assert "there is no controller for this fleet: it has to be done by hand" in output
    assert office.told(Action) == []


async def test_what_nobody_was_asked_about_and_what_nobody_knows_is_said_at_once(opened: Opened) -> None:
    office = opened()
    acted = await office.proposed(Verdict.APPROVE)
    assert acted.answer is Answer.APPROVED
    code, _, error = await office.ask("approve", acted.decision_id)
    assert code == 4
    assert "nobody was asked: scale-up-on-burn on chat was approved in mode autonomous" in error
    with pytest.raises(Conflict, match=r"was refused \(in_flight") as refused:
        await office.say((await office.proposed(Verdict.APPROVE)).decision_id)
    assert "--waiting" in refused.value.fix
    # As a broker keeps it from before an arbiter that has forgotten it:
    forgotten = acted.model_copy(update={"decision_id": "f" * 16, "action_id": "", "expires_wall_ms": 2**50})
    await office.publisher.publish(forgotten)
    with pytest.raises(Conflict, match="which is no case of chat"):
        await office.say("f" * 16)
    assert [each.decision_id for each in office.told(Approval)] == ["f" * 16]


async def test_what_cannot_be_said_is_refused_before_it_is_said(own_broker: Broker) -> None:
    own_broker.make_topics([])
    publisher = await open_publisher(own_broker.bootstrap, "test")
    anchor = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=1.0)
    for number in (1, 2):
        await publisher.publish(decision(f"abcdef0{number}", expires_wall_ms=2**50))

    async def said(ident: str, **more: Any) -> str:
        told: dict[str, Any] = {"approve": True, "actor": "ann", "reason": ""} | more
        with pytest.raises(ConfigError) as error:
            await people.answer(own_broker.bootstrap, publisher, anchor, ident, **told)
        return str(error.value)

    assert "'abc' is too short: give at least 6 characters" in await said("abc")
    assert "too short" in await said("")
    assert "no decision or action has an id that begins with 'fedcba'" in await said("fedcba")
    assert "'abcdef' begins the ids of 2 decisions: abcdef01, abcdef02" in await said("abcdef")
    assert "actor: String should have at most 200 characters" in await said("abcdef01", actor="a" * 201)
    assert "reason: String should have at most 1000 characters" in await said("abcdef01", reason="a" * 1001)
    approvals = admin.tail(own_broker.bootstrap, BY_MESSAGE[Approval].name, from_beginning=True, follow=False)
    assert list(approvals) == []
    await publisher.stop()


def decision(ident: str, **change: Any) -> Decision:
    some = next(each for each in FULL if isinstance(each, Decision))
    plain = {"revision": 0, "action_id": "", "actor": "", "answers": "", "expires_wall_ms": None}
    return some.model_copy(update={"decision_id": ident, **plain, **change})


async def test_of_a_long_topic_the_newest_decisions_and_all_that_wait_are_found(own_broker: Broker) -> None:
    own_broker.make_topics([])
    publisher = await open_publisher(own_broker.bootstrap, "test")
    await publisher.publish(decision("waits", answer=Answer.NEEDS_APPROVAL, expires_wall_ms=2**50, at_ms=1))
    await publisher.publish(decision("waited", answer=Answer.NEEDS_APPROVAL, expires_wall_ms=2**50, at_ms=1))
    await publisher.publish(decision("waited", revision=1, at_ms=2))
    for number in range(MOST_READ + 100):
        await publisher.publish(decision(f"d{number:07d}", at_ms=number + 3))
    await publisher.stop()
    held = await asyncio.to_thread(people.decisions, own_broker.bootstrap)
    newest = await asyncio.to_thread(people.decisions, own_broker.bootstrap, MOST_READ)
    assert len(held) == MOST_READ + 103
    assert [each.decision_id for each in newest] == [f"d{number:07d}" for number in range(100, MOST_READ + 100)]
    assert [each.decision_id for each in await asyncio.to_thread(people.waiting, own_broker.bootstrap)] == ["waits"]
