"""The ledger in memory takes the tests of the one on Redis, and the same story told to both leaves the same behind."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from typing import Any

import pytest

from agents.audit import verify
from agents.ledger import RedisLedger
from agents.ledger_memory import MemoryLedger
from agents.ledger_store import LedgerStore
from contracts.errors import LedgerLost
from contracts.events import ControlKind, EndState, Mode
from contracts.ledger import ClaimLimits, Mark, Phase, Switches
from contracts.ports import Ledger
from tests.agents import test_ledger, test_ledger_claims, test_ledger_followed, test_ledger_switches
from tests.agents.ledger_help import LIMITS, WALL_S, Wall, action, control, ended, later
from tests.agents.redis_process import RedisProcess

NOW_MS = int(WALL_S * 1000)
WAITS = "test_a_lease_that_lapsed_goes_to_the_next_under_a_higher_fence"
"""Waits for Redis' own clock; here a test of its own moves the wall."""


def behaviours() -> Iterator[Any]:
    """Every test of the ledger on Redis that asks for nothing but a ledger, with each of its parameters."""
    for module in (test_ledger, test_ledger_claims, test_ledger_followed, test_ledger_switches):
        for name, test in vars(module).items():
            marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
            names = [_names(mark.args[0]) for mark in marks]
            asked = set(inspect.signature(test).parameters) if name.startswith("test_") else set()
            if name == WAITS or asked - {each for found in names for each in found} != {"ledger"}:
                continue
            for values in product(*(mark.args[1] for mark in marks)):
                given = [v if len(n) > 1 else (v,) for n, v in zip(names, values, strict=True)]
                arguments = {k: v for n, vs in zip(names, given, strict=True) for k, v in zip(n, vs, strict=True)}
                words = "-".join((name, *(str(value) for value in arguments.values())))
                yield pytest.param(test, arguments, id=words)


def _names(told: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each.strip() for each in told.split(",")) if isinstance(told, str) else tuple(told)


BEHAVIOURS = list(behaviours())


def test_most_tests_of_the_ledger_on_redis_are_taken() -> None:
    assert len(BEHAVIOURS) >= 35


async def made(wall: Wall | None = None, store: LedgerStore | None = None) -> MemoryLedger:
    ledger = MemoryLedger(wall or Wall(), store)
    assert await ledger.open(expected=False, at_ms=1)
    return ledger


@pytest.mark.parametrize(("behaviour", "arguments"), BEHAVIOURS)
async def test_it_behaves_as_the_one_on_redis(
    behaviour: Callable[..., Awaitable[None]], arguments: dict[str, Any]
) -> None:
    await behaviour(ledger=await made(), **arguments)


async def test_a_lease_lapses_by_the_wall() -> None:
    wall = Wall()
    ledger = await made(wall)
    record = await ledger.record(action(), at_ms=1000)
    first = await ledger.claim(record, "anna", ClaimLimits(lease_s=5), at_ms=1000)
    wall.now_s += 4.9
    assert (await ledger.claim(record, "bob", LIMITS, at_ms=1000)).refusal is not None
    wall.now_s += 0.2
    second = await ledger.claim(record, "bob", LIMITS, at_ms=1000)
    assert second.fence > first.fence
    planned = later(record, Phase.PLANNED)
    assert not await ledger.advance(planned, owner="anna", fence=first.fence, actor="anna", at_ms=1100)
    assert await ledger.advance(planned, owner="bob", fence=second.fence, actor="bob", at_ms=1100)


async def test_the_hourly_limit_slides() -> None:
    wall, limits = Wall(), ClaimLimits(per_hour=1)
    ledger = await made(wall)
    for number, passed_s in ((1, 0), (2, 3600)):
        wall.now_s = WALL_S + passed_s
        record = await ledger.record(action(number), at_ms=1)
        claim = await ledger.claim(record, "anna", limits, at_ms=1)
        assert claim.refusal is None
        assert await ledger.advance(ended(record), owner="anna", fence=claim.fence, actor="anna", at_ms=1)
    third = await ledger.record(action(3), at_ms=1)
    assert "1 actions began in the last hour" in (await ledger.claim(third, "anna", limits, at_ms=1)).detail


async def test_old_ended_records_are_dropped_and_what_is_unpublished_is_not() -> None:
    wall = Wall()
    ledger = MemoryLedger(wall, keep_ended=3, keep_ended_s=100)
    await ledger.open(expected=False, at_ms=1)

    async def end(number: int, *, publish: bool = True) -> None:
        record = await ledger.record(action(number), at_ms=number)
        assert await ledger.advance(ended(record), owner="anna", fence=0, actor="anna", at_ms=number)
        if publish:
            await ledger.published(record.action.id)
        wall.now_s += 10

    async def kept() -> list[int]:
        return [number for number in range(8) if await ledger.get(action(number).id)]

    await end(0, publish=False)
    for number in range(1, 5):
        await end(number)
    assert await kept() == [0, 2, 3, 4]
    wall.now_s += 85
    await end(5)
    assert await kept() == [0, 4, 5], "older than 100 s"
    assert len(await ledger.audit()) == 1 + 2 * 6


