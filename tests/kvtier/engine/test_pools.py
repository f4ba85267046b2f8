"""Threads are there when a tier is opened, or it is not opened; a block's memory is let go of when nothing fills it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import sleep

import pytest

from kvtier.engine.checksum import SEGMENT_BYTES
from kvtier.engine.errors import TierError
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.slabs import Slabs
from kvtier.engine.terms import Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import content, kept, key, loaded, settings

SIZE = 2 * SEGMENT_BYTES


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets so many threads more be started, as a limit of the container does."""
    start = Thread.start

    def limit(left: int) -> None:
        started: list[Thread] = []

        def counted(self: Thread) -> None:
            if len(started) >= left:
                raise RuntimeError("can't start new thread")
            started.append(self)
            start(self)

        monkeypatch.setattr(Thread, "start", counted)

    return limit


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_tier_whose_threads_cannot_be_started_is_not_opened_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: Callable[[int], None], left: int
) -> None:
    before = threading.active_count()
    limited(left)
    with pytest.raises(TierError, match="2 threads can be started"):
        DiskTier(tmp_path, settings(threads=2))
    monkeypatch.undo()
    with DiskTier(tmp_path, settings()) as tier:
        assert kept(tier, 1) == Why.DONE
        limited(3)
        with pytest.raises(TierError, match="threads can be started"):
            Jobs(tier, readers=2, writers=2)
    for _ in range(100):
        if threading.active_count() == before:
            break
        sleep(0.01)  # those that were started end by themselves
    assert threading.active_count() == before


def test_an_open_tier_needs_no_thread_more(tmp_path: Path, limited: Callable[[int], None]) -> None:
    with DiskTier(tmp_path, settings(slots=2, cap_bytes=4 * SIZE, slot_bytes=SIZE)) as tier:
        jobs = Jobs(tier)
        limited(0)
        assert jobs.store(1, [Block(key(1), memoryview(content(1, SIZE)))])
        jobs.drain()
        assert loaded(tier, 1, SIZE) == content(1, SIZE)
        jobs.load(2, [Block(key(1), memoryview(bytearray(SIZE)))])
        jobs.drain()
        assert [each.answers for each in jobs.ended()] == [(Why.DONE,)] * 2
        jobs.close()


def test_a_load_that_fails_half_way_ends_when_nothing_fills_its_memory_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, submit, room = Slabs.read, ThreadPoolExecutor.submit, bytearray(SIZE)

    def slow(self: Slabs, slot: int, offset: int, into: memoryview) -> None:
        sleep(0.1)
        read(self, slot, offset, into)

    def once(self: ThreadPoolExecutor, work: Callable[..., list[bytes]], *given: object) -> Future[list[bytes]]:
        if given[1] == SEGMENT_BYTES:
            raise RuntimeError("not the second piece")
        return submit(self, work, *given)

    with DiskTier(tmp_path, settings(cap_bytes=4 * SIZE, slot_bytes=SIZE)) as tier:
        assert kept(tier, 1, SIZE) == Why.DONE
        monkeypatch.setattr(Slabs, "read", slow)
        monkeypatch.setattr(ThreadPoolExecutor, "submit", once)
        with pytest.raises(RuntimeError, match="second piece"):
            tier.load(key(1), memoryview(room))
        room[:] = bytes(SIZE)  # the memory is another block's now
        sleep(0.2)
        assert not any(room[::4096])


def test_a_load_does_not_wait_behind_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, began, write = Flag(), Flag(), Slabs.write

    def held_up(self: Slabs, slot: int, offset: int, data: memoryview) -> None:
        began.set()
        go.wait()
        write(self, slot, offset, data)

    with DiskTier(tmp_path, settings(cap_bytes=4 * (SIZE + 4096), slot_bytes=SIZE)) as tier:
        assert kept(tier, 1, SIZE) == Why.DONE
        monkeypatch.setattr(Slabs, "write", held_up)
        jobs = Jobs(tier)
        jobs.store(1, [Block(key(2), memoryview(content(2, SIZE)))])
        began.wait()
        jobs.load(2, [Block(key(1), memoryview(bytearray(SIZE)))])
        for _ in range(100):
            if told := jobs.ended():
                break
            sleep(0.01)
        go.set()
        jobs.drain()
        assert [(each.job_id, each.success) for each in told] == [(2, True)]
        jobs.close()


def test_the_time_of_a_job_begins_when_it_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Slabs.read

    def slow(self: Slabs, slot: int, offset: int, into: memoryview) -> None:
        sleep(0.1)
        read(self, slot, offset, into)

    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
        monkeypatch.setattr(Slabs, "read", slow)
        jobs = Jobs(tier, readers=1)
        for number in range(2):
            jobs.load(number, [Block(key(1), memoryview(bytearray(4096)))])
        jobs.drain()
        first, second = jobs.ended()
        assert second.took_s > 1.8 * first.took_s > 0.18
        jobs.close()


def test_what_is_called_off_after_the_tier_was_closed_touches_no_file(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "tier", settings())
    for number, above in ((1, None), (2, key(1))):
        tier.offer(key(number), 4096, above, 0, 16)
    assert tier.write(key(2), content(2), key(1), 16, 16) == Why.DONE
    tier.close()
    others = [(tmp_path / f"other-{number}").open("w+b") for number in range(64)]  # one of them gets its number
    for other in others:
        other.write(b"\1" * 4096)
        other.flush()
    tier.forgo(key(1))
    assert tier.write(key(1), content(1), None, 0, 16) == Why.SHUT
    for other in others:
        other.seek(0)
        assert other.read() == b"\1" * 4096
        other.close()
