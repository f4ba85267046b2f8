"""The KV cache of one replica: blocks lent to requests, and prefixes that stay behind in blocks nobody has lent."""

from __future__ import annotations

from collections import OrderedDict

from connectors.twin.coefficients import BLOCK_TOKENS


def blocks_of(tokens: int) -> int:
    """Blocks that hold `tokens` tokens.

    >>> blocks_of(1), blocks_of(16), blocks_of(17)
    (1, 1, 2)
    """
    return -(-tokens // BLOCK_TOKENS)


class KvCache:
    """`capacity` blocks. `used` never exceeds it; prefixes are kept least recently used first in the rest.

    Simplified against vLLM: a prefix is kept or evicted whole, and requests that share one each hold their own blocks.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._prefixes: OrderedDict[int, int] = OrderedDict()
        self._prefix_blocks = 0

    @property
    def free(self) -> int:
        """Blocks that can be lent, whether or not a prefix still lies in them."""
        return self.capacity - self.used

    @property
    def usage_ratio(self) -> float:
        """Share of blocks lent, 0..1."""
        return self.used / self.capacity

    def take(self, blocks: int) -> bool:
        """Lend `blocks`, evicting prefixes for room; False, and nothing changes, when there are too few."""
        if blocks > self.capacity - self.used:
            return False
        self.used += blocks
        if self._prefix_blocks > self.capacity - self.used:
            self._evict()
        return True

    def give_back(self, blocks: int) -> None:
        """Return lent blocks."""
        self.used -= blocks

    def keep(self, prefix_id: int, tokens: int) -> None:
        """Remember the first `tokens` tokens of a prefix in blocks that were just returned."""
        blocks = tokens // BLOCK_TOKENS
        if blocks == 0:
            return
        known = self._prefixes.pop(prefix_id, 0)
        self._prefixes[prefix_id] = max(blocks, known)
        self._prefix_blocks += max(blocks, known) - known
        self._evict()

    def cached_tokens(self, prefix_id: int, tokens: int) -> int:
        """How many of the first `tokens` tokens of a prefix are here, in whole blocks."""
        known = self._prefixes.get(prefix_id)
        if known is None:
            return 0
        self._prefixes.move_to_end(prefix_id)
        return min(known, tokens // BLOCK_TOKENS) * BLOCK_TOKENS

    def _evict(self) -> None:
        while self._prefix_blocks > self.capacity - self.used:
            _, blocks = self._prefixes.popitem(last=False)
            self._prefix_blocks -= blocks
