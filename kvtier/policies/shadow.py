"""A shadow of LRU beside the policy: keys only, as many as there are slots, to tell when LRU would hit more.

What was learnt may be wrong for a while, after a change of the traffic or at the start. Where LRU would have hit more
lately, the policy does as LRU for a term, then tries its own way again; each failure doubles the term.
"""

from __future__ import annotations

from collections import OrderedDict

from kvtier.policies.base import Key

KEEP = 0.5 ** (1 / 256)
"""Hits count half after 256 slices, which is eight times the slots."""
TERM, LONGEST_TERM = 128, 2048
"""Slices for which LRU is followed."""
TOLERANCE = 0.01
DOUBT = 20.0
"""Blocks come in prompts, some twenty at a time: three standard deviations of such counts, over the root."""


class Shadow:
    """`follow` says whether to do as LRU for now."""

    def __init__(self, slots: int) -> None:
        self.follow = False
        self._slots = slots
        self._keys: OrderedDict[Key, None] = OrderedDict()
        self._theirs = self._ours = 0.0
        self._term, self._until, self._slice = TERM, 0, 0

    def resize(self, slots: int) -> None:
        """The policy has so many slots now."""
        self._slots = slots

    def sighted(self, key: Key, hit: bool) -> None:
        """A block was sighted; `hit`: the policy had it."""
        self._ours += hit
        if key in self._keys:
            self._theirs += 1.0
            self._keys.move_to_end(key)
            return
        self._keys[key] = None
        while len(self._keys) > self._slots:
            self._keys.popitem(last=False)

    def tick(self) -> bool:
        """A slice is over; True when `follow` changed."""
        self._slice += 1
        self._theirs *= KEEP
        self._ours *= KEEP
        if self.follow:
            if self._slice < self._until:
                return False
            self.follow, self._until = False, self._slice + TERM
            self._theirs = self._ours = 0.0
            return True
        behind = self._theirs - (1.0 + TOLERANCE) * self._ours
        if behind > DOUBT * self._theirs**0.5:
            self.follow, self._until = True, self._slice + self._term
            self._term = min(LONGEST_TERM, 2 * self._term)
            return True
        if self._slice > self._until and self._ours > self._theirs:
            self._term = TERM
        return False
