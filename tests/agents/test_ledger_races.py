"""Several writers at once: one wins each version, fences only grow, and the audit chain stays whole."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.audit import verify
from agents.ledger import RedisLedger
from contracts.ledger import ActionRecord, Phase
from tests.agents.ledger_help import LIMITS, action, later
from tests.agents.redis_process import RedisProcess

OWNERS = ("anna", "bob", "cleo")
DEEDS = ("idle", "claim", "advance", "work", "release", "look", "crash")
# one deed of each owner at the same time, or of one alone; or the lease lapses
TOGETHER = st.tuples(*(st.sampled_from(DEEDS) for _ in OWNERS))
ALONE = st.tuples(st.sampled_from(DEEDS), st.just("idle"), st.just("idle")).flatmap(lambda t: st.permutations(t))
ROUNDS = st.lists(st.one_of(st.just("lapse"), ALONE.map(tuple), TOGETHER), min_size=10, max_size=30)
EXAMPLES = itertools.count()


class Owner:
    """An executor as it is with bad luck: it writes on what it believes, under the fence that it once had."""

    def __init__(self, name: str, ledger: RedisLedger, record: ActionRecord) -> None:
        self.name, self.ledger, self.belief = name, ledger, record
        self.fence = 0
        self.writes = itertools.count()
        self.won: list[tuple[int, int]] = []
        self.fences: list[int] = []

    async def do(self, deed: str) -> None:
        if deed in ("claim", "work"):
            claim = await self.ledger.claim(self.belief, self.name, LIMITS, at_ms=1)
            if claim.refusal is None:
                self.fence = claim.fence
                self.fences.append(claim.fence)
        if deed in ("advance", "work") and self.fence:
            new = later(self.belief, Phase.APPLYING, detail=f"{self.name} {next(self.writes)}")
            if await self.ledger.advance(new, owner=self.name, fence=self.fence, actor=self.name, at_ms=1):
                self.won.append((new.version, self.fence))
                self.belief = new
        if deed == "release":
            await self.ledger.release(self.belief.action.target, self.name)
        if deed == "look":
            self.belief = await self.ledger.get(self.belief.action.id) or self.belief
        if deed == "crash":
            self.fence, self.belief = 0, (await self.ledger.under_way())[0]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=ROUNDS)
def test_one_writer_wins_each_version_and_fences_only_grow(
    redis_server: RedisProcess, rounds: list[str | tuple[str, ...]]
) -> None:
    prefix = f"example-{next(EXAMPLES)}"  # a ledger for each example, on one server

    async def run() -> None:
        ledgers = [RedisLedger(redis_server.url, prefix=prefix) for _ in OWNERS]
        for ledger in ledgers:
            assert await ledger.open(expected=False, at_ms=1)
        record = await ledgers[0].record(action(), at_ms=1)
        owners = [Owner(name, ledger, record) for name, ledger in zip(OWNERS, ledgers, strict=True)]
        seen: list[int] = []
        holder: Owner | None = None  # who surely holds the lease
        with redis_server.client() as client:
            for deeds in rounds:
                if isinstance(deeds, str):  # what Redis does when the time is up
                    client.delete(f"{prefix}:lease:{record.action.target}")
                    holder = None
                    continue
                before = {owner: len(owner.fences) for owner in owners}
                won_before = {owner: len(owner.won) for owner in owners}
                await asyncio.gather(*(owner.do(deed) for owner, deed in zip(owners, deeds, strict=True)))
                granted = {owner: set(owner.fences[before[owner] :]) for owner in owners}
                got = sorted(set().union(*granted.values()) - set(seen))
                assert all(fence > max(seen, default=0) for fence in got)
                if holder is not None and deeds[owners.index(holder)] != "release":
                    assert not any(fences for owner, fences in granted.items() if owner is not holder)
                    assert not got, "who renews keeps the fence"
                for owner in owners:
                    assert all(fence >= max(seen, default=0) for _, fence in owner.won[won_before[owner] :])
                seen += got
                claimed = next((owner for owner in owners if granted[owner]), holder)
                holder = None if "release" in deeds else claimed  # a release may have come before a claim or after it
        won = sorted(pair for owner in owners for pair in owner.won)
        assert [version for version, _ in won] == list(range(1, len(won) + 1)), "each version once, none left out"
        assert [fence for _, fence in won] == sorted(fence for _, fence in won), "no old fence after a newer one"
        for one, other in itertools.combinations(owners, 2):
            assert not set(one.fences) & set(other.fences)
        newest = await ledgers[0].get(record.action.id)
        assert newest is not None
        assert newest.version == len(won)
        lines = await ledgers[0].audit()
        assert verify(lines) is None
        assert len(lines) == 2 + len(won)
        for ledger in ledgers:
            await ledger.close()

    asyncio.run(run())


async def test_tasks_of_one_process_write_an_unbroken_chain(redis_url: str) -> None:
    async with RedisLedger(redis_url) as ledger:
        await ledger.open(expected=False, at_ms=1)
        await asyncio.gather(*(ledger.record(action(number), at_ms=number) for number in range(40)))
        lines = await ledger.audit()
        assert verify(lines) is None
        assert len(lines) == 41
        assert len(await ledger.under_way()) == 40


async def test_processes_that_write_at_the_same_time_make_one_unbroken_chain(redis_url: str) -> None:
    """They begin together: each says that it has opened the ledger, and waits for a line."""
    async with RedisLedger(redis_url) as ledger:
        await ledger.open(expected=False, at_ms=1)
        code = (
            "from tests.agents.ledger_help import write_many; import sys\n"
            "write_many(sys.argv[1], int(sys.argv[2]), 100, lambda: (print('ready', flush=True), sys.stdin.readline()))"
        )
        writers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code, redis_url, str(first)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            for first in (0, 1000)
        ]
        for writer in writers:
            assert writer.stdout
            assert await writer.stdout.readline() == b"ready\n"
        told = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
        assert [writer.returncode for writer in writers] == [0, 0], told
        lines = await ledger.audit()
        assert verify(lines) is None
        assert len(lines) == 201
        first = {action(number).id for number in range(100)}
        turns = [line.subject in first for line in lines[1:]]
        assert any(now != then for now, then in itertools.pairwise(turns[:150])), "they did take turns"
        assert len({record.action.id for record in await ledger.under_way()}) == 200
