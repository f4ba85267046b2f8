"""How a tier is opened, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from kvtier.engine.slabs import PAGE
from kvtier.engine.table import RECORD_BYTES


class Why(StrEnum):
    """Why a block was not stored, or not loaded. Codes are stable: they are labels of metrics.

    `here`: it is stored already; `unwanted`: not worth a write; `busy`: being written by another; `full`: every block
    is in use; `worn`: the day's writes are used up; `shut`: the disk refused a write of late, or cannot be written;
    `disk`: it refused this one; `corrupt`: the bytes were not those stored; `length`: of key or
    block, not one that the tier holds.
    """

    DONE = "done"
    HERE = "here"
    NOT_HERE = "not_here"
    UNWANTED = "unwanted"
    BUSY = "busy"
    FULL = "full"
    WORN = "worn"
    SHUT = "shut"
    DISK = "disk"
    CORRUPT = "corrupt"
    LENGTH = "length"


@dataclass(frozen=True)
class Settings:
    """How a tier is opened. `cap_bytes` bounds all that it takes on disk, `slot_bytes` is the largest block.

    `layout` names what the bytes mean (model, dtype, parallelism): blocks of another layout are never served. `threads`
    share the pieces of a block; `direct` passes the page cache by where that is possible; `wear_bytes_a_day` bounds
    writes.
    """

    cap_bytes: int
    slot_bytes: int
    layout: str
    policy: str = "optiinfra"
    threads: int = 4
    direct: bool = True
    wear_bytes_a_day: int | None = None
    now_s: Callable[[], float] = monotonic

    @property
    def slots(self) -> int:
        """Blocks that fit under the cap, with their records."""
        return self.cap_bytes // (-(-self.slot_bytes // PAGE) * PAGE + RECORD_BYTES)


@dataclass(frozen=True)
class Event:
    """A block came (`stored`) or went."""

    stored: bool
    key: bytes
