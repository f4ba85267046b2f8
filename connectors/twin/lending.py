"""Blocks of the KV cache for requests: those known by their hash are shared, the rest is a request's own."""

from __future__ import annotations

from connectors.twin.kv import KvCache, blocks_of
from connectors.twin.request import Sequence
from connectors.twin.tiers import Tiers


class Lender:
    """Lends the blocks of `kv`. What is computed is stored in `tiers` too, where there are any. `hash_tokens`: tokens
    that one hash stands for."""

    def __init__(self, kv: KvCache, tiers: Tiers | None, hash_tokens: int) -> None:
        self.kv, self._tiers, self._hash_tokens = kv, tiers, hash_tokens

    def lend(self, sequence: Sequence, most: int) -> bool:
        """Blocks for all its tokens, of them those that are known by the first `most` of its hashes; False when there
        are too few."""
        kv, hashes = self.kv, sequence.hashes
        found = hashes[: kv.known(hashes[:most])]
        own = blocks_of(sequence.target) - len(found) * kv.per_hash
        if not kv.take_with(found, own):
            return False
        sequence.blocks, sequence.named, sequence.told = own, list(found), len(found)
        sequence.computed = len(found) * self._hash_tokens
        return True

    def name(self, sequence: Sequence) -> None:
        """Whole blocks that have been computed are there for others; those that another made meanwhile stay its own."""
        whole = min(len(sequence.hashes), sequence.computed // self._hash_tokens)
        for hashed in sequence.hashes[sequence.told : whole]:
            if self._tiers is not None:
                self._tiers.store(hashed)
            if self.kv.name(hashed):
                sequence.named.append(hashed)
                sequence.blocks -= self.kv.per_hash
        sequence.told = max(sequence.told, whole)

    def grown(self, sequence: Sequence, held_tokens: int) -> None:
        """It holds so many tokens: the blocks that decoding opened are its own."""
        sequence.blocks = blocks_of(held_tokens) - len(sequence.named) * self.kv.per_hash

    def take_back(self, sequence: Sequence) -> None:
        """All its blocks; those that are known stay so."""
        self.kv.give_back(sequence.blocks, sequence.named)
        sequence.blocks, sequence.named, sequence.told = 0, [], 0
