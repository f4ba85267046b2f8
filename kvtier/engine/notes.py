"""What is known of the block in each slot: 48 bytes a slot, where an object for each would take ten times as many."""

from __future__ import annotations

from struct import Struct

from kvtier.engine.table import Record

_NOTE = Struct("<QIIQQ")  # position, tokens, payload bytes, sum, turn
_EXTENT = Struct("<QII")


class Notes:
    """One note a slot, in memory, for the slots that were given one."""

    def __init__(self, slots: int) -> None:
        self._raw = bytearray(slots * _NOTE.size)
        self._keys: list[bytes] = [b""] * slots
        self._parents: list[bytes | None] = [None] * slots

    def put(self, slot: int, record: Record, key: bytes, parent: bytes | None) -> None:
        """The slot holds this now. `key` and `parent` are the record's, objects that others keep too where possible."""
        at = slot * _NOTE.size
        _NOTE.pack_into(self._raw, at, record.position, record.tokens, record.length, record.checksum, record.turn)
        self._keys[slot], self._parents[slot] = key, parent

    def record(self, slot: int) -> Record:
        """What the slot holds."""
        position, tokens, length, checksum, turn = _NOTE.unpack_from(self._raw, slot * _NOTE.size)
        return Record(self._keys[slot], self._parents[slot], position, tokens, length, checksum, turn)

    def key(self, slot: int) -> bytes:
        """The block."""
        return self._keys[slot]

    def parent(self, slot: int) -> bytes | None:
        """The block before it in the prompt."""
        return self._parents[slot]

    def extent(self, slot: int) -> tuple[int, int, int]:
        """Position, tokens and bytes of the block."""
        position, tokens, length = _EXTENT.unpack_from(self._raw, slot * _NOTE.size)
        return position, tokens, length

    def turn(self, slot: int) -> int:
        """When it was written: the later is the newer."""
        turn: int = _NOTE.unpack_from(self._raw, slot * _NOTE.size)[4]
        return turn
