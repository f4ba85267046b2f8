"""Several writers at once: what is worth a write is decided in the order of prompts, and prefixes stay whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from time import sleep

import pytest

from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.slabs import Slabs
from kvtier.engine.terms import Event, Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, content, kept, key, loaded, settings
from tests.kvtier.worlds import BLOCK, conversations

Writes = Callable[[Callable[[], object]], None]


@pytest.fixture
def before_writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Makes every write to a slot do something first."""
    write = Slabs.write

    def each(first: Callable[[], object]) -> None:
        def then(self: Slabs, slot: int, offset: int, data: memoryview) -> None:
            first()
            write(self, slot, offset, data)

        monkeypatch.setattr(Slabs, "write", then)

    return each


def block(number: int, parent: int | None = None) -> Block:
    above = None if parent is None else key(parent)
    return Block(key(number), memoryview(content(number)), above, 0 if parent is None else 16, 16)


@pytest.mark.parametrize("policy", ["optiinfra", "lru"])
def test_a_long_prompt_in_several_jobs_is_stored_whole_though_the_disk_is_slow(
    tmp_path: Path, before_writes: Writes, policy: str
) -> None:
    before_writes(lambda: sleep(0.002))
    with DiskTier(tmp_path, settings(slots=256, policy=policy)) as tier:
        jobs = Jobs(tier, writers=4)
        for first in range(0, 64, 8):
            jobs.store(first, [block(number, number - 1 if number else None) for number in range(first, first + 8)])
        jobs.drain()
        assert [why for ended in jobs.ended() for why in ended.answers] == [Why.DONE] * 64
        assert all(loaded(tier, number) == content(number) for number in range(64))
        jobs.close()


def test_a_block_is_found_once_what_it_stands_on_is(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(policy="optiinfra")) as tier:
        tier.offer(key(1), SLOT, None, 0, 16)
        assert tier.offer(key(2), SLOT, key(1), 16, 16) == Why.DONE
        assert tier.write(key(2), content(2), key(1), 16, 16) == Why.DONE
        assert loaded(tier, 2) is None
        assert tier.offer(key(2), SLOT, key(1), 16, 16) == Why.BUSY
        assert tier.write(key(1), content(1), None, 0, 16) == Why.DONE
        assert [loaded(tier, 1), loaded(tier, 2)] == [content(1), content(2)]
        assert tier.events() == [Event(True, key(1)), Event(True, key(2))]


def test_what_stands_on_a_block_that_could_not_be_written_goes_with_it(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=3)) as tier:
        for number, parent in ((1, None), (2, 1), (3, 2)):
            assert tier.offer(key(number), SLOT, None if parent is None else key(parent), 0, 16) == Why.DONE
        assert tier.write(key(2), content(2), key(1), 16, 16) == Why.DONE
        assert not tier.holds(key(2))
        tier.forgo(key(1))
        assert tier.write(key(3), content(3), key(2), 32, 16) == Why.UNWANTED
        assert tier.blocks() == []
        assert [kept(tier, number) for number in range(4, 7)] == [Why.DONE] * 3  # all slots are free again
        assert tier.counters().evicted_blocks == 0
    with DiskTier(tmp_path, settings(slots=3)) as tier:
        assert sorted(tier.blocks()) == [key(4), key(5), key(6)]


def test_what_a_block_stands_on_stays_until_the_block_is_written(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=2)) as tier:
        kept(tier, 1)
        assert tier.offer(key(2), SLOT, key(1), 16, 16) == Why.DONE
        assert [kept(tier, 3), kept(tier, 4)] == [Why.DONE] * 2
        assert tier.holds(key(1))
        assert tier.write(key(2), content(2), key(1), 16, 16) == Why.DONE
        assert [tier.holds(key(number)) for number in (1, 2, 3, 4)] == [True, True, False, False]
        assert kept(tier, 5) == Why.DONE
        assert not tier.holds(key(1))  # it may go now


def test_jobs_that_never_began_leave_nothing_behind(tmp_path: Path, before_writes: Writes) -> None:
    go = Flag()
    before_writes(go.wait)
    with DiskTier(tmp_path, settings(slots=4)) as tier:
        jobs = Jobs(tier, writers=1)
        for number in range(3):
            jobs.store(number, [block(number)])
        go.set()
        jobs.close()
        held = tier.fill().blocks
        assert [kept(tier, number) for number in range(3)].count(Why.DONE) == 3 - held  # none is still waited for
        assert all(tier.holds(key(number)) for number in range(3))


def test_loads_count_as_hits_so_that_what_is_asked_for_stays(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=2)) as tier:
        jobs = Jobs(tier)
        kept(tier, 1)
        kept(tier, 2)
        jobs.load(1, [Block(key(1), memoryview(bytearray(SLOT)))])
        jobs.drain()
        kept(tier, 3)
        assert [tier.holds(key(number)) for number in (1, 2, 3)] == [True, False, True]
        jobs.close()


def test_neither_a_lost_slot_nor_a_write_under_way_switches_admission_off(
    tmp_path: Path, before_writes: Writes
) -> None:
    began, go, slow = Flag(), Flag(), Flag()

    def stall() -> None:
        if slow.is_set():
            began.set()
            go.wait()

    before_writes(stall)
    prompts, written = conversations(900, 11), dict[str, int]()
    for case in ("all slots", "one lost", "one being written"):
        with DiskTier(tmp_path / case, settings(slots=160, policy="optiinfra")) as tier:
            if case == "one lost":
                for _ in range(2):
                    kept(tier, 10**9)
                    with (tmp_path / case / "slab-00000.kv").open("r+b") as slab:
                        slab.write(b"junk")
                    assert loaded(tier, 10**9) is None
                assert tier.fill().bad_slots == 1
            if case == "one being written":
                slow.set()
                jobs = Jobs(tier)
                jobs.store(1, [block(10**9)])
                began.wait()
                slow.clear()
            for keys, _ in prompts:
                parent = None
                for at, each in enumerate(keys):
                    name = each.to_bytes(36, "big", signed=True)
                    tier.store(name, b"x", parent, at * BLOCK, BLOCK)
                    parent = name
            written[case] = tier.counters().stored_blocks
            if case == "one being written":
                go.set()
    assert max(written.values()) < 1.1 * min(written.values())
