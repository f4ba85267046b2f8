"""A shadow of LRU beside the policy: keys only, as many as there are slots, so that the policy never falls far behind.

The policy's hits less LRU's are a lead that it has in the bank. What it may still lose is bounded: each block that LRU
has and the policy lacks is at most one hit, since the policy, once it does as LRU, takes the block in when it is missed
and keeps it as long as LRU does. Such blocks are counted, and how many of them LRU hits in the end is learnt. The
policy goes its own way while its bank, as it will be if it goes on as of late, covers what they may cost, and does as
LRU when it does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from kvtier.policies.base import Key

TOLERANCE = 0.006
"""The share of LRU's hits that may be lost; the promise is a hundredth, the rest is for what comes too fast to see."""
COVER = 0.5
"""The bank must hold this share of what the blocks apart are expected to cost: leaving off saves the rest of it."""
PRIOR_BLOCKS = 50.0
"""The chance that LRU hits a block apart is that of all its blocks, until more than so many have come to an end."""
LEAST_CHANCE = 0.5
"""A block apart is taken to have this share of the chance of any block, at least: after a change, others are apart."""
WINDOW = 0.25
"""How fast the bank grows or shrinks is measured over sightings of so many times the slots, the last ones most; the
bank is judged by where it will be after sightings of as many as the slots, at that pace."""
HALF_LIFE = 8.0
"""What was learnt of that chance counts half after sightings of so many times the slots."""


class Shadow:
    """`follow` says whether to do as LRU for now: at first, until LRU's slots are full. `here`: the policy's blocks."""

    def __init__(self, slots: int, here: Container[Key]) -> None:
        self.follow = True
        self.bank = 0.0
        self.apart = 0
        self._slots, self._here = slots, here
        self._keys: OrderedDict[Key, None] = OrderedDict()
        self._full = False
        self._last = self._pace = 0.0
        self._sighted = self._theirs = self._lost = self._spared = 0.0

    def resize(self, slots: int) -> None:
        """The policy has so many slots now."""
        self._slots = slots

    def sighted(self, key: Key, hit: bool) -> None:
        """A block was sighted; `hit`: the policy had it."""
        self._sighted += 1.0
        if hit:
            self.bank += 1.0
        if key in self._keys:
            self.bank -= 1.0 - TOLERANCE
            self._theirs += 1.0
            if not hit:
                self._lost += 1.0
            self._keys.move_to_end(key)
            return
        self._keys[key] = None
        if not hit:
            self.apart += 1
        self._trim()

    def found(self, key: Key) -> None:
        """The policy was given a block that nobody had sighted, after a restart: LRU would have found it too."""
        self._keys[key] = None
        self._trim()

    def came(self, key: Key) -> None:
        """The policy took the block in."""
        if key in self._keys:
            self.apart -= 1

    def went(self, key: Key) -> None:
        """The policy has the block no longer."""
        if key in self._keys:
            self.apart += 1

    def lost(self, key: Key) -> None:
        """The disk lost a block that the policy had: LRU would have lost it too, so its next miss is no debt."""
        if key in self._keys:
            del self._keys[key]
            self.apart -= 1

    def tick(self, sightings: int, learnt: bool) -> bool:
        """So many sightings are over; True when `follow` changed. `learnt`: the policy has a way of its own by now.
        The bank holds no more than a hit for each slot: what was won long ago covers no loss without end."""
        keep = 0.5 ** (sightings / (HALF_LIFE * self._slots))
        self._sighted *= keep
        self._theirs *= keep
        self._lost *= keep
        self._spared *= keep
        fade = 0.5 ** (sightings / (WINDOW * self._slots))
        self._pace += (1.0 - fade) * ((self.bank - self._last) / sightings - self._pace)
        self._last = self.bank = min(self.bank, float(self._slots))
        ahead = self.bank + self._pace * self._slots
        before = self.follow
        short = self.bank < 0 or ahead < COVER * self.chance() * self.apart
        self.follow = short or not learnt or not self._full
        return self.follow != before

    def chance(self) -> float:
        """Of the blocks that LRU has and the policy lacks, the share that LRU hits before they leave it."""
        usual = self._theirs / (self._sighted + 1.0)
        learnt = (self._lost + PRIOR_BLOCKS * usual) / (self._lost + self._spared + PRIOR_BLOCKS)
        return max(learnt, LEAST_CHANCE * usual)

    def _trim(self) -> None:
        while len(self._keys) > self._slots:
            self._full = True
            old, _ = self._keys.popitem(last=False)
            if old not in self._here:
                self.apart -= 1
                self._spared += 1.0
