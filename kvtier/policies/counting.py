"""Policies that count uses, and let the counts of what is no longer used fall behind: LFU with ageing and GDSF."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from kvtier.policies.base import Key, Policy, Worth


class Lfu(Policy):
    """The block with the lowest count goes; a count begins at that of the last block that went (dynamic ageing).

    Source: Arlitt et al., "Evaluating content management techniques for Web proxy caches", 1999 (LFU-DA).
    """

    name = "lfu"

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._rank: dict[Key, tuple[float, int]] = {}
        self._uses: dict[Key, int] = {}
        self._cost: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._age = 0.0
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._rank)

    def __contains__(self, key: object) -> bool:
        return key in self._rank

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rank)

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        self._uses[key], self._cost[key] = 0, self.cost(position)
        self.touch(key)

    def touch(self, key: Key) -> None:
        self._uses[key] += 1
        rank = (self._age + self._uses[key] * self._cost[key], next(self._numbers))
        self._rank[key] = rank
        heapq.heappush(self._heap, (*rank, key))
        if len(self._heap) > 64 + 4 * len(self._rank):
            self._heap = [(*each, key) for key, each in self._rank.items()]
            heapq.heapify(self._heap)

    def evict(self) -> Key | None:
        spared: list[tuple[float, int, Key]] = []
        victim: Key | None = None
        while self._heap and victim is None:
            rank, number, key = heapq.heappop(self._heap)
            if self._rank.get(key) != (rank, number):
                continue
            if key in self._pins:
                spared.append((rank, number, key))
                continue
            self._age, victim = rank, key
        for each in spared:
            heapq.heappush(self._heap, each)
        if victim is not None:
            self.remove(victim)
        return victim

    def remove(self, key: Key) -> None:
        if key in self._rank:
            del self._rank[key], self._uses[key], self._cost[key]

    def cost(self, position: int) -> float:
        """What a use counts: the same for all blocks."""
        return 1.0


class Gdsf(Lfu):
    """LFU with ageing where a use counts as much as it saves: greedy dual, with frequency and (equal) size.

    Source: Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching policy", 1998.
    """

    name = "gdsf"

    def __init__(self, slots: int, worth: Worth | None = None) -> None:
        super().__init__(slots)
        self._worth = worth

    def cost(self, position: int) -> float:
        """What a use counts: the seconds that it saves, where they are known."""
        return self._worth(position) if self._worth else 1.0
