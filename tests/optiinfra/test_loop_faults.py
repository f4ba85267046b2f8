"""The loop under faults, whole: whatever dies, lies, stops or forgets, nothing is done twice and nothing forgotten."""

from __future__ import annotations

import asyncio
import functools
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from contracts.events import (
    Action,
    ActionKind,
    Alert,
    Answer,
    AuditEntry,
    CandidateSet,
    DeadLetter,
    Decision,
    EndState,
    FleetEvent,
    Outcome,
    Refusal,
    Sli,
)
from tests.dashboards.receiver import SECRET, Receiver, answers
from tests.optiinfra.faulted import BUSY, CALM, FEWEST, IDLE, MOST, Faulted
from tests.optiinfra.test_up import Up, has

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.platform]

VICTIMS = (
    *(("rules",), ("arbiter",), ("reviewer",), ("executor",), ("redis",), ("twin",)),
    *(("scraper", "ticker"), ("slis", "windows"), ("alerts", "latest", "sizing"), ("sink", "store")),
)
"""Those that only look die together, for the sake of the test's length."""

UP, DOWN = ActionKind.SCALE_UP, ActionKind.SCALE_DOWN


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    made = Up(tmp_path)
    yield made
    if made.process is not None and made.process.returncode is None:  # the test failed; its children die with it
        made.process.kill()
        await made.process.communicate()


async def moved(loop: Faulted, workload: str, known: set[str]) -> Action:
    """Turn the load of a workload so that its replicas must change; the action that comes of it. One that was decided
    before may use up the room meanwhile: then the load is turned around."""
    found: list[Action] = []
    turned: ActionKind | None = None

    async def there() -> bool:
        nonlocal turned
        kind = UP if await loop.capacity(workload) < MOST else DOWN
        if kind is not turned:
            await loop.load(BUSY if kind is UP else IDLE, workload)
            turned = kind
        told = await asyncio.to_thread(loop.told, Action)
        found[:] = [each for each in told if each.workload == workload and each.id not in known]
        return bool(found)

    await loop.until(there, f"an action on {workload}", 90)
    return found[0]


async def settled(loop: Faulted) -> None:
    """Every action told so far comes to one end; whoever told it again told the same; the ledger holds it no more."""
    await loop.load(CALM)
    actions = {each.id for each in loop.told(Action)}

    async def over() -> bool:
        ended = {each.action.id for each in loop.told(Outcome)}
        return actions <= ended and actions.isdisjoint(each.action.id for each in await loop.under_way())

    await loop.until(over, "an outcome of every action", 90)
    ends: dict[str, set[tuple[object, ...]]] = {}
    for outcome in loop.told(Outcome):
        told = (outcome.id, outcome.end_state, outcome.reasons, outcome.at_ms)
        ends.setdefault(outcome.action.id, set()).add(told)
    assert actions <= set(ends)
    assert [told for told in ends.values() if len(told) != 1] == []


async def verified(loop: Faulted, workload: str, kind: ActionKind) -> None:
    """Turn the load until one more action of this kind is seen to have worked."""
    known = {each.action.id for each in loop.told(Outcome)}
    await loop.load(BUSY if kind is UP else IDLE, workload)

    def seen() -> bool:
        return any(each.action.id not in known for each in loop.outcomes(workload, kind, EndState.VERIFIED))

    await loop.until(seen, f"a verified {kind}", 90)


async def closes(loop: Faulted, workload: str) -> None:
    """The loop works: capacity is added and given back, and both are seen to have worked."""
    for kind in (DOWN, UP) if await loop.capacity(workload) == MOST else (UP, DOWN):
        await verified(loop, workload, kind)
    await loop.load(CALM, workload)


async def test_any_process_may_be_killed_while_capacity_is_added_and_taken(up: Up) -> None:
    loop = Faulted(up, replicas={"chat": 2, "mail": 4}, by_s=600)
    await loop.start(10)
    for victims in VICTIMS:
        known = {each.id for each in loop.told(Action)}
        await asyncio.gather(moved(loop, "chat", known), moved(loop, "mail", known))
        await asyncio.gather(*(loop.killed(victim) for victim in victims))
    await settled(loop)
    assert {each.action.spec.kind for each in loop.told(Outcome)} == {UP, DOWN}
    assert {each.subject for each in loop.told(Alert) if each.name == "worker_restarted"} == {
        name for names in VICTIMS for name in names
    }
    assert loop.told(DeadLetter) == []
    await closes(loop, "chat")
    assert max((await loop.effects()).values()) == 1
    await loop.stop()


