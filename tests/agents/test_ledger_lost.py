"""The ledger when Redis was emptied: its loss is noticed, stops the fleet, and fences go on."""

from __future__ import annotations

import pytest

from agents.audit import verify
from agents.ledger import RedisLedger
from contracts.errors import LedgerLost
from contracts.events import ControlKind, Refusal
from contracts.ledger import Phase
from tests.agents.ledger_help import LIMITS, Wall, action, begun, control, every_call
from tests.agents.redis_process import RedisProcess


async def test_every_call_on_an_emptied_ledger_says_that_it_was_lost(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    record, _ = await begun(ledger)
    redis_server.empty()
    for name, call in every_call(ledger, record).items():
        with pytest.raises(LedgerLost) as caught:
            await call()
        assert "emptied" in str(caught.value), name
    with redis_server.client() as client:
        assert client.dbsize() == 0, "nothing was written to what is not ours"


async def test_an_emptied_ledger_is_opened_anew_with_the_kill_switch_thrown(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    record, _ = await begun(ledger)
    redis_server.empty()
    assert not await ledger.open(expected=True, at_ms=2)
    assert (await ledger.switches("chat")).killed_why == "ledger_lost"
    again = await ledger.record(record.action, at_ms=2)
    assert again.phase is Phase.RECORDED
    assert (await ledger.claim(again, "anna", LIMITS, at_ms=2)).refusal is Refusal.LEDGER_LOST


async def test_fences_never_go_back_even_when_redis_was_emptied_within_the_second(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    """The wall clock of this test stands still."""
    highest = 0
    for wall_ms in range(1, 4):
        for number in (1, 2):
            record = await ledger.record(action(number), at_ms=1)
            claim = await ledger.claim(record, "anna", LIMITS, at_ms=1)
            assert claim.fence > highest
            highest = claim.fence
        redis_server.empty()
        await ledger.open(expected=False, at_ms=wall_ms)


async def test_fences_never_go_back_for_a_process_that_comes_later(redis_url: str, redis_server: RedisProcess) -> None:
    fences = []
    wall = Wall()
    for _ in range(3):
        async with RedisLedger(redis_url, wall=wall) as ledger:
            await ledger.open(expected=False, at_ms=1)
            for number in (1, 2):
                record = await ledger.record(action(number), at_ms=1)
                fences.append((await ledger.claim(record, "anna", LIMITS, at_ms=1)).fence)
        redis_server.empty()
        wall.now_s += 1
    assert fences == sorted(set(fences))


async def test_a_loss_that_only_one_process_noticed_stops_the_fleet_all_the_same(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    """Somebody who expected nothing has begun a new epoch meanwhile."""
    redis_server.empty()
    async with RedisLedger(redis_server.url, wall=Wall()) as newcomer:
        assert await newcomer.open(expected=False, at_ms=2)
        with pytest.raises(LedgerLost):
            await ledger.get("x")
        assert not await ledger.open(expected=True, at_ms=3)
        assert (await newcomer.switches("chat")).killed_why == "ledger_lost"
        assert await newcomer.get("x") is None, "its epoch goes on"


async def test_a_loss_that_was_noticed_and_taken_back_is_not_told_twice(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    async with RedisLedger(redis_server.url, wall=Wall()) as other:
        await other.open(expected=True, at_ms=1)
        redis_server.empty()
        assert not await other.open(expected=True, at_ms=2)
        await other.switch(control(ControlKind.RESUME, 1_800_000_000_001), fleet=True)
        await other.reconciled()
        assert await ledger.open(expected=True, at_ms=3)
        assert not (await ledger.switches("chat")).killed


async def test_a_lost_fence_is_a_lost_ledger(ledger: RedisLedger, redis_server: RedisProcess) -> None:
    with redis_server.client() as client:
        client.delete("optiinfra:fence")
    with pytest.raises(LedgerLost):
        await ledger.under_way()
    assert not await ledger.open(expected=True, at_ms=2)
    assert await ledger.under_way() == []
    assert verify(await ledger.audit()) is None


async def test_a_deleted_epoch_is_a_lost_ledger_and_fences_go_on(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    record, fence = await begun(ledger)
    with redis_server.client() as client:
        client.delete("optiinfra:epoch", f"optiinfra:lease:{record.action.target}")
        client.set("optiinfra:fence", 7)
    assert not await ledger.open(expected=True, at_ms=2)
    assert await ledger.under_way() == [record], "what it still knows stands"
    stopped = await ledger.claim(record, "anna", LIMITS, at_ms=2)
    assert stopped.refusal is Refusal.LEDGER_LOST
    assert stopped.fence > fence
