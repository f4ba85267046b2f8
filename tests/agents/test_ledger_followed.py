"""Followed actions on the real Redis: a scale-up whose orders were all taken frees its target, and is looked after."""

from __future__ import annotations

import pytest

from agents.ledger import RedisLedger
from contracts.events import ActionKind, Refusal
from contracts.ledger import ActionRecord, ClaimLimits, Mark, Phase
from contracts.ports import Claim
from tests.agents.ledger_help import LIMITS, Wall, action, ended, later
from tests.agents.redis_process import RedisProcess

pytestmark = pytest.mark.parametrize("redis_server", ["system", "bundled"], indirect=True)

TARGET = "chat/replicas"
TAKEN = {"marks": (Mark.APPLIED, Mark.DONE)}


async def recorded(ledger: RedisLedger, number: int, *, stacks: bool = True) -> ActionRecord:
    """A scale-up of the one target."""
    told = action(number, target=TARGET)
    spec = told.spec.model_copy(update={"stacks": stacks})
    return await ledger.record(told.model_copy(update={"spec": spec}), at_ms=1000)


async def claim(ledger: RedisLedger, record: ActionRecord, owner: str = "anna", limits: ClaimLimits = LIMITS) -> Claim:
    return await ledger.claim(record, owner, limits, at_ms=1000)


async def moved(ledger: RedisLedger, record: ActionRecord, fence: int, owner: str = "anna") -> ActionRecord:
    assert await ledger.advance(record, owner=owner, fence=fence, actor=owner, at_ms=1100)
    return record


async def begun(ledger: RedisLedger, number: int, *, stacks: bool = True) -> tuple[ActionRecord, int]:
    """One that is giving its orders, with its fence."""
    record = await recorded(ledger, number, stacks=stacks)
    fence = (await claim(ledger, record)).fence
    planned = await moved(ledger, later(record, Phase.PLANNED, marks=(Mark.UNTOUCHED,) * 2), fence)
    return await moved(ledger, later(planned, Phase.APPLYING, marks=(Mark.APPLIED, Mark.INTENDED)), fence), fence


async def followed(ledger: RedisLedger, number: int) -> tuple[ActionRecord, int]:
    """One whose orders were all taken, with the fence under which that was written."""
    applying, fence = await begun(ledger, number)
    return await moved(ledger, later(applying, Phase.APPLYING, **TAKEN), fence), fence


async def test_while_one_order_is_not_taken_nothing_else_begins(ledger: RedisLedger) -> None:
    first, _ = await begun(ledger, 1)
    waiting = await claim(ledger, await recorded(ledger, 2))
    assert (waiting.refusal, waiting.fence) == (Refusal.IN_FLIGHT, 0)
    assert first.action.id in waiting.detail


async def test_once_all_are_taken_one_that_stacks_begins_under_a_higher_fence(ledger: RedisLedger) -> None:
    first, fence = await followed(ledger, 1)
    second = await claim(ledger, await recorded(ledger, 2))
    assert second.refusal is None
    assert second.fence > fence
    done = later(first, Phase.APPLYING, marks=(Mark.DONE, Mark.DONE))
    assert not await ledger.advance(done, owner="anna", fence=fence, actor="anna", at_ms=1200), "an old fence"


@pytest.mark.parametrize("kind", [ActionKind.SCALE_UP, ActionKind.SCALE_DOWN])
async def test_what_does_not_stack_waits_for_the_last_that_is_followed(ledger: RedisLedger, kind: ActionKind) -> None:
    first, _ = await followed(ledger, 1)
    second, _ = await followed(ledger, 2)
    told = action(3, target=TARGET)
    spec = told.spec.model_copy(update={"kind": kind})
    other = await ledger.record(told.model_copy(update={"spec": spec}), at_ms=1000)
    for each in (first, second):
        waiting = await claim(ledger, other)
        assert (waiting.refusal, waiting.fence) == (Refusal.IN_FLIGHT, 0)
        assert "is followed on chat/replicas" in waiting.detail
        await moved(ledger, ended(each), (await claim(ledger, each)).fence)
    assert (await claim(ledger, other)).refusal is None


