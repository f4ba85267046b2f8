"""The ledger when Redis is killed, away, full, hung or written to by others: nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from agents.audit import verify
from agents.ledger import RedisLedger
from contracts.errors import ConfigError, OptiInfraError, Unavailable
from contracts.events import ControlKind, Refusal
from contracts.ledger import Phase
from contracts.ports import Claim
from tests.agents.ledger_help import LIMITS, Wall, action, begun, control, ended, every_call, later
from tests.agents.redis_process import RedisProcess


async def test_what_was_answered_outlives_a_kill_after_every_write(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    """SIGKILL after each answer, and the same object goes on."""

    async def killed() -> None:
        await asyncio.to_thread(redis_server.restart)

    await killed()
    record = await ledger.record(action(), at_ms=1000)
    await killed()
    assert await ledger.under_way() == [record]
    claim = await ledger.claim(record, "anna", LIMITS, at_ms=1000)
    await killed()
    assert (await ledger.claim(record, "bob", LIMITS, at_ms=1000)).refusal is Refusal.IN_FLIGHT
    assert await ledger.claim(record, "anna", LIMITS, at_ms=1000) == claim
    planned = later(record, Phase.PLANNED)
    assert await ledger.advance(planned, owner="anna", fence=claim.fence, actor="anna", at_ms=1100)
    await killed()
    assert await ledger.get(record.action.id) == planned
    await ledger.switch(control(ControlKind.KILL, 1))
    await killed()
    assert (await ledger.switches("chat")).killed
    last = ended(planned)
    assert await ledger.advance(last, owner="anna", fence=claim.fence, actor="anna", at_ms=1200)
    await killed()
    assert await ledger.unpublished() == [last]
    await ledger.published(record.action.id)
    await killed()
    assert await ledger.unpublished() == []
    other = await ledger.record(action(2, workload="search"), at_ms=1300)
    assert (await ledger.claim(other, "anna", LIMITS, at_ms=1300)).fence > claim.fence
    lines = await ledger.audit()
    assert [line.what for line in lines] == ["epoch_begun", "recorded", "planned", "kill", "verified", "recorded"]
    assert verify(lines) is None


async def test_while_redis_is_away_every_call_says_so_and_works_again_after(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    record, fence = await begun(ledger)
    redis_server.kill()
    calls = every_call(ledger, record)
    calls["open"] = lambda: ledger.open(expected=True, at_ms=1)
    for name, call in calls.items():
        with pytest.raises(Unavailable) as caught:
            await call()
        assert f"127.0.0.1:{redis_server.port}" in str(caught.value), name
    redis_server.start()
    applying = later(record, Phase.APPLYING)
    assert await ledger.advance(applying, owner="anna", fence=fence, actor="anna", at_ms=1)
    assert verify(await ledger.audit()) is None


async def test_a_redis_that_hangs_is_away_too(ledger: RedisLedger, redis_server: RedisProcess) -> None:
    async with RedisLedger(redis_server.url, timeout_s=0.1) as impatient:
        await impatient.open(expected=True, at_ms=1)
        with redis_server.client() as client:
            client.client_pause(60_000)
        with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
            await impatient.record(action(), at_ms=1)


async def test_no_call_swallows_a_cancellation(ledger: RedisLedger) -> None:
    await ledger.record(action(), at_ms=1)

    async def ask() -> None:
        while True:
            await ledger.under_way()

    for steps in range(60):  # wherever in the call it comes
        asking = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=10)
        assert asking.cancelled(), steps
    assert [record.action.id for record in await ledger.under_way()] == [action().id]


@pytest.mark.parametrize("fault", ["full", "read_only"])
async def test_a_redis_that_takes_no_writes_is_away_and_nothing_is_half_written(
    ledger: RedisLedger, redis_server: RedisProcess, fault: str
) -> None:
    record, fence = await begun(ledger)
    with redis_server.client() as client:
        if fault == "full":
            client.config_set("maxmemory", "1")
        else:
            client.replicaof("127.0.0.1", "1")
        before = {key: client.dump(key) for key in client.scan_iter()}
        calls = every_call(ledger, record)
        for name in ("record", "switch"):
            with pytest.raises(Unavailable):
                await calls[name]()
        with pytest.raises(Unavailable):
            await ledger.advance(ended(record), owner="anna", fence=fence, actor="anna", at_ms=1)
        assert {key: client.dump(key) for key in client.scan_iter()} == before
        client.config_set("maxmemory", "0")
        client.replicaof("NO", "ONE")
    assert await ledger.advance(ended(record), owner="anna", fence=fence, actor="anna", at_ms=1)


async def test_a_wrong_password_is_told_and_never_shown(redis_server: RedisProcess) -> None:
    with redis_server.client() as client:
        client.config_set("requirepass", "right")
    async with RedisLedger(f"redis://:s3cret@127.0.0.1:{redis_server.port}/0") as ledger:
        with pytest.raises(Unavailable, match="refuses us") as caught:
            await ledger.open(expected=True, at_ms=1)
    assert "s3cret" not in str(caught.value)


def test_an_address_that_is_none_is_told_and_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        RedisLedger("http://:s3cret@ledger:6379/0")
    assert "s3cret" not in str(caught.value)
    assert "redis://" in caught.value.fix


@asynccontextmanager
async def forgetful_line(port: int) -> AsyncIterator[tuple[str, dict[str, bool]]]:
    """A line to Redis that can be told to lose the answer to the next script; gives its URL and the switch."""
    lose = {"next": False}

    async def carry(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while data := await client_in.read(65_536):
                server_out.write(data)
            server_out.close()

        asking = asyncio.create_task(ask())
        while data := await server_in.read(65_536):
            if lose["next"] and data.startswith(b"*"):  # a script's reply is a list; errors and hashes are not
                lose["next"] = False
                break
            client_out.write(data)
        client_out.close()
        server_out.close()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", lose
    server.close()
    await server.wait_closed()


async def test_a_call_whose_answer_was_lost_is_made_again_and_done_once(redis_server: RedisProcess) -> None:
    async with forgetful_line(redis_server.port) as (url, lose), RedisLedger(url, wall=Wall()) as ledger:

        async def twice(call: Callable[[], Awaitable[Any]]) -> Any:
            lose["next"] = True
            with pytest.raises(Unavailable):
                await call()
            assert not lose["next"], "Redis had answered"
            return await call()

        assert not await twice(lambda: ledger.open(expected=True, at_ms=1)), "the loss is still told"
        resume = control(ControlKind.RESUME, 1_800_000_000_001)
        await twice(lambda: ledger.switch(resume, fleet=True))
        record = await twice(lambda: ledger.record(action(), at_ms=1))
        claim: Claim = await twice(lambda: ledger.claim(record, "anna", LIMITS, at_ms=1))
        assert claim.refusal is None
        planned = later(record, Phase.PLANNED)
        fence = claim.fence
        assert await twice(lambda: ledger.advance(planned, owner="anna", fence=fence, actor="anna", at_ms=1))
        last = ended(planned)
        assert await twice(lambda: ledger.advance(last, owner="anna", fence=fence, actor="anna", at_ms=1))
        await twice(lambda: ledger.published(record.action.id))
        await twice(lambda: ledger.release(record.action.target, "anna"))
        lines = await ledger.audit()
        assert [line.what for line in lines] == ["ledger_lost", "resume", "recorded", "planned", "verified"]
        assert verify(lines) is None


def at(key: str) -> str:
    return f"optiinfra:{key}"


@pytest.mark.parametrize(
    ("key", "mischief", "calls"),
    [
        ("records", lambda c, a: c.hset(at("records"), a, b"\xff{"), {"get", "claim", "advance"}),
        ("records", lambda c, a: c.hset(at("records"), a, '{"by":"","record":{}}'), {"get", "claim", "advance"}),
        ("records", lambda c, _: c.set(at("records"), "x"), {"get", "record", "audit", "switches", "claim"}),
        ("switches", lambda c, _: c.hset(at("switches"), "kill:chat", "yes"), {"switches", "claim", "switch"}),
        ("switches", lambda c, _: c.hset(at("switches"), "fleet", "{}"), {"switches", "claim"}),
        ("audit", lambda c, _: c.rpush(at("audit"), "nonsense"), {"audit", "record", "advance", "switch"}),
        ("audit", lambda c, _: c.lset(at("audit"), 0, "{}"), {"audit"}),
        ("under_way", lambda c, _: c.set(at("under_way"), "x"), {"under_way", "record"}),
        ("fence", lambda c, _: c.set(at("fence"), "x"), {"claim"}),
        (
            "lease:chat/replicas-1",
            lambda c, _: c.set(at("lease:chat/replicas-1"), "x"),
            {"claim", "advance", "release"},
        ),
    ],
)
async def test_what_no_ledger_wrote_is_told_by_the_name_of_its_key_and_left_alone(
    ledger: RedisLedger,
    redis_server: RedisProcess,
    key: str,
    mischief: Callable[[redis.Redis, str], object],
    calls: set[str],
) -> None:
    record, _ = await begun(ledger)
    if key == "fence":
        await ledger.release(record.action.target, "anna")
    with redis_server.client() as client:
        mischief(client, record.action.id)
        before = {each: client.dump(each) for each in client.scan_iter()}
        for name in calls:
            with pytest.raises(OptiInfraError) as caught:
                await every_call(ledger, record)[name]()
            assert type(caught.value) is OptiInfraError, name
            assert f"key {at(key)} holds what no ledger wrote" in str(caught.value), name
            assert caught.value.fix
        assert {each: client.dump(each) for each in client.scan_iter()} == before


async def test_a_record_that_cannot_be_read_is_left_out_named_and_left_alone(
    ledger: RedisLedger, redis_server: RedisProcess
) -> None:
    good, bad = [await ledger.record(action(number), at_ms=1) for number in (1, 2)]
    with redis_server.client() as client:
        client.hset(at("records"), bad.action.id, '{"by":"","record":{"of":"another version"}}')
        assert await ledger.under_way() == [good]
        assert ledger.unreadable().keys() == {bad.action.id}
        assert f"key {at('records')} holds what no ledger wrote" in ledger.unreadable()[bad.action.id]
        client.hdel(at("records"), bad.action.id)
        client.zrem(at("under_way"), bad.action.id)
    assert await ledger.under_way() == [good]
    assert ledger.unreadable() == {}
