"""The index of a tier outlives a crash at any byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.engine.errors import TierError
from kvtier.engine.table import Record, Table, unpacked

RECORD = Record(b"k" * 36, b"p" * 40, 512, 512, 4096, 2**64 - 1, 7)


@given(
    key=st.binary(min_size=1, max_size=40),
    parent=st.none() | st.binary(min_size=1, max_size=40),
    numbers=st.tuples(st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    bad=st.booleans(),
)
def test_a_record_comes_back_as_it_was(
    key: bytes, parent: bytes | None, numbers: tuple[int, int, int], bad: bool
) -> None:
    record = Record(key, parent, numbers[0], numbers[1], numbers[2], numbers[0], 3, bad)
    assert unpacked(record.packed()) == record


@given(cut=st.integers(1, 120), old=st.sampled_from([bytes(128), Record(b"old", None, 0, 1, 2, 3, 4).packed()]))
def test_a_record_that_was_torn_reads_as_empty_unless_it_is_wholly_the_old_or_the_new(cut: int, old: bytes) -> None:
    new = RECORD.packed()
    torn = new[:cut] + old[cut:]
    assert unpacked(torn) is None or torn in (old, new)


def test_records_are_found_by_the_next_one_to_open_it_and_cleared_ones_are_not(tmp_path: Path) -> None:
    table = Table(tmp_path / "index.kv", 8)
    table.put(2, RECORD)
    table.put(5, RECORD)
    table.clear(2)
    table.close()
    assert dict(Table(tmp_path / "index.kv", 8).records()) == {5: RECORD}


def test_a_smaller_cap_forgets_the_slots_beyond_it(tmp_path: Path) -> None:
    table = Table(tmp_path / "index.kv", 8)
    for slot in range(8):
        table.put(slot, RECORD)
    table.close()
    smaller = Table(tmp_path / "index.kv", 3)
    assert [slot for slot, _ in smaller.records()] == [0, 1, 2]
    assert (tmp_path / "index.kv").stat().st_size == 3 * 128


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TierError, match=r"none/index\.kv"):
        Table(tmp_path / "none" / "index.kv", 8)
