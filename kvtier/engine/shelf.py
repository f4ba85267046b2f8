"""Which block is in which slot: the table on disk, the same in memory, and the policy that chooses. Not thread-safe.

A slot is free, held, being written (it belongs to the writer, and nothing finds it), bad (its bytes were wrong twice:
never used again) or without room on the disk (not used until the tier is opened anew). A block that is to be written is
coming; it is found once it was written and its parent is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from kvtier.engine.notes import Notes
from kvtier.engine.table import Record, Table
from kvtier.engine.terms import Event, Why
from kvtier.policies import Policy

_EVENTS = 100_000


class Shelf:
    """Takes in what a former process left in `table`, parents before children and the oldest first."""

    def __init__(self, table: Table, policy: Policy, slots: int) -> None:
        self._table, self.policy, self.slots = table, policy, slots
        self.held: dict[bytes, int] = {}
        self._notes = Notes(slots)
        self.bad: set[int] = set()
        self._doubted: set[int] = set()
        self.roomless: set[int] = set()
        self.evicted, self.refusals = 0, 0
        self._coming: dict[bytes, bytes | None] = {}
        self._early: dict[bytes, list[tuple[int, Record]]] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._turn = 0
        used = self._recover()
        self._free = [slot for slot in range(slots - 1, -1, -1) if slot not in used]
        self._resize()

    def offer(self, key: bytes, parent: bytes | None, position: int, tokens: int) -> Why:
        """A block was computed: one sighting. DONE where it is to be written, and then it is coming; else why not.

        What it stands on stays until it was written or called off."""
        if key in self.held:
            self.policy.touch(key)
            return Why.HERE
        if key in self._coming:
            return Why.BUSY
        if not self.policy.admit(key, parent, position, tokens):
            return Why.UNWANTED
        above = parent if parent is not None and (parent in self.held or parent in self._coming) else None
        if above is not None:
            self.policy.pin(above)
        self._coming[key] = above
        self.policy.coming(key)
        return Why.DONE

    def found(self, key: bytes) -> tuple[int, Record] | None:
        """The block's slot and what is in it; None where it is not here."""
        slot = self.held.get(key)
        return None if slot is None else (slot, self._notes.record(slot))

    def reserve(self, key: bytes) -> int | Why:
        """A slot to write the coming block to, whose old record is gone; or why there is none."""
        above = self._coming[key]
        if above is not None and above not in self.held and above not in self._coming:
            return Why.UNWANTED  # what it stands on was not written
        if self._free:
            return self._free.pop()
        victim = self.policy.evict()
        if not isinstance(victim, bytes):
            return Why.FULL
        slot = self.held[victim]
        try:
            self._table.clear(slot)
        except OSError:  # its old record stands, and so does the block
            record = self._notes.record(slot)
            self.policy.insert(victim, record.parent, record.position, record.tokens)
            self.refusals += 1
            return Why.DISK
        del self.held[victim]
        self.evicted += 1
        self._events.append(Event(False, victim))
        return slot

    def commit(self, slot: int, record: Record) -> Why:
        """The block was written: from now on it is found, if its parent is. DISK where its record was refused."""
        self._turn += 1
        record = replace(record, turn=self._turn)
        try:
            self._table.put(slot, record)
        except OSError:
            return self.abort(slot, record.key)
        if record.parent in self._coming:
            self._early.setdefault(record.parent, []).append((slot, record))
            return Why.DONE
        ready = [(slot, record)]
        while ready:
            slot, record = ready.pop()
            pinned = self._arrived(record.key)
            self.held[record.key] = slot
            parent = record.parent
            if parent is not None and (above := self.held.get(parent)) is not None:
                parent = self._notes.key(above)  # one object for all that stand on it
            self._notes.put(slot, record, record.key, parent)
            self.policy.insert(record.key, parent, record.position, record.tokens)
            if pinned is not None:
                self.policy.unpin(pinned)
            self._events.append(Event(True, record.key))
            ready += self._early.pop(record.key, ())
        return Why.DONE

    def abort(self, slot: int, key: bytes) -> Why:
        """The block was not written."""
        self._release(slot)
        self.refusals += 1
        self.forgo(key)
        return Why.DISK

    def forgo(self, key: bytes) -> None:
        """The coming block will not be written; what was written to stand on it goes with it."""
        given_up = [key]
        while given_up:
            key = given_up.pop()
            above = self._arrived(key)
            if above is not None:
                self.policy.unpin(above)
            for slot, record in self._early.pop(key, ()):
                self._empty(slot)
                given_up.append(record.key)

    def quarantine(self, slot: int, record: Record) -> bool:
        """The slot's bytes were not what they should be. Once, that may be a power cut before they were on the disk,
        and it is written again; when they are wrong again it is used no more, also after a restart. Whether the block
        was still there: another reader may have noticed first."""
        if not self._lost(slot, record):
            return False
        if slot not in self._doubted:
            self._doubted.add(slot)
            self._empty(slot)
            return True
        self.bad.add(slot)
        self._resize()
        with suppress(OSError):  # a disk that takes no record holds a block whose sum is wrong: it is found again
            self._table.put(slot, replace(record, bad=True))
        return True

    def drop(self, slot: int, record: Record) -> None:
        """The block could not be read: it is gone, its slot is as good as any."""
        if self._lost(slot, record):
            self._empty(slot)

    def withdraw(self, slots: Iterable[int]) -> bool:
        """The disk has no room for these slots. False, and nothing changes, where the tier would be left with none
        that was ever written: the disk may have room later."""
        if not self.held:
            return False
        self.roomless.update(slots)
        self._free = [slot for slot in self._free if slot not in self.roomless]
        self._resize()
        return True

    def events(self) -> list[Event]:
        """What came and went since the last call; of more than 100,000 the newest."""
        told = list(self._events)
        self._events.clear()
        return told

    def _arrived(self, key: bytes) -> bytes | None:
        """The block comes no longer. What was pinned for it."""
        self.policy.called_off(key)
        return self._coming.pop(key, None)

    def _lost(self, slot: int, record: Record) -> bool:
        if self.found(record.key) != (slot, record):
            return False
        del self.held[record.key]
        self.policy.remove(record.key)
        self._events.append(Event(False, record.key))
        return True

    def _empty(self, slot: int) -> None:
        try:
            self._table.clear(slot)
        except OSError:  # its record would speak of other bytes: not used until the tier is opened anew
            self.bad.add(slot)
            self._resize()
        else:
            self._release(slot)

    def _release(self, slot: int) -> None:
        if slot not in self.roomless:
            self._free.append(slot)

    def _resize(self) -> None:
        self.policy.resize(self.slots - len(self.bad | self.roomless))

    def _recover(self) -> set[int]:
        same, slots = dict[bytes, bytes](), list[int]()
        for slot, record in self._table.records():
            self._turn = max(self._turn, record.turn)
            if record.bad:
                self.bad.add(slot)
                continue
            key, parent = same.setdefault(record.key, record.key), record.parent
            above = None if parent is None else same.setdefault(parent, parent)
            self._notes.put(slot, record, key, above)
            slots.append(slot)
        found = {self._notes.key(slot): slot for slot in sorted(slots, key=self._notes.turn)}
        for key in found:
            for each in _line(key, found, self.held, self._notes):
                slot = self.held[each] = found[each]
                self.policy.insert(each, self._notes.parent(slot), *self._notes.extent(slot)[:2])
        return self.bad | set(found.values())


def _line(key: bytes, found: dict[bytes, int], done: dict[bytes, int], notes: Notes) -> list[bytes]:
    """The block after those before it in the prompt that were found and are not yet taken in."""
    line, here, seen = [], key, set[bytes]()
    while here in found and here not in done and here not in seen:
        seen.add(here)
        line.append(here)
        above = notes.parent(found[here])
        if above is None:
            break
        here = above
    return line[::-1]
