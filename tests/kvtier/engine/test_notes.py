"""Notes give back what was noted of each slot, and keep one object for a key."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kvtier.engine.notes import Notes
from kvtier.engine.shelf import Shelf
from kvtier.engine.table import Record, Table
from kvtier.policies import make
from tests.kvtier.engine.helpers import key

RECORDS = st.builds(
    Record,
    key=st.binary(min_size=1, max_size=40),
    parent=st.none() | st.binary(min_size=1, max_size=40),
    position=st.integers(0, 2**64 - 1),
    tokens=st.integers(0, 2**32 - 1),
    length=st.integers(0, 2**32 - 1),
    checksum=st.integers(0, 2**64 - 1),
    turn=st.integers(0, 2**64 - 1),
)


@given(records=st.lists(RECORDS, min_size=1, max_size=8), again=RECORDS)
def test_a_slot_holds_what_was_put_there_last_and_no_other_slot_changes(records: list[Record], again: Record) -> None:
    notes = Notes(len(records))
    for slot, record in enumerate([*records[:-1], again]):
        notes.put(slot, record, record.key, record.parent)
    notes.put(len(records) - 1, records[-1], records[-1].key, records[-1].parent)
    for slot, record in enumerate(records):
        assert notes.record(slot) == record
        assert (notes.key(slot), notes.parent(slot), notes.turn(slot)) == (record.key, record.parent, record.turn)
        assert notes.extent(slot) == (record.position, record.tokens, record.length)


def test_a_key_is_in_memory_once_however_many_blocks_stand_on_it(tmp_path: Path) -> None:
    table = Table(tmp_path / "index.kv", 8)
    above = {0: None, 1: 0, 2: 0, 3: 1}
    for slot, parent in above.items():
        table.put(slot, Record(key(slot), None if parent is None else key(parent), slot, 1, 2, 3, slot))
    shelf = Shelf(table, make("lru", 8), 8)
    for slot, parent in ((4, 3), (5, 4)):  # written now, with keys of their own
        shelf.offer(key(slot), key(parent), slot, 1)
        shelf.commit(slot, Record(key(slot), key(parent), slot, 1, 2, 3, 0))
    objects = {each: each for each in shelf.held}
    for each in objects:
        found = shelf.found(each)
        assert found is not None
        below = found[1].parent
        assert below is None or below is objects[below]
    table.close()
