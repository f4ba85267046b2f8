"""The KV cache of one replica: blocks lent to requests, some of them known by the hash of what they hold.

A hash stands for the tokens of its blocks and for all that comes before them, so equal hashes are equal cache. Requests
that share hashed blocks hold the same ones, counted once. Blocks that nobody holds any more stay until their room is
needed: least recently used first, and of one request the last block first, since nobody can use it without the others.

Simplified against vLLM: blocks without a hash (answers, among them) are given up before any hashed one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from connectors.twin.profiles import BLOCK_TOKENS


def blocks_of(tokens: int) -> int:
    """Blocks that hold `tokens` tokens.

    >>> blocks_of(1), blocks_of(16), blocks_of(17)
    (1, 1, 2)
    """
    return -(-tokens // BLOCK_TOKENS)


class KvCache:
    """`capacity` blocks, of which `used` are lent; it never exceeds capacity. One hash stands for `per_hash` blocks."""

    def __init__(self, capacity: int, per_hash: int = 1) -> None:
        self.capacity, self.per_hash = capacity, per_hash
        self.used = 0
        self._holders: dict[Hashable, int] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be lent, whether or not something known still lies in them."""
        return self.capacity - self.used

    @property
    def usage_ratio(self) -> float:
        """Share of blocks lent, 0..1."""
        return self.used / self.capacity

    @property
    def idle(self) -> int:
        """Blocks that nobody holds and that are still known by their hash."""
        return len(self._idle) * self.per_hash

    def known(self, hashes: Sequence[Hashable]) -> int:
        """How many of the hashes are here, counted from the first to the first that is not."""
        for found, each in enumerate(hashes):
            if each not in self._holders and each not in self._idle:
                return found
        return len(hashes)

    def take(self, blocks: int) -> bool:
        """Lend `blocks`, giving up idle ones for room; False, and nothing changes, when there are too few."""
        if blocks > self.capacity - self.used:
            return False
        self.used += blocks
        while self.idle > self.capacity - self.used:
            self._idle.popitem(last=False)
        return True

    def take_with(self, hashes: Sequence[Hashable], blocks: int) -> bool:
        """Hold the blocks of `hashes`, which are all here, and take `blocks` others; False when there are too few."""
        woken = [each for each in hashes if each not in self._holders]
        if blocks + len(woken) * self.per_hash > self.capacity - self.used:
            return False
        for each in woken:
            del self._idle[each]
        for each in hashes:
            self._holders[each] = self._holders.get(each, 0) + 1
        self.used += len(woken) * self.per_hash
        return self.take(blocks)

    def name(self, hashed: Hashable) -> bool:
        """Know lent blocks by a hash from now on; False when others are known by it already."""
        if hashed in self._holders or hashed in self._idle:
            return False
        self._holders[hashed] = 1
        return True

    def give_back(self, blocks: int, hashes: Sequence[Hashable] = ()) -> None:
        """Return lent blocks; those of `hashes` stay known, the first of them the longest."""
        self.used -= blocks
        for each in reversed(hashes):
            holders = self._holders[each] - 1
            if holders:
                self._holders[each] = holders
            else:
                del self._holders[each]
                self.used -= self.per_hash
                self._idle[each] = None