async def test_a_lost_broker_and_another_speed_forget_no_action_and_repeat_none(up: Up) -> None:
    """What the embedded broker held is gone with it, outcomes among it: the ledger knows, and so does the fleet."""
    loop = Faulted(up, replicas={"chat": 2}, by_s=600)
    await loop.start(20)
    lost = await moved(loop, "chat", set())
    await loop.until(loop.effects, "an order that took effect")
    await loop.killed("broker")
    await up.running(has("scraper", "executor", "rules", "arbiter", "reviewer", "alerts"))
    await loop.until(
        lambda: any(each.subject == lost.id and each.what in set(EndState) for each in loop.told(AuditEntry)),
        "the end of what was under way, in the audit log",
    )
    await closes(loop, "chat")
    known = {each.id for each in loop.told(Action)}
    await loop.control("PUT", "/actuation/faults", {"delay_s": 120})  # so that it is still under way at the end
    left = await moved(loop, "chat", known)
    await loop.until(functools.partial(loop.holds, left), "it in the ledger")
    told = loop.told(Sli)
    before_ms = loop.now_ms()
    assert [each for each in told if each.instance_id is None and each.end_ms > before_ms] == []
    before = await loop.effects()
    await loop.stop()

    await loop.start(5)
    await loop.load(CALM)
    await loop.until(lambda: left.id in {each.action.id for each in loop.told(Outcome)}, "its end in the next run")
    await loop.until(lambda: bool(loop.told(Sli)), "an SLI")
    assert min(each.end_ms for each in loop.told(Sli) if each.size_s == 0) > before_ms
    [end] = {each.id: each for each in loop.told(Outcome) if each.action.id == left.id}.values()
    assert end.at_ms > before_ms
    after = await loop.effects()
    assert set(before) <= set(after)
    assert max(after.values()) == 1
    assert not await loop.holds(left)

    process = up.process
    assert process is not None
    process.kill()  # and with it all that it ran
    await process.communicate()
    shutil.rmtree(up.place / "state" / "redis")
    await loop.start(20)
    await loop.until(lambda: "ledger_lost" in loop.alerts(), "a ledger to be missed that a run before this one had")
    held = await loop.effects()
    assert set(after) <= set(held)
    await loop.load(BUSY if await loop.capacity("chat") < MOST else IDLE)
    await loop.until(lambda: loop.outcomes("chat", state=EndState.REFUSED), "a refusal until people have looked")
    assert await loop.effects() == held
    await loop.stop()


async def test_blindness_lies_and_people_are_met_with_a_halt_and_an_alert(up: Up) -> None:
    async with Receiver(answers(200)) as receiver:
        loop = Faulted(
            up,
            replicas={"chat": 2, "hand": 2, "lied": 2, "code": 1},
            by_s=150,
            OPTIINFRA_ALERTS__WEBHOOK=receiver.url,
            OPTIINFRA_ALERTS__SECRET=SECRET,
            OPTIINFRA_WORKLOAD_LIMITS__CODE__MIN_REPLICAS="1",
        )
        await loop.start(10)
        await loop.load(IDLE, "code")
        await loop.control("POST", "/fleet/code/replicas", {})  # by hand, while nothing is under way
        await loop.load(BUSY, "chat", "hand")
        blind, handed = await asyncio.gather(loop.next_action("chat", UP, set()), loop.next_action("hand", UP, set()))

        async def ordered() -> bool:
            return len(await loop.effects()) >= 2

        await loop.until(ordered, "both orders")
        await loop.control("POST", "/fleet/hand/replicas", {})  # by hand, while an action is under way
        seen = await loop.control("GET", "/fleet")
        for each in seen["replicas"]:
            if each["workload"] == "chat":
                await loop.control("POST", f"/fleet/{each['replica']}/slow", {"delay_s": 600})
        await loop.control("PUT", "/actuation/faults", {"lie": True})

        async def through() -> bool:
            """What was begun on it before the lie, if anything, has ended, and no replica of that is to come."""
            starting = (await loop.control("GET", "/actuation/lied"))["starting"]
            return not starting and all(each.action.workload != "lied" for each in await loop.under_way())

        await loop.until(through, "the end of what was honest", 90)
        honest = {each.id for each in loop.told(Action) if each.workload == "lied"}
        really = await loop.capacity("lied")
        await loop.load(BUSY, "lied")
        lied = await loop.next_action("lied", UP, honest)

        capacity = [await loop.capacity("chat")]

        def end_of(action: Action) -> list[Outcome]:
            return [each for each in loop.outcomes(action.workload) if each.action.id == action.id]

        while not loop.outcomes("chat") or not end_of(lied):
            capacity.append(await loop.capacity("chat"))
            await asyncio.sleep(0.2)
        assert capacity == sorted(capacity)
        assert capacity[-1] == 3
        [end] = loop.outcomes("chat")
        assert (end.action.id, end.end_state, end.reasons[0]) == (blind.id, EndState.HELD_UNVERIFIED, "no_evidence")
        assert (end.steps_applied, end.steps_undone) == (1, 0)
        assert [each for each in loop.told(Action) if each.workload == "chat"] == [blind]

        [end] = end_of(lied)
        assert end.end_state is not EndState.VERIFIED
        assert await loop.capacity("lied") == really
        assert "lied" in end.reasons

        [end] = end_of(handed)
        assert (end.end_state, end.reasons[0]) == (EndState.HELD_UNVERIFIED, "manual_change")
        assert {each.workload for each in loop.told(FleetEvent)} == {"hand", "code"}

        def asked(workload: str, answer: Answer) -> list[Decision]:
            return [
                each
                for each in loop.told(Decision)
                if each.workload == workload and each.answer is answer and Refusal.MANUAL_CHANGE in each.reasons
            ]

        await loop.until(lambda: asked("hand", Answer.NEEDS_APPROVAL), "a person to be asked after a change by hand")
        await loop.until(lambda: asked("code", Answer.REFUSED), "capacity to be left alone after a change by hand")
        assert [each for each in loop.told(Action) if each.workload == "code"] == []

        def delivered() -> bool:
            about = {(each.name, each.subject) for each in loop.told(Alert)}
            words = [str(each) for each in receiver.taken]
            return all(
                any(action.id in each and "action_held" in each for each in words) for action in (blind, handed)
            ) and any(subject == lied.id for _, subject in about)

        await loop.until(delivered, "the alerts of held actions at the receiver")

        await loop.control("PUT", "/actuation/faults", {})
        for each in seen["replicas"]:
            if each["workload"] == "chat":
                await loop.control("POST", f"/fleet/{each['replica']}/thaw", {})
        await loop.until(lambda: loop.outcomes("chat", UP, EndState.VERIFIED), "capacity once it sees again")
        assert max((await loop.effects()).values()) == 1
        await loop.stop()