async def test_one_that_is_followed_is_looked_after_while_another_gives_orders(ledger: RedisLedger) -> None:
    first, _ = await followed(ledger, 1)
    second, fence = await begun(ledger, 2)
    looks = await claim(ledger, first)
    assert looks.refusal is None
    assert looks.fence > fence, "the lease went from one to the other"
    assert await claim(ledger, first) == looks, "and who renews keeps the fence"
    verifying = await moved(ledger, later(first, Phase.VERIFYING, marks=(Mark.DONE, Mark.DONE)), looks.fence)
    assert not await ledger.advance(
        later(second, Phase.APPLYING, **TAKEN), owner="anna", fence=fence, actor="a", at_ms=1
    )
    again = await claim(ledger, second)
    assert again.fence > looks.fence
    await moved(ledger, later(second, Phase.APPLYING, **TAKEN), again.fence)
    await moved(ledger, ended(verifying), (await claim(ledger, verifying)).fence)


async def test_another_owner_waits_for_the_lease_whatever_it_is_for(ledger: RedisLedger) -> None:
    first, _ = await followed(ledger, 1)
    stranger = await claim(ledger, await recorded(ledger, 2), owner="bob")
    assert stranger.refusal is Refusal.IN_FLIGHT
    assert "held by anna" in stranger.detail
    await ledger.release(TARGET, "anna")
    assert (await claim(ledger, first, owner="bob")).refusal is None


async def test_an_undo_takes_the_target_again_under_a_higher_fence_and_keeps_others_out(ledger: RedisLedger) -> None:
    first, fence = await followed(ledger, 1)
    undoing = await moved(ledger, later(first, Phase.UNDOING), fence)
    again = await claim(ledger, undoing)
    assert again.refusal is None
    assert again.fence > fence
    assert await claim(ledger, undoing) == again
    waiting = await claim(ledger, await recorded(ledger, 2))
    assert waiting.refusal is Refusal.IN_FLIGHT
    assert f"action {first.action.id} is under way" in waiting.detail


async def test_an_undo_waits_for_the_action_that_gives_orders(ledger: RedisLedger) -> None:
    first, _ = await followed(ledger, 1)
    second, _ = await begun(ledger, 2)
    looks = await claim(ledger, first)
    undoing = await moved(ledger, later(first, Phase.UNDOING), looks.fence)
    waiting = await claim(ledger, undoing)
    assert (waiting.refusal, waiting.fence) == (Refusal.IN_FLIGHT, 0)
    assert second.action.id in waiting.detail
    await moved(ledger, later(second, Phase.APPLYING, **TAKEN), (await claim(ledger, second)).fence)
    assert (await claim(ledger, undoing)).fence > looks.fence


async def test_one_that_is_followed_counts_for_the_hour_and_not_among_those_that_give_orders(
    ledger: RedisLedger,
) -> None:
    limits = ClaimLimits(in_flight=1, per_hour=2)
    await followed(ledger, 1)
    second = await recorded(ledger, 2)
    got = await claim(ledger, second, limits=limits)
    assert got.refusal is None
    assert (await claim(ledger, await recorded(ledger, 3), limits=limits)).refusal is Refusal.IN_FLIGHT
    elsewhere = await ledger.record(action(4), at_ms=1000)
    assert (await claim(ledger, elsewhere, limits=limits)).refusal is Refusal.FLEET_LIMIT
    await moved(ledger, later(second, Phase.APPLYING, **TAKEN), got.fence)
    assert (await claim(ledger, elsewhere, limits=limits)).refusal is Refusal.RATE_LIMIT


async def test_a_write_whose_answer_was_lost_frees_the_target_once(ledger: RedisLedger) -> None:
    applying, fence = await begun(ledger, 1)
    taken = later(applying, Phase.APPLYING, **TAKEN)
    for _ in range(2):
        await moved(ledger, taken, fence)
    second = await claim(ledger, await recorded(ledger, 2))
    assert not await ledger.advance(taken, owner="anna", fence=fence, actor="anna", at_ms=1), "the lease is another's"
    assert second.refusal is None


async def test_the_log_tells_that_a_target_is_free(ledger: RedisLedger) -> None:
    await followed(ledger, 1)
    assert [line.detail for line in await ledger.audit()][-2:] == [
        "step 1 applied, step 2 intended",
        "step 1 applied, step 2 done; its target is free",
    ]


async def test_an_end_leaves_nothing_behind(redis_server: RedisProcess, redis_url: str) -> None:
    async with RedisLedger(redis_url, wall=Wall()) as ledger:
        assert await ledger.open(expected=False, at_ms=1)
        first, fence = await followed(ledger, 1)
        await moved(ledger, ended(first), fence)
        with redis_server.client() as client:
            assert client.keys("optiinfra:followed") == client.keys("optiinfra:targets") == []
            assert client.keys("optiinfra:lease:*") == []
