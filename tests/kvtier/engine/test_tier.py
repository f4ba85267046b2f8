"""The disk tier serves what was stored, keeps to its cap, and answers "not here" whatever the disk does."""

from __future__ import annotations

import mmap
import os
import resource
import signal
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from kvtier.engine.errors import TierError
from kvtier.engine.terms import Event, Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, content, exit_of, kept, key, loaded, made_read_only, settings, slabs


def test_a_block_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        assert kept(tier, 1) == Why.DONE
        assert loaded(tier, 1) == content(1)
        assert loaded(tier, 2) is None
        assert tier.holds(key(1))
        assert not tier.holds(key(2))


@pytest.mark.parametrize("size", [1, 4095, 4096, 5 * (1 << 20) + 3])
@pytest.mark.parametrize("direct", [True, False])
def test_blocks_of_any_length_come_back_past_the_page_cache_or_through_it(
    tmp_path: Path, size: int, direct: bool
) -> None:
    with DiskTier(tmp_path, settings(cap_bytes=30 << 20, slot_bytes=size, direct=direct)) as tier:
        assert [kept(tier, number, size) for number in range(3)] == [Why.DONE] * 3
        assert [loaded(tier, number, size) for number in range(3)] == [content(number, size) for number in range(3)]


@pytest.mark.parametrize("off", [1, 512, 513, 4096])
@pytest.mark.parametrize("edge", [1, 512])
def test_blocks_come_back_wherever_their_memory_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int, edge: int
) -> None:
    monkeypatch.setattr("kvtier.engine.slabs._SECTOR", edge)  # of 1: the kernel refuses, and a copy is tried
    size = (1 << 20) + 5 * 4096 + 77
    memory = memoryview(mmap.mmap(-1, size + 8192))
    with DiskTier(tmp_path, settings(cap_bytes=30 << 20, slot_bytes=size)) as tier:
        for number in range(3):
            memory[off : off + size] = content(number, size)
            assert tier.store(key(number), memory[off : off + size], None, 0, 16) == Why.DONE
        for number in range(3):
            assert tier.load(key(number), memory[off : off + size]) == Why.DONE
            assert memory[off : off + size] == content(number, size)


def test_a_warm_restart_finds_every_block(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        for number in range(5):
            kept(tier, number)
    with DiskTier(tmp_path, settings()) as tier:
        assert tier.counters().recovered_blocks == 5
        assert [loaded(tier, number) for number in range(6)] == [*map(content, range(5)), None]


def test_the_cap_holds_for_everything_on_disk(tmp_path: Path) -> None:
    wanted = settings(slots=50)
    with DiskTier(tmp_path, wanted) as tier:
        for number in range(200):
            assert kept(tier, number) == Why.DONE
        assert tier.fill().blocks == tier.fill().slots == 50
        assert tier.counters().evicted_blocks == 150
        overhead = 3 * 4096  # the format and the last page of the index
        assert slabs(tmp_path) <= wanted.cap_bytes + overhead


def test_a_smaller_cap_gives_its_bytes_back_and_keeps_what_fits(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=40)) as tier:
        for number in range(40):
            kept(tier, number)
    with DiskTier(tmp_path, settings(slots=10)) as tier:
        held = [number for number in range(40) if tier.holds(key(number))]
        assert len(held) == 10
        assert all(loaded(tier, number) == content(number) for number in held)
        assert slabs(tmp_path) <= settings(slots=10).cap_bytes + 3 * 4096


def test_blocks_of_another_layout_are_never_served(tmp_path: Path) -> None:
    DiskTier(tmp_path, settings()).close()
    with pytest.raises(TierError, match="it holds blocks of"):
        DiskTier(tmp_path, settings(layout="tiny fp8"))


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()), pytest.raises(TierError, match="another process holds it"):
        DiskTier(tmp_path, settings())


def test_a_cap_below_one_block_is_refused_with_the_least_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(TierError, match="not one block fits"):
        DiskTier(tmp_path, settings(cap_bytes=100))


def test_a_block_whose_bytes_changed_is_never_served_and_after_two_such_its_slot_never_used_again(
    tmp_path: Path,
) -> None:
    with DiskTier(tmp_path, settings(slots=2)) as tier:
        for times in (1, 2):
            assert kept(tier, 1) == Why.DONE  # in the same slot
            _flip(tmp_path, bit=1234)
            assert loaded(tier, 1) is None
            assert tier.counters().corrupt_blocks == times
            assert tier.fill().bad_slots == times - 1
            assert not tier.holds(key(1))
        assert kept(tier, 1) == Why.DONE  # elsewhere
        assert loaded(tier, 1) == content(1)
    with DiskTier(tmp_path, settings(slots=2)) as tier:
        assert tier.fill().bad_slots == 1
        assert loaded(tier, 1) == content(1)
        assert [kept(tier, 2), tier.fill().blocks] == [Why.DONE, 1]


