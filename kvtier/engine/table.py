"""The crash-safe index of a tier: one record of 128 bytes a slot, changed in place, which says what the slot holds.

A record carries its own CRC, so one that was torn reads as empty. A slot's record is cleared before its bytes change
and written after they are in place. Should a power cut turn that order round, the block's sum, which includes its key,
finds it out when it is read. So no change needs to be forced to the disk, and a restart reads one small file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from kvtier.engine.errors import TierError

KEY_BYTES: Final = 40
"""The longest key. vLLM's are 32 of hash and 4 of group."""

_RECORD: Final = Struct(
    "<BBBxII40s40sQQQ"
)  # state, key and parent lengths, payload bytes, tokens, keys, position, sum, turn
_CRC: Final = Struct("<I")
RECORD_BYTES: Final = 128
_EMPTY: Final = bytes(RECORD_BYTES)
_HELD, _BAD = 1, 2


@dataclass(frozen=True, slots=True)
class Record:
    """What a slot holds. `turn` counts writes: the later is the newer. A `bad` slot lost two blocks: it is not used."""

    key: bytes
    parent: bytes | None
    position: int
    tokens: int
    length: int
    checksum: int
    turn: int
    bad: bool = False

    def packed(self) -> bytes:
        """Its 128 bytes."""
        parent = self.parent or b""
        body = _RECORD.pack(
            _BAD if self.bad else _HELD,
            len(self.key),
            len(parent),
            self.length,
            self.tokens,
            self.key,
            parent,
            self.position,
            self.checksum,
            self.turn,
        )
        return (body + _CRC.pack(crc32(body))).ljust(RECORD_BYTES, b"\0")


def unpacked(raw: bytes) -> Record | None:
    """A record from its bytes; None where the slot is empty, or nobody can tell what it holds."""
    body = raw[: _RECORD.size]
    if not body[0] or _CRC.unpack_from(raw, _RECORD.size)[0] != crc32(body):
        return None
    state, key_size, parent_size, length, tokens, key, parent, position, checksum, turn = _RECORD.unpack(body)
    if not (0 < key_size <= KEY_BYTES and parent_size <= KEY_BYTES and state in (_HELD, _BAD)):
        return None
    above = parent[:parent_size] if parent_size else None
    return Record(key[:key_size], above, position, tokens, length, checksum, turn, state == _BAD)


class Table:
    """The file of records. Every change is one write of one record. Raises OSError where the disk refuses it."""

    def __init__(self, path: Path, slots: int, *, read_only: bool = False) -> None:
        self._path, self._slots = path, slots
        try:
            self._fd = os.open(path, os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _refused(path, error) from error
        try:
            if not read_only:
                os.ftruncate(self._fd, slots * RECORD_BYTES)
                os.posix_fallocate(self._fd, 0, slots * RECORD_BYTES)
        except OSError as error:
            self.close()
            raise _refused(path, error) from error

    def records(self) -> Iterator[tuple[int, Record]]:
        """Every slot that holds a block, or is bad."""
        raw = self._path.read_bytes()[: self._slots * RECORD_BYTES]
        for slot in range(len(raw) // RECORD_BYTES):
            at = slot * RECORD_BYTES
            if raw[at] and (record := unpacked(raw[at : at + RECORD_BYTES])) is not None:
                yield slot, record

    def put(self, slot: int, record: Record) -> None:
        """The slot holds this now."""
        os.pwrite(self._fd, record.packed(), slot * RECORD_BYTES)

    def clear(self, slot: int) -> None:
        """The slot holds nothing."""
        os.pwrite(self._fd, _EMPTY, slot * RECORD_BYTES)

    def close(self) -> None:
        """Close the file. Changes are refused from then on: another file may get its number."""
        fd, self._fd = self._fd, -1
        os.close(fd)


def _refused(path: Path, error: OSError) -> TierError:
    return TierError(str(error), where=str(path), fix="Give a folder that can be written, with room.")
