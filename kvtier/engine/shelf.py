"""Which block is in which slot: the table on disk, the same in memory, and the policy that chooses. Not thread-safe.

A slot is free, held, being written (it belongs to the writer, and nothing finds it) or bad (never used again).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace

from kvtier.engine.table import Record, Table
from kvtier.engine.terms import Event, Why
from kvtier.policies import Policy

_EVENTS = 100_000


class Shelf:
    """Takes in what a former process left in `table`, parents before children and the oldest first."""

    def __init__(self, table: Table, policy: Policy, slots: int) -> None:
        self._table, self.policy, self.slots = table, policy, slots
        self.held: dict[bytes, tuple[int, Record]] = {}
        self.bad: set[int] = set()
        self.evicted, self.refusals = 0, 0
        self._writing: set[bytes] = set()
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._turn = 0
        used = self._recover()
        self._free = [slot for slot in range(slots - 1, -1, -1) if slot not in used]

    def sight(self, key: bytes, parent: bytes | None, position: int, tokens: int) -> Why:
        """A block was computed. DONE where it should be written; else why not. One sighting."""
        if key in self.held:
            self.policy.touch(key)
            return Why.HERE
        if key in self._writing:
            return Why.BUSY
        return Why.DONE if self.policy.admit(key, parent, position, tokens) else Why.UNWANTED

    def reserve(self, key: bytes) -> int | Why:
        """A slot to write the block to, whose old record is gone; or why there is none."""
        if self._free:
            slot = self._free.pop()
        else:
            victim = self.policy.evict()
            if not isinstance(victim, bytes):
                return Why.FULL
            self.evicted += 1
            slot, _ = self.held.pop(victim)
            self._events.append(Event(False, victim))
            try:
                self._table.clear(slot)
            except OSError:  # its old record stands, and would speak of other bytes: the slot stays as it is
                self.bad.add(slot)
                self.refusals += 1
                return Why.DISK
        self._writing.add(key)
        return slot

    def commit(self, slot: int, record: Record) -> Why:
        """The block was written: from now on it is found. DISK where its record was refused."""
        self._turn += 1
        record = replace(record, turn=self._turn)
        try:
            self._table.put(slot, record)
        except OSError:
            return self.abort(slot, record.key)
        self._writing.discard(record.key)
        self.held[record.key] = (slot, record)
        self.policy.insert(record.key, record.parent, record.position, record.tokens)
        self._events.append(Event(True, record.key))
        return Why.DONE

    def abort(self, slot: int, key: bytes) -> Why:
        """The block was not written."""
        self._writing.discard(key)
        self._free.append(slot)
        self.refusals += 1
        return Why.DISK

    def quarantine(self, slot: int, record: Record) -> None:
        """The slot's bytes were not what they should be: it is used no more, also after a restart."""
        if self.held.get(record.key) != (slot, record):
            return  # another reader noticed first
        del self.held[record.key]
        self.policy.remove(record.key)
        self.bad.add(slot)
        self._events.append(Event(False, record.key))
        with suppress(OSError):  # a disk that takes no record holds a block whose sum is wrong: it is found again
            self._table.put(slot, replace(record, bad=True))

    def events(self) -> list[Event]:
        """What came and went since the last call; of more than 100,000 the newest."""
        told = list(self._events)
        self._events.clear()
        return told

    def _recover(self) -> set[int]:
        found: dict[bytes, tuple[int, Record]] = {}
        for slot, record in sorted(self._table.records(), key=lambda each: each[1].turn):
            if record.bad:
                self.bad.add(slot)
            else:
                found[record.key] = (slot, record)
            self._turn = max(self._turn, record.turn)
        for key in found:
            for each in _line(key, found, self.held):
                slot, record = self.held[each] = found[each]
                self.policy.insert(each, record.parent, record.position, record.tokens)
        return self.bad | {slot for slot, _ in found.values()}


def _line(key: bytes, found: dict[bytes, tuple[int, Record]], done: dict[bytes, tuple[int, Record]]) -> list[bytes]:
    """The block after those before it in the prompt that were found and are not yet taken in."""
    line, here, seen = [], key, set[bytes]()
    while here in found and here not in done and here not in seen:
        seen.add(here)
        line.append(here)
        above = found[here][1].parent
        if above is None:
            break
        here = above
    return line[::-1]
