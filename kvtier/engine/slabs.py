"""Fixed slots in slab files: the bytes of the tier, read and written past the page cache where the disk permits it.

Slot n is at `n % slab_slots` of slab `n // slab_slots`. Slabs are made when a slot of theirs is first written, with all
their room reserved, so that a disk that fills up refuses a new slab and never half a block. Slots begin on pages.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock, local

import numpy as np

PAGE = 4096
_SLAB_BYTES = 1 << 30
_SECTOR = 512
"""Kernels since 6.0 move memory past the page cache from addresses that are multiples of this."""

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class NoRoomError(OSError):
    """The disk has no room for these slots: for a whole slab that would be new, or for one slot of an old one."""

    def __init__(self, error: OSError, slots: range, *, new_slab: bool) -> None:
        super().__init__(error.errno, error.strerror)
        self.slots, self.new_slab = slots, new_slab


class Slabs:
    """The slab files of one tier. Threads may read and write different slots at the same time."""

    def __init__(
        self, root: Path, slot_bytes: int, slots: int, *, direct: bool = True, read_only: bool = False
    ) -> None:
        self.stride = -(-slot_bytes // PAGE) * PAGE
        self.slab_slots = max(1, _SLAB_BYTES // self.stride)
        self._root, self._slots, self._read_only = root, slots, read_only
        self._direct = direct and hasattr(os, "O_DIRECT")
        self._open: dict[int, int] = {}
        self._edge = _SECTOR
        self._lock, self._mine = Lock(), local()

    @property
    def direct(self) -> bool:
        """Whether the page cache is passed by, as far as is known yet."""
        return self._direct

    def write(self, slot: int, offset: int, data: memoryview) -> None:
        """Write a piece, `offset` bytes into the slot. Raises OSError, NoRoomError where the disk is full."""
        fd, at = self._slab(slot, create=True), self._place(slot, offset)
        try:
            whole = self._straight(data, lambda part: _whole(fd, part, at))
            if whole < len(data):
                page = self._page(len(data) - whole)
                page[: len(data) - whole] = data[whole:]
                _whole(fd, page, at + whole)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise NoRoomError(error, range(slot, slot + 1), new_slab=False) from error
            raise

    def read(self, slot: int, offset: int, into: memoryview) -> None:
        """Read a piece. Raises OSError, also for bytes that are not there."""
        fd, at = self._slab(slot, create=False), self._place(slot, offset)
        whole = self._straight(into, lambda part: _fill(fd, part, at))
        if whole < len(into):
            page = self._page(len(into) - whole)
            _fill(fd, page, at + whole)
            into[whole:] = page[: len(into) - whole]

    def trim(self) -> None:
        """Cut off what is beyond the last slot: a smaller cap frees its bytes."""
        for path in self._root.glob("slab-*.kv"):
            if not path.stem[5:].isdecimal():
                continue
            slots = self._slots - int(path.stem[5:]) * self.slab_slots
            if slots <= 0:
                path.unlink()
            elif path.stat().st_size > slots * self.stride:
                os.truncate(path, slots * self.stride)

    def close(self) -> None:
        """Close the files. Nothing is read or written after that."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _path(self, slot: int) -> Path:
        return self._root / f"slab-{slot // self.slab_slots:05d}.kv"

    def _place(self, slot: int, offset: int) -> int:
        return slot % self.slab_slots * self.stride + offset

    def _straight(self, data: memoryview, move: Callable[[memoryview], None]) -> int:
        """Move what the disk takes from memory as it lies; the bytes that were moved: past the page cache whole pages,
        and these only from an edge that it likes. The rest goes through a buffer of ours."""
        if not self._direct:
            move(data)
            return len(data)
        whole = len(data) // PAGE * PAGE
        address: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        if not whole or address % self._edge:
            return 0
        try:
            move(data[:whole])
        except OSError as error:
            if error.errno != errno.EINVAL or not address % PAGE:
                raise
            self._edge = PAGE  # what older kernels and some disks ask for
            return 0
        return whole

    def _page(self, size: int) -> memoryview:
        """A buffer on a page's edge, one for each thread, of as many pages as `size` needs."""
        pages = -(-size // PAGE) * PAGE
        if len(getattr(self._mine, "buffer", b"")) < pages:
            self._mine.buffer = mmap.mmap(-1, pages)
        return memoryview(self._mine.buffer)[:pages]

    def _slab(self, slot: int, *, create: bool) -> int:
        number = slot // self.slab_slots
        fd = self._open.get(number)
        if fd is None:
            with self._lock:
                fd = self._open.get(number)
                if fd is None:
                    fd = self._open[number] = self._opened(number, self._path(slot), create)
        return fd

    def _opened(self, number: int, path: Path, create: bool) -> int:
        mode = os.O_RDONLY if self._read_only else os.O_RDWR | (os.O_CREAT if create else 0)
        new = not path.exists()
        fd = self._handle(path, mode)
        if create:
            slots = min(self.slab_slots, self._slots - number * self.slab_slots)
            try:
                os.posix_fallocate(fd, 0, slots * self.stride)
            except OSError as error:
                if error.errno in _NO_ROOM and not new:
                    return fd  # the room that it has is good; each slot beyond will be refused by itself
                os.close(fd)
                if error.errno in _NO_ROOM:
                    path.unlink()  # half a slab would hold room and no block
                    first = number * self.slab_slots
                    raise NoRoomError(error, range(first, first + slots), new_slab=True) from error
                raise
        return fd

    def _handle(self, path: Path, mode: int) -> int:
        if self._direct:
            try:
                return os.open(path, mode | os.O_DIRECT, 0o600)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file system without direct access says this
                    raise
                self._direct = False
        return os.open(path, mode, 0o600)


def _whole(fd: int, data: memoryview, at: int) -> None:
    """Write all of it: a call may take less than it was given."""
    while len(data):
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done


def _fill(fd: int, into: memoryview, at: int) -> None:
    while len(into):
        done = os.preadv(fd, [into], at)
        if done <= 0:
            raise OSError(errno.EIO, "the slab ends before the block does")
        into, at = into[done:], at + done
