"""What the disk or a caller does wrong costs the blocks concerned, and never the tier."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from kvtier.engine import slabs
from kvtier.engine.errors import TierError
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.slabs import Slabs
from kvtier.engine.terms import Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, content, exit_of, kept, key, loaded, settings


def test_a_slot_that_could_not_be_read_is_used_again_at_once_and_after_a_restart(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=4)) as tier:
        assert [kept(tier, number) for number in range(4)] == [Why.DONE] * 4
    (tmp_path / "slab-00000.kv").unlink()
    with DiskTier(tmp_path, settings(slots=4)) as tier:
        assert [loaded(tier, number) for number in range(4)] == [None] * 4
        assert (tier.fill().blocks, tier.fill().bad_slots, tier.counters().read_errors) == (0, 0, 4)
        assert [kept(tier, number) for number in range(4, 7)] == [Why.DONE] * 3
    with DiskTier(tmp_path, settings(slots=4)) as tier:
        assert [loaded(tier, number) for number in range(8)] == [None] * 4 + [*map(content, range(4, 7)), None]
        assert [kept(tier, 7), tier.fill().blocks, tier.counters().evicted_blocks] == [Why.DONE, 4, 0]


def test_a_power_cut_that_left_records_of_blocks_that_are_gone_takes_no_slot_for_good(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=8)) as tier:
        for number in range(8):
            kept(tier, number)
        before = (tmp_path / "index.kv").read_bytes()
        for number in range(8, 12):
            kept(tier, number)
    (tmp_path / "index.kv").write_bytes(before)  # the disk had taken the blocks, and not yet their records
    with DiskTier(tmp_path, settings(slots=8)) as tier:
        assert [loaded(tier, number) for number in range(8)].count(None) == 4
        assert (tier.counters().corrupt_blocks, tier.fill().bad_slots) == (4, 0)
        assert [kept(tier, number) for number in range(20, 24)] == [Why.DONE] * 4
        assert (tier.fill().blocks, tier.counters().evicted_blocks) == (8, 0)
        assert all(loaded(tier, number) == content(number) for number in range(20, 24))


def test_a_disk_smaller_than_the_cap_gives_up_old_blocks_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "_SLAB_BYTES", 4 * SLOT)

    def work() -> bool:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)
        with DiskTier(tmp_path, settings(slots=10)) as tier:  # slabs of 4, 4 and 2 slots
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * SLOT, most[1]))
            told = [kept(tier, number) for number in range(8)]
            resource.setrlimit(resource.RLIMIT_FSIZE, (SLOT, most[1]))  # no room for the last slab
            told += [kept(tier, 8)]
            ours = [number for number in range(9) if loaded(tier, number) == content(number)]
            fill, sizes = tier.fill(), sorted(path.name for path in tmp_path.glob("slab-*"))
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
            told += [kept(tier, 9), kept(tier, 10)]
        assert told == [Why.DONE] * 11, told
        assert ours == list(range(1, 9))
        assert (fill.blocks, fill.slots, fill.roomless_slots) == (8, 10, 2)
        assert sizes == ["slab-00000.kv", "slab-00001.kv"]
        with DiskTier(tmp_path, settings(slots=10)) as tier:  # there is room now
            return [kept(tier, number) for number in (11, 12)] == [Why.DONE] * 2 and tier.fill().blocks == 10

    assert exit_of(work) == 0


def test_a_disk_that_takes_no_more_writes_serves_on_all_that_it_has(tmp_path: Path) -> None:
    def work() -> bool:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)
        with DiskTier(tmp_path, settings(slots=2)) as tier:
            kept(tier, 1)
            kept(tier, 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, most[1]))  # the kernel refuses every write
            told = kept(tier, 3)
            found = [loaded(tier, number) for number in (1, 2, 3)]
            counted = tier.counters()
            return (told, found) == (Why.DISK, [content(1), content(2), None]) and counted.evicted_blocks == 0

    assert exit_of(work) == 0


def test_a_job_that_raises_is_told_of_and_holds_nothing(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=2)) as tier:
        jobs = Jobs(tier)
        kept(tier, 1)
        kept(tier, 2)
        jobs.load(5, [Block(key(1), memoryview(bytes(SLOT)))])  # memory that cannot be written
        jobs.drain()
        (ended,) = jobs.ended()
        assert (ended.job_id, ended.success, ended.answers) == (5, False, (Why.DISK,))
        assert loaded(tier, 1) == content(1)
        kept(tier, 3)
        kept(tier, 4)
        assert [tier.holds(key(number)) for number in (1, 2, 3, 4)] == [False, False, True, True]  # 1 is not pinned
        jobs.close()


def test_what_is_written_while_it_closes_is_not_served_and_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, began, write = Flag(), Flag(), Slabs.write

    def slow(self: Slabs, slot: int, offset: int, data: memoryview) -> None:
        began.set()
        go.wait()
        write(self, slot, offset, data)

    monkeypatch.setattr(Slabs, "write", slow)
    tier = DiskTier(tmp_path, settings())
    writer, closer = Thread(target=kept, args=(tier, 1)), Thread(target=tier.close)
    writer.start()
    began.wait()
    closer.start()
    while kept(tier, 2) != Why.SHUT:  # until it is closing
        pass
    go.set()
    writer.join()
    closer.join()
    assert not tier.holds(key(1))
    assert loaded(tier, 1) is None
    tier.close()  # again
    with DiskTier(tmp_path, settings()) as again:
        assert loaded(again, 1) == content(1)


def test_a_folder_is_free_again_after_it_could_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no policy 'nope'"):
        DiskTier(tmp_path, settings(policy="nope"))
    (tmp_path / "index.kv").unlink()
    (tmp_path / "index.kv").mkdir()
    with pytest.raises(TierError, match=r"index\.kv"):
        DiskTier(tmp_path, settings())
    (tmp_path / "index.kv").rmdir()
    with DiskTier(tmp_path, settings()) as tier:
        assert kept(tier, 1) == Why.DONE


def test_a_file_that_somebody_put_beside_the_slabs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "slab-old.kv").write_text("mine")
    with DiskTier(tmp_path, settings()) as tier:
        assert kept(tier, 1) == Why.DONE
    assert (tmp_path / "slab-old.kv").read_text() == "mine"
