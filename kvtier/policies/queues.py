"""Policies that keep blocks in the order of their arrival or of their last use: FIFO, LRU and SIEVE."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from kvtier.policies.base import Key, Policy


class Fifo(Policy):
    """The block that has been here longest goes, whoever used it since."""

    name = "fifo"

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._order: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: object) -> bool:
        return key in self._order

    def __iter__(self) -> Iterator[Key]:
        return iter(self._order)

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        self._order[key] = None

    def touch(self, key: Key) -> None:
        return None

    def evict(self) -> Key | None:
        victim = oldest(self._order, self._pins)
        if victim is not None:
            del self._order[victim]
        return victim

    def remove(self, key: Key) -> None:
        self._order.pop(key, None)


class Lru(Fifo):
    """The block that was not used for longest goes."""

    name = "lru"

    def touch(self, key: Key) -> None:
        self._order.move_to_end(key)


class Sieve(Fifo):
    """A hand goes from the oldest block to the newest, spares those used since it came by, and takes the first other.

    Source: Zhang et al., NSDI 2024.
    """

    name = "sieve"

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._used: dict[Key, bool] = {}
        self._newer: dict[Key, Key | None] = {}
        self._older: dict[Key, Key | None] = {}
        self._newest: Key | None = None
        self._oldest: Key | None = None
        self._hand: Key | None = None

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        if key in self._order:
            return
        super().insert(key, parent, position, tokens)
        self._used[key] = False
        self._older[key], self._newer[key] = self._newest, None
        if self._newest is None:
            self._oldest = key
        else:
            self._newer[self._newest] = key
        self._newest = key

    def touch(self, key: Key) -> None:
        self._used[key] = True

    def evict(self) -> Key | None:
        hand = self._hand if self._hand is not None else self._oldest
        for _ in range(2 * len(self._order) + 1):
            if hand is None:
                hand = self._oldest
            if hand is None:
                return None
            if hand not in self._pins:
                if not self._used[hand]:
                    self._hand = self._newer[hand]
                    self._unlink(hand)
                    return hand
                self._used[hand] = False
            hand = self._newer[hand]
        return None

    def remove(self, key: Key) -> None:
        if key in self._order:
            if self._hand == key:
                self._hand = self._newer[key]
            self._unlink(key)

    def _unlink(self, key: Key) -> None:
        del self._order[key], self._used[key]
        older, newer = self._older.pop(key), self._newer.pop(key)
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older


def oldest(order: OrderedDict[Key, None], pins: dict[Key, int]) -> Key | None:
    """The first key that is not pinned; None when all are."""
    if not pins:
        return next(iter(order), None)
    return next((key for key in order if key not in pins), None)