def test_a_block_in_another_blocks_slot_is_never_served(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
        kept(tier, 2)
    slab = tmp_path / "slab-00000.kv"
    raw = slab.read_bytes()
    slab.write_bytes(raw[SLOT : 2 * SLOT] + raw[:SLOT] + raw[2 * SLOT :])
    with DiskTier(tmp_path, settings()) as tier:
        assert [loaded(tier, 1), loaded(tier, 2)] == [None, None]
        assert tier.counters().corrupt_blocks == 2


def test_a_slab_that_is_gone_is_a_miss(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
    (tmp_path / "slab-00000.kv").unlink()
    with DiskTier(tmp_path, settings()) as tier:
        assert loaded(tier, 1) is None
        assert tier.counters().read_errors == 1
        assert kept(tier, 1) == Why.DONE


def test_an_index_of_junk_is_an_empty_tier(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
    (tmp_path / "index.kv").write_bytes(os.urandom(8 * 128))
    with DiskTier(tmp_path, settings()) as tier:
        assert tier.fill().blocks == 0
        assert loaded(tier, 1) is None


def test_a_disk_that_fills_up_refuses_stores_for_a_while_and_serves_on(tmp_path: Path) -> None:
    def work() -> bool:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        now, most = [0.0], resource.getrlimit(resource.RLIMIT_FSIZE)
        with DiskTier(tmp_path, settings(slots=2000, now_s=lambda: now[0])) as tier:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SLOT * 100, most[1]))  # the kernel refuses: no room for a slab
            seen = [kept(tier, 1), kept(tier, 2), loaded(tier, 1)]
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
            seen += [kept(tier, 1)]
            now[0] = 31.0
            seen += [kept(tier, 1), loaded(tier, 1)]
            return seen == [Why.DISK, Why.SHUT, None, Why.SHUT, Why.DONE, content(1)]

    assert exit_of(work) == 0


def test_a_disk_that_nobody_may_write_to_serves_what_is_there_and_takes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
    made_read_only(tmp_path, tmp_path_factory.getbasetemp())

    def work() -> bool:
        if os.geteuid() == 0:  # whom no mode keeps out
            os.setuid(65_534)
        with DiskTier(tmp_path, settings()) as tier:
            return [loaded(tier, 1), kept(tier, 2), loaded(tier, 2)] == [content(1), Why.SHUT, None]

    assert exit_of(work) == 0


@pytest.mark.parametrize("end", range(12))
def test_kill_9_at_any_moment_loses_the_block_being_written_alone(tmp_path: Path, end: int) -> None:
    hear, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with DiskTier(tmp_path, settings(slots=30)) as tier:
            for number in range(10**9):
                kept(tier, number, size=1 + number % SLOT)
                if number == 40:
                    os.write(tell, b".")
    os.read(hear, 1)
    sleep(0.003 * end)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with DiskTier(tmp_path, settings(slots=30)) as tier:
        held = [int.from_bytes(each, "big") for each in tier.blocks()]
        assert len(held) >= 29
        for number in held:
            assert loaded(tier, number, 1 + number % SLOT) == content(number, 1 + number % SLOT)
        assert kept(tier, 0, 1) in (Why.DONE, Why.HERE)
    os.close(hear)
    os.close(tell)


def test_many_threads_at_once_see_right_bytes_or_a_miss(tmp_path: Path) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(300):
            number = (turn * 7 + seed * 13) % 40
            kept(tier, number)
            found = loaded(tier, number)
            if found not in (None, content(number)):
                wrong.append(number)

    with DiskTier(tmp_path, settings(slots=12)) as tier:
        threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert wrong == []
        assert tier.counters().corrupt_blocks == 0
        assert tier.fill().bad_slots == 0
        assert tier.fill().blocks == 12


def test_it_closes_once_what_is_under_way_has_ended_and_then_answers_not_here(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, settings(slots=64))
    answers: list[str] = []
    worker = Thread(target=lambda: answers.extend(kept(tier, number) for number in range(200)))
    worker.start()
    tier.close()
    worker.join()
    assert set(answers) <= {Why.DONE, Why.SHUT}
    assert loaded(tier, 1) is None
    with DiskTier(tmp_path, settings(slots=64)) as again:
        assert all(loaded(again, int.from_bytes(each, "big")) is not None for each in again.blocks())


def test_what_came_and_went_is_told_once_and_in_order(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=1)) as tier:
        kept(tier, 1)
        kept(tier, 2)
        assert tier.events() == [Event(True, key(1)), Event(False, key(1)), Event(True, key(2))]
        assert tier.events() == []


def test_a_block_that_is_here_is_not_written_again(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        assert [kept(tier, 1), kept(tier, 1)] == [Why.DONE, Why.HERE]
        assert tier.counters().stored_blocks == 1


def test_a_block_larger_than_a_slot_or_of_another_length_is_refused(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        assert kept(tier, 1, SLOT + 1) == Why.LENGTH
        kept(tier, 2)
        assert loaded(tier, 2, SLOT - 1) is None
        assert tier.store(b"", b"x", None, 0, 1) == Why.LENGTH
        assert tier.store(b"k" * 41, b"x", None, 0, 1) == Why.LENGTH


def test_no_more_is_written_than_the_wear_budget_of_the_day(tmp_path: Path) -> None:
    now = [0.0]
    a_day = 24 * 10 * SLOT
    with DiskTier(tmp_path, settings(slots=100, wear_bytes_a_day=a_day, now_s=lambda: now[0])) as tier:
        told = [kept(tier, number) for number in range(12)]
        assert told == [Why.DONE] * 10 + [Why.WORN] * 2
        now[0] = 360.0
        assert [kept(tier, 20), kept(tier, 21)] == [Why.DONE, Why.WORN]
        now[0] = 100.0  # a clock that steps back earns nothing
        assert kept(tier, 22) == Why.WORN


def test_the_leading_blocks_of_a_prompt_end_with_the_first_that_is_missing(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        for number in (1, 2, 4):
            kept(tier, number)
        assert tier.leading(key(number) for number in (1, 2, 3, 4)) == 2
        assert tier.leading([key(3)]) == tier.leading([]) == 0


def _flip(root: Path, bit: int) -> None:
    with (root / "slab-00000.kv").open("r+b") as slab:
        slab.seek(bit // 8)
        byte = slab.read(1)[0] ^ (1 << bit % 8)
        slab.seek(bit // 8)
        slab.write(bytes([byte]))
        os.fsync(slab.fileno())
