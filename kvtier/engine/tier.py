"""The disk tier: keeps KV blocks under a byte cap, and serves none whose bytes are not those that were stored.

One lock guards what is where; reads and writes go on outside it, on blocks that are pinned. Whatever the disk does, a
call answers: a store that it was refused and why, a load that the block is not here and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Condition

from kvtier.engine import checksum
from kvtier.engine.counters import Counters, Fill
from kvtier.engine.economy import Wear
from kvtier.engine.errors import TierError
from kvtier.engine.home import INDEX, Home
from kvtier.engine.pools import started
from kvtier.engine.shelf import Shelf
from kvtier.engine.slabs import PAGE, NoRoomError, Slabs
from kvtier.engine.table import KEY_BYTES, RECORD_BYTES, Record, Table
from kvtier.engine.terms import Event, Settings, Why
from kvtier.policies import make

_SHUT_S = 30.0
"""After the disk refused a write, nothing is written for so long."""
_PIECE_SEGMENTS = 4
"""Segments that go to the disk in one call: fewer cost more of the processor for each byte."""
_WORTH_SHARING = 256 << 10
"""Bytes of a block below which summing it takes less time than waking another thread."""


class DiskTier:
    """An open tier. All methods may be called from any thread; a context manager. Raises TierError when it cannot be
    opened, and nothing after that."""

    def __init__(self, root: Path, settings: Settings) -> None:
        if settings.slots < 1 or settings.slot_bytes < 1:
            fix = f"Give a cap of {settings.slot_bytes + PAGE + RECORD_BYTES} bytes or more."
            raise TierError("not one block fits under the cap.", where=str(root), fix=fix)
        self._settings, self._closed = settings, False
        with ExitStack() as opened:
            self._home = Home(root, {"slot_bytes": settings.slot_bytes, "layout": settings.layout})
            opened.callback(self._home.close)
            read_only = self._home.read_only
            self._table = Table(root / INDEX, settings.slots, read_only=read_only)
            opened.callback(self._table.close)
            self._slabs = Slabs(root, settings.slot_bytes, settings.slots, direct=settings.direct, read_only=read_only)
            if not read_only:
                self._slabs.trim()
            self._shelf = Shelf(self._table, make(settings.policy, settings.slots), settings.slots)
            self._wear = Wear(settings.wear_bytes_a_day, settings.now_s())
            self._readers = started(settings.threads, "kvtier-read-piece")
            opened.callback(self._readers.shutdown)
            self._writers = started(settings.threads, "kvtier-write-piece")
            opened.pop_all()
        self._lock, self._moving = Condition(), 0
        self._shut_until_s = float("inf") if read_only else 0.0
        self._counters = Counters(recovered_blocks=len(self._shelf.held))

    def __enter__(self) -> DiskTier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is under way, and close the files. All that is asked afterwards is answered: not here."""
        with self._lock:
            if self._closed:
                return
            self._closed, self._shut_until_s = True, float("inf")
            self._shelf.held.clear()
            self._lock.wait_for(lambda: not self._moving)
            self._shelf.held.clear()  # what was being written came in meanwhile: the next process will find it
            self._readers.shutdown()
            self._writers.shutdown()
            self._slabs.close()
            self._table.close()
            self._home.close()

    def holds(self, key: bytes) -> bool:
        """Whether the block is here. Counts as no sighting."""
        with self._lock:
            return key in self._shelf.held

    def blocks(self) -> list[bytes]:
        """The blocks that are here, in no order."""
        with self._lock:
            return list(self._shelf.held)

    def leading(self, keys: Iterable[bytes]) -> int:
        """How many of these blocks are here, from the first to the first that is not. Counts as no sighting."""
        with self._lock:
            return sum(1 for _ in takewhile(self._shelf.held.__contains__, keys))

    def expect(self, keys: Sequence[bytes]) -> None:
        """All blocks of a prompt in order, before the first of them is touched or offered: a hint for the policy."""
        with self._lock:
            self._shelf.policy.expect(keys)

    def touch(self, keys: Iterable[bytes]) -> None:
        """These blocks were needed, in the order of a prompt. Those that are here count as hits."""
        with self._lock:
            for key in keys:
                if key in self._shelf.held:
                    self._shelf.policy.touch(key)

    def store(self, key: bytes, data: checksum.Buffer, parent: bytes | None, position: int, tokens: int) -> Why:
        """Keep a block that was computed, if that is worth a write. DONE, or why not. Counts as a sighting."""
        why = self.offer(key, memoryview(data).nbytes, parent, position, tokens)
        return self.write(key, data, parent, position, tokens) if why is Why.DONE else why

    def offer(self, key: bytes, length: int, parent: bytes | None, position: int, tokens: int) -> Why:
        """A block of `length` bytes was computed: one sighting, told in the order of the prompt. DONE where it is worth
        a write, and `write` or `forgo` must follow; else why not. Waits for no disk."""
        with self._lock:
            if length > self._settings.slot_bytes or not 0 < len(key) <= KEY_BYTES or len(parent or b"") > KEY_BYTES:
                why = Why.LENGTH
            else:
                why = Why.SHUT if self._closed else self._shelf.offer(key, parent, position, tokens)
            if why not in (Why.DONE, Why.HERE):
                self._counters.refuse(why)
        return why

    def forgo(self, key: bytes) -> None:
        """A block whose offer was accepted will not be written."""
        with self._lock:
            self._shelf.forgo(key)

    def write(self, key: bytes, data: checksum.Buffer, parent: bytes | None, position: int, tokens: int) -> Why:
        """Keep a block whose offer was accepted. DONE, or why not: then it is as if it was never offered."""
        view, began_s = memoryview(data).cast("B"), self._settings.now_s()
        with self._lock:
            slot = self._reserved(key, len(view), began_s)
            if isinstance(slot, Why):
                self._shelf.forgo(key)
                self._counters.refuse(slot)
                return slot
            self._moving += 1
            alone = self._moving == 1 and _WORTH_SHARING <= len(view) <= checksum.SEGMENT_BYTES
        sums: list[bytes] | None = None
        try:
            slot, sums = self._written(key, slot, view, alone)
        finally:
            with self._lock:
                self._moved()
                if isinstance(slot, Why):
                    self._shelf.forgo(key)
                    why = slot
                elif sums is None:
                    why = self._shelf.abort(slot, key)
                else:
                    total = checksum.block(key, len(view), sums)
                    why = self._shelf.commit(slot, Record(key, parent, position, tokens, len(view), total, 0))
                if why is Why.DONE:
                    self._counters.stored_blocks += 1
                    self._counters.stored_bytes += len(view)
                    self._counters.store_s += self._settings.now_s() - began_s
                else:
                    self._counters.refuse(why)
                if why is Why.DISK:
                    self._shut_until_s = max(self._shut_until_s, self._settings.now_s() + _SHUT_S)
        return why

    def load(self, key: bytes, into: memoryview) -> Why:
        """Fill `into`, as long as the block, with it. DONE, or why not: then what `into` holds means nothing."""
        view, began_s = into.cast("B"), self._settings.now_s()
        with self._lock:
            found = self._shelf.found(key)
            if found is None or found[1].length != len(view):
                why = Why.NOT_HERE if found is None else Why.LENGTH
                self._counters.miss(why)
                return why
            slot, record = found
            self._shelf.policy.pin(key)
            self._moving += 1
        told: Why | None = None
        try:
            sums = self._each_piece(self._readers, view, partial(self._slabs.read, slot))
            told = Why.DONE if checksum.block(key, len(view), sums) == record.checksum else Why.CORRUPT
        except OSError:
            told = Why.DISK
        finally:
            took_s = self._settings.now_s() - began_s
            with self._lock:
                self._moved()
                self._shelf.policy.unpin(key)
                if told is Why.DONE:
                    self._counters.loaded_blocks += 1
                    self._counters.loaded_bytes += len(view)
                    self._counters.load_s += took_s
                elif told is not None:
                    self._counters.miss(told)
                if told is Why.CORRUPT:
                    self._counters.corrupt_blocks += self._shelf.quarantine(slot, record)
                elif told is Why.DISK:
                    self._counters.read_errors += 1
                    self._shelf.drop(slot, record)
        return told

    @property
    def slots_at(self) -> tuple[int, int]:
        """Where slots are: bytes from one to the next, and slots of a slab file."""
        return self._slabs.stride, self._slabs.slab_slots

    def events(self) -> list[Event]:
        """What came and went since the last call; of more than 100,000 the newest."""
        with self._lock:
            return self._shelf.events()

    def counters(self) -> Counters:
        """What was counted since it was opened."""
        with self._lock:
            self._counters.evicted_blocks, self._counters.write_errors = self._shelf.evicted, self._shelf.refusals
            return self._counters.copy()

    def fill(self) -> Fill:
        """How full it is."""
        with self._lock:
            shelf = self._shelf
            return Fill(
                len(shelf.held), shelf.slots, len(shelf.bad), self._settings.cap_bytes, len(shelf.roomless - shelf.bad)
            )

    def _reserved(self, key: bytes, length: int, now_s: float) -> int | Why:
        if now_s < self._shut_until_s:
            return Why.SHUT
        if not self._wear.spend(length, now_s):
            return Why.WORN
        slot = self._shelf.reserve(key)
        if slot is Why.DISK:
            self._shut_until_s = max(self._shut_until_s, now_s + _SHUT_S)
        return slot

    def _written(self, key: bytes, slot: int, view: memoryview, alone: bool) -> tuple[int | Why, list[bytes] | None]:
        """Write the bytes, elsewhere where the disk has no room for the slot's slab. The slot, and sums if written."""
        while True:
            try:
                if alone:
                    return slot, self._put_alone(slot, view)
                return slot, self._each_piece(self._writers, view, partial(self._slabs.write, slot))
            except NoRoomError as full:
                with self._lock:
                    if not self._shelf.withdraw(full.slots) or not full.new_slab:
                        return slot, None
                    other = self._shelf.reserve(key)
                if isinstance(other, Why):
                    return other, None
                slot = other
            except OSError:
                return slot, None

    def _moved(self) -> None:
        self._moving -= 1
        self._lock.notify_all()

    def _each_piece(
        self, pool: ThreadPoolExecutor, view: memoryview, move: Callable[[int, memoryview], None]
    ) -> list[bytes]:
        """Move a block in pieces, several at once, and give the sums of its segments in order: while a thread sums its
        piece, others' are on the way. Raises OSError. Whatever it raises, all pieces have ended by then."""
        segments = -(-len(view) // checksum.SEGMENT_BYTES)
        size = checksum.SEGMENT_BYTES * max(1, min(_PIECE_SEGMENTS, segments // self._settings.threads))
        parts = [(at, view[at : at + size]) for at in range(0, len(view), size)]
        if len(parts) == 1:
            return _summed(move, *parts[0])
        jobs = list[Future[list[bytes]]]()
        try:
            for at, part in parts:
                jobs.append(pool.submit(_summed, move, at, part))
        finally:
            errors = [error for job in jobs if (error := job.exception()) is not None]
        if errors:
            raise errors[0]
        return [each for job in jobs for each in job.result()]

    def _put_alone(self, slot: int, view: memoryview) -> list[bytes]:
        """Write a block of one segment while another thread sums it: a core is free when nothing else is moved."""
        job = self._writers.submit(checksum.segment, view)
        try:
            self._slabs.write(slot, 0, view)
        finally:
            job.exception()  # has ended: the memory is the caller's again
        return [job.result()]


def _summed(move: Callable[[int, memoryview], None], at: int, part: memoryview) -> list[bytes]:
    move(at, part)
    cuts = range(0, len(part), checksum.SEGMENT_BYTES)
    return [checksum.segment(part[cut : cut + checksum.SEGMENT_BYTES]) for cut in cuts]
