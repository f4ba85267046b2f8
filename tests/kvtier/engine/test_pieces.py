"""Large blocks go to the disk in pieces, by several threads: none is lost, none is taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvtier.engine import tier as tiers
from kvtier.engine.checksum import SEGMENT_BYTES
from kvtier.engine.slabs import Slabs
from kvtier.engine.terms import Settings, Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, content, kept, key, loaded, settings

SIZE = 2 * SEGMENT_BYTES + 5
STRIDE = -(-SIZE // SLOT) * SLOT


def _large(size: int = SIZE, blocks: int = 8, **changes: Any) -> Settings:
    return settings(cap_bytes=blocks * (size + 2 * SLOT), slot_bytes=size, **changes)


def _changed(root: Path, at: int, data: bytes) -> None:
    with (root / "slab-00000.kv").open("r+b") as slab:
        slab.seek(at)
        slab.write(data)


def test_a_block_is_the_same_however_many_threads_share_it(tmp_path: Path) -> None:
    size = 9 * SEGMENT_BYTES + 4097
    with DiskTier(tmp_path, _large(size, 2, threads=1)) as tier:
        assert kept(tier, 1, size) == Why.DONE
    for threads in (2, 3, 8):
        with DiskTier(tmp_path, _large(size, 2, threads=threads)) as tier:
            assert loaded(tier, 1, size) == content(1, size)


@pytest.mark.parametrize(
    "at", [0, SEGMENT_BYTES - 1, SEGMENT_BYTES, 2 * SEGMENT_BYTES - 1, 2 * SEGMENT_BYTES, SIZE - 1]
)
def test_a_bit_that_flips_at_the_border_of_a_piece_is_seen(tmp_path: Path, at: int) -> None:
    with DiskTier(tmp_path, _large()) as tier:
        assert [kept(tier, number, SIZE) for number in (1, 2)] == [Why.DONE] * 2
        _changed(tmp_path, STRIDE + at, bytes([content(2, SIZE)[at] ^ 1]))
        room = bytearray(SIZE)
        assert tier.load(key(2), memoryview(room)) == Why.CORRUPT
        assert loaded(tier, 1, SIZE) == content(1, SIZE)


def test_pieces_that_changed_places_are_seen(tmp_path: Path) -> None:
    with DiskTier(tmp_path, _large()) as tier:
        assert [kept(tier, number, SIZE) for number in (1, 2)] == [Why.DONE] * 2
        one, two = content(1, SIZE), content(2, SIZE)
        _changed(tmp_path, 0, one[SEGMENT_BYTES : 2 * SEGMENT_BYTES] + one[:SEGMENT_BYTES])  # within a block
        assert loaded(tier, 1, SIZE) is None
        assert [kept(tier, number, SIZE) for number in (4, 3)] == [Why.DONE] * 2  # 4 where 1 was
        three = content(3, SIZE)
        _changed(tmp_path, STRIDE, three[:SEGMENT_BYTES])  # from a block to another
        _changed(tmp_path, 2 * STRIDE, two[:SEGMENT_BYTES])
        assert [loaded(tier, number, SIZE) for number in (2, 3)] == [None, None]
        assert tier.counters().corrupt_blocks == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_piece_that_the_disk_refuses_costs_the_block_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(tiers, "_PIECE_SEGMENTS", 1)
    write, fail = Slabs.write, [True]

    def refuse(self: Slabs, slot: int, offset: int, data: memoryview) -> None:
        if fail[0] and offset == SEGMENT_BYTES:
            raise OSError(5, "refused")
        write(self, slot, offset, data)

    monkeypatch.setattr(Slabs, "write", refuse)
    now = [0.0]
    with DiskTier(tmp_path, _large(threads=threads, now_s=lambda: now[0])) as tier:
        assert kept(tier, 1, SIZE) == Why.DISK
        assert loaded(tier, 1, SIZE) is None
        fail[0], now[0] = False, 31.0
        assert kept(tier, 1, SIZE) == Why.DONE
        assert loaded(tier, 1, SIZE) == content(1, SIZE)


@pytest.mark.parametrize("size", [255 << 10, 256 << 10, SEGMENT_BYTES, SEGMENT_BYTES + 1])
def test_a_block_that_is_summed_while_it_is_written_comes_back(tmp_path: Path, size: int) -> None:
    with DiskTier(tmp_path, _large(size)) as tier:
        assert [kept(tier, number, size) for number in range(3)] == [Why.DONE] * 3
        assert [loaded(tier, number, size) for number in range(3)] == [content(number, size) for number in range(3)]


def test_a_block_that_is_summed_while_it_is_refused_leaves_its_slot_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Slabs, slot: int, offset: int, data: memoryview) -> None:
        raise OSError(5, "refused")

    now, write = [0.0], Slabs.write
    with DiskTier(tmp_path, _large(SEGMENT_BYTES, 1, now_s=lambda: now[0])) as tier:
        monkeypatch.setattr(Slabs, "write", refuse)
        assert kept(tier, 1, SEGMENT_BYTES) == Why.DISK
        monkeypatch.setattr(Slabs, "write", write)
        now[0] = 31.0
        assert kept(tier, 2, SEGMENT_BYTES) == Why.DONE
        assert loaded(tier, 2, SEGMENT_BYTES) == content(2, SEGMENT_BYTES)