async def test_a_ledger_that_stands_still_or_forgets_and_rules_that_change(up: Up) -> None:
    loop = Faulted(up, replicas={"chat": 2}, by_s=600)
    await loop.start(10)
    first = await moved(loop, "chat", set())
    loop.signal("redis", signal.SIGSTOP)
    loop.rules.write_text(loop.rules.read_text().replace("load_per_replica", "load_per_replicas"))
    await loop.until(lambda: "rules_refused" in loop.alerts(), "an alert of the rules")
    before = len(loop.told(CandidateSet))
    await loop.until(lambda: len(loop.told(CandidateSet)) > before, "the rules in force to propose")
    good = loop.rules.read_text().replace("load_per_replicas", "load_per_replica")
    loop.rules.write_text(good.replace("version: 1\n    priority: 900", "version: 2\n    priority: 901"))
    await loop.until(lambda: "ledger_away" in loop.alerts(), "the ledger to be missed")
    loop.signal("redis", signal.SIGCONT)
    await loop.until(lambda: "ledger_back" in loop.alerts(), "the ledger to be back")
    await loop.until(lambda: first.id in {each.action.id for each in loop.told(Outcome)}, "the end of the action")

    def in_force() -> bool:
        found = [each for told in loop.told(CandidateSet) for each in told.candidates if each.rule == "more"]
        return any((each.rule_version, each.priority) == (2, 901) for each in found)

    await loop.until(in_force, "the new rules in force")
    await settled(loop)

    while await loop.capacity("chat") > FEWEST:
        await verified(loop, "chat", DOWN)
    known = {each.id for each in loop.told(Action)}
    forgotten = await moved(loop, "chat", known)
    await loop.until(functools.partial(loop.holds, forgotten), "it in the ledger")
    redis = Redis.from_url(loop.run.redis_url)
    await redis.flushall()
    await redis.aclose()
    await loop.until(lambda: "ledger_lost" in loop.alerts(), "the loss to be noticed")
    await loop.until(lambda: not loop.unsettled(), "an end of every action")
    [end] = {o.id: o for o in loop.told(Outcome) if o.action.id == forgotten.id}.values()
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("ledger_lost",))

    await loop.until(lambda: loop.outcomes("chat", UP, EndState.REFUSED), "a refusal while the fleet is stopped")
    [refused, *_] = loop.outcomes("chat", UP, EndState.REFUSED)
    assert "ledger_lost" in refused.reasons
    assert refused.began_ms is None
    assert "ledger" in await loop.ask("resume", "--as", "ann", "--reason", "looked at")
    await closes(loop, "chat")
    await settled(loop)
    assert max((await loop.effects()).values()) == 1
    assert loop.told(DeadLetter) == []
    await loop.stop()