async def test_one_that_ought_to_be_there_and_is_not_begins_stopped_until_people_resume() -> None:
    ledger = MemoryLedger(Wall())
    assert not await ledger.open(expected=True, at_ms=1)
    assert await ledger.switches("chat") == Switches(killed=True, killed_why="ledger_lost")
    await ledger.switch(control(ControlKind.KILL, NOW_MS + 2), fleet=True)
    assert await ledger.switches("chat") == Switches(killed=True, killed_why="ledger_lost")
    await ledger.switch(control(ControlKind.RESUME, NOW_MS + 3), fleet=True)
    assert await ledger.switches("chat") == Switches()


async def test_a_store_that_was_emptied_is_lost_and_begun_anew() -> None:
    store = LedgerStore()
    ledger = await made(store=store)
    store.__init__()  # type: ignore[misc]
    with pytest.raises(LedgerLost):
        await ledger.under_way()
    assert not await ledger.open(expected=True, at_ms=2)
    assert (await ledger.switches("chat")).killed


async def test_nothing_is_done_without_open_but_one_may_look_and_stop() -> None:
    store = LedgerStore()
    with pytest.raises(LedgerLost):
        await MemoryLedger(Wall(), store).under_way()
    ledger = await made(store=store)
    visitor = MemoryLedger(Wall(), store)
    with pytest.raises(LedgerLost, match="has not been opened"):
        await visitor.record(action(), at_ms=1)
    await visitor.switch(control(ControlKind.KILL, NOW_MS))
    assert (await ledger.switches("chat")).killed


async def tell(ledger: Ledger, wall: Wall, seed: int) -> list[object]:
    """A random story on two targets and two owners, with scale-ups that stack among others; everything answered."""
    chance, answers = random.Random(seed), list[object]()
    limits = ClaimLimits(in_flight=2, per_hour=9, lease_s=1000)
    fences: dict[str, int] = {}
    for step in range(250):
        # Redis counts leases by its own clock: here they last longer than the story.
        wall.now_s += chance.random() * 0.5
        number = chance.randrange(12)
        told = action(number, target=f"chat/replicas-{number % 2}")
        told = told.model_copy(update={"spec": told.spec.model_copy(update={"stacks": number % 3 > 0})})
        owner = chance.choice(("anna", "bob"))
        record = await ledger.get(told.id)
        doings = ("record", "claim", *["carry"] * 5, "advance", "end", "release", "switch", "publish")
        match chance.choice(doings):
            case "record":
                answers.append(await ledger.record(told, at_ms=step))
            case "claim" if record:
                claim = await ledger.claim(record, owner, limits, at_ms=step)
                answers.append(claim)
                fences[owner] = claim.fence
            case "carry" if record and record.phase is not Phase.ENDED:
                claim = await ledger.claim(record, owner, limits, at_ms=step)
                marks = (Mark.APPLIED, chance.choice((Mark.INTENDED, Mark.APPLIED, Mark.DONE)))
                new = later(record, chance.choice((Phase.APPLYING, Phase.APPLYING, Phase.UNDOING)), marks=marks)
                if chance.random() < 0.2:
                    new = ended(record)
                answers.append(claim)
                answers.append(await ledger.advance(new, owner=owner, fence=claim.fence, actor=owner, at_ms=step))
            case "advance" if record and record.phase is not Phase.ENDED:
                marks = (chance.choice((Mark.INTENDED, Mark.APPLIED, Mark.DONE)), Mark.APPLIED)
                phase = chance.choice((Phase.PLANNED, Phase.APPLYING, Phase.APPLYING, Phase.VERIFYING, Phase.UNDOING))
                new = later(record, phase, marks=marks)
                fence = fences.get(owner, 0)
                answers.append(await ledger.advance(new, owner=owner, fence=fence, actor=owner, at_ms=step))
            case "end" if record and record.phase is not Phase.ENDED:
                new, fence = ended(record, EndState.UNDONE), chance.choice((0, fences.get(owner, 0)))
                answers.append(await ledger.advance(new, owner=owner, fence=fence, actor=owner, at_ms=step))
            case "release":
                await ledger.release(told.target, owner)
            case "switch":
                kind = chance.choice((*ControlKind, *[ControlKind.RESUME] * 4))
                mode = chance.choice((*Mode, *[Mode.AUTONOMOUS] * 3)) if kind is ControlKind.MODE else None
                said = control(kind, NOW_MS + step // 2 + chance.randrange(5), mode=mode)
                answers.append(await ledger.switch(said, fleet=chance.random() < 0.3, again=chance.random() < 0.5))
                answers.append(await ledger.switches("chat"))
            case "publish" if record:
                await ledger.published(told.id)
        answers.append([each.action.id for each in await ledger.under_way()])
        answers.append([each.action.id for each in await ledger.unpublished()])
    lines = await ledger.audit()
    assert verify(lines) is None
    return [*answers, *lines]


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_story_told_to_both_gets_the_same_answers(
    redis_url: str, redis_server: RedisProcess, seed: int
) -> None:
    wall = Wall()
    in_memory = await tell(await made(wall), wall, seed)
    wall = Wall()
    async with RedisLedger(redis_url, wall=wall) as ledger:
        assert await ledger.open(expected=False, at_ms=1)
        assert await tell(ledger, wall, seed) == in_memory


async def test_the_stories_free_targets_let_others_in_beside_and_refuse_what_does_not_stack() -> None:
    """Else their answers would agree on little."""
    told: list[str] = []
    for seed in range(6):
        wall = Wall()
        told += map(str, await tell(await made(wall), wall, seed))
    counts = [sum(words in each for each in told) for words in ("its target is free", "is followed on", "is under way")]
    assert min(counts) >= 3, counts
