"""OptiInfra's own policy: a slot has a rent, blocks of each kind earn by coming back, and who cannot pay stays out.

It keeps whole prefixes (a parent never leaves before its children), learns online how soon blocks of each kind come
back (`survival`), reckons the rent at which what is worth keeping just fills the tier (`rent`), writes a block only
when it brings more than its rent and the price of a write, and gives up the leaf that earns least. Nothing is set for a
trace; what it has not learnt yet, it takes in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from kvtier.policies.base import Key, Policy, Worth
from kvtier.policies.kinds import PARTIAL, Seen, kind_of_new, kind_of_seen
from kvtier.policies.leaves import FACTORS, NEUTRAL, Leaves, level_of
from kvtier.policies.rent import LEAST_HITS, Ledger, reckon
from kvtier.policies.shadow import Shadow
from kvtier.policies.survival import Survival

WEAR = 0.5
"""The price of a write, in hits, is `LEAST_HITS` and this times the share of misses that are written: the more is
written, the more a further write must bring."""
SHARE_SLICES = 64
START_SHARE = 0.5
GHOSTS = 131_072
"""Blocks remembered that are not here, at least; twice the slots where that is more."""
LEARN_SIGHTINGS = 2048
"""Rent and indices are reckoned anew after so many sightings, or an eighth of the slots."""
LATE_ROUNDS = 4


class Renting(Policy):
    """`worth`: what a hit at a position saves, None where every hit counts the same. `write_price`: hits that a write
    must bring, to be raised where the disk must be spared, as may be `wear` (see `WEAR`)."""

    name = "optiinfra"

    def __init__(
        self, slots: int, worth: Worth | None = None, write_price: float = LEAST_HITS, wear: float = WEAR
    ) -> None:
        super().__init__(slots)
        self.worth, self.write_price, self.wear = worth, write_price, wear
        self._missed = self._written = 0
        self._share = START_SHARE
        step = max(32, slots // 32)
        self._learn_every = max(4, -(-LEARN_SIGHTINGS // step))
        self._survival = Survival(step)
        self._leaves = Leaves(self._survival.edges, self._survival.bin_of)
        self._ledger: Ledger | None = None
        self._here: dict[Key, Seen] = {}
        self._shadow = Shadow(slots, self._here)
        self._gone: OrderedDict[Key, Seen] = OrderedDict()
        self._most_gone = max(GHOSTS, 2 * slots)
        self._now = self._unseen = self._whole = 0
        self._typical = 0.0
        self._admitted: Key | None = None
        self._shield: Seen | None = None

    def __len__(self) -> int:
        return len(self._here)

    def __contains__(self, key: object) -> bool:
        return key in self._here

    def __iter__(self) -> Iterator[Key]:
        return iter(self._here)

    def resize(self, slots: int) -> None:
        super().resize(slots)
        self._shadow.resize(self.slots)

    def expect(self, keys: Sequence[Key]) -> None:
        self._unseen = sum(key not in self._here and key not in self._gone for key in keys)

    def touch(self, key: Key) -> None:
        block = self._here[key]
        self._protect(None)
        self._leaves.drop(block)
        self._again(block)
        self._shadow.sighted(key, True)
        self._offer(block)

    def admit(self, key: Key, parent: Key | None, position: int, tokens: int) -> bool:
        if key in self._here:
            self.touch(key)
            return False
        above = None if parent is None else self._here.get(parent) or self._gone.get(parent)
        block = self._gone.get(key)
        if block is None:
            block = self._gone[key] = self._first(key, above, position, tokens)
            if len(self._gone) > self._most_gone:
                _, old = self._gone.popitem(last=False)
                self._survival.forget(old.kind, old.at)
        else:
            self._again(block)
            self._gone.move_to_end(key)
        self._shadow.sighted(key, False)
        self._missed += 1
        joins = parent is None or parent in self._here or parent in self._coming or parent == self._admitted
        self._admitted = None
        if not joins or not self._pays(block, above):
            return False
        self._admitted = key
        self._written += 1
        return True

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        if key in self._here:
            return
        above = None if parent is None else self._here.get(parent)
        known = self._gone.pop(key, None)
        block = known or self._first(key, above, position, tokens)
        block.here, block.parent = True, above
        self._here[key] = block
        self._shadow.came(key)
        if known is None:
            self._shadow.found(key)
        if above is not None:
            above.kids += 1
            self._leaves.drop(above)
        self._protect(block)

    def evict(self) -> Key | None:
        lowest = self._leaves.lowest()
        if lowest is None:
            self._protect(None)
            lowest = self._leaves.lowest()
        if lowest is None:
            return None
        block = lowest[1]
        self._leave(block)
        self._gone[block.key] = block
        return block.key

    def remove(self, key: Key) -> None:
        block = self._here.get(key)
        if block is not None:
            self._leave(block)
            self._shadow.lost(key)
            self._survival.forget(block.kind, block.at)

    def pin(self, key: Key) -> None:
        super().pin(key)
        if key in self._here:
            self._leaves.drop(self._here[key])

    def unpin(self, key: Key) -> None:
        super().unpin(key)
        if key in self._here:
            self._offer(self._here[key])

    def _pays(self, block: Seen, above: Seen | None) -> bool:
        """Whether the block is worth a write: what it brings, less what its slot costs, is more than the price. A slot
        costs the rent, or what the leaf that would leave earns, if that is less: it may be idle."""
        ledger, free = self._ledger, self._shadow.follow and block.kind != PARTIAL
        times, brings, price = FACTORS[block.level], float("inf"), self._price()
        if ledger is not None and not free:
            brings = times * float(ledger.hits[block.kind])
            if brings <= price:
                return False
        if len(self._here) + len(self._coming) < self.slots:
            return True
        self._protect(above)
        lowest = self._leaves.lowest()
        if ledger is None or free or lowest is None:
            return lowest is not None
        slot = min(lowest[0], ledger.rent)
        earns = times * float(ledger.index[block.kind, 0])
        return lowest[0] < earns and brings - slot * float(ledger.held[block.kind]) > price

    def _price(self) -> float:
        """Hits that a write must bring beyond what its slot would bring without it."""
        return self.write_price + self.wear * self._share

    def _first(self, key: Key, above: Seen | None, position: int, tokens: int) -> Seen:
        self._tick()
        block = Seen(key)
        block.count, block.at = 1, self._now
        if above is not None:
            above.children += 1
        self._whole = max(self._whole, tokens)
        block.kind = kind_of_new(block, above, tokens < self._whole, self._unseen)
        block.level = NEUTRAL if self.worth is None else self._level(self.worth(position))
        self._survival.first(block.kind)
        return block

    def _again(self, block: Seen) -> None:
        self._tick()
        block.count += 1
        kind = kind_of_seen(block, self._now - block.at > LATE_ROUNDS * self.slots, self._unseen)
        self._survival.again(block.kind, block.at, kind)
        block.kind, block.at = kind, self._now

    def _level(self, worth: float) -> int:
        self._typical += (worth - self._typical) / min(self._now, 100_000)
        return level_of(worth / self._typical if self._typical else 1.0)

    def _protect(self, block: Seen | None) -> None:
        """Keep this one, on which the next block is to stand, from leaving; the one before is a candidate again."""
        before, self._shield = self._shield, block
        if block is not None:
            self._leaves.drop(block)
        if before is not None and before is not block:
            self._offer(before)

    def _offer(self, block: Seen) -> None:
        """A candidate, if it is here, nothing stands on it and nobody holds it."""
        if block.here and not block.kids and block.cell is None and block.key not in self._pins:
            self._leaves.add(block, block.at // self._survival.slice_sightings, self._survival.slice)

    def _leave(self, block: Seen) -> None:
        self._leaves.drop(block)
        del self._here[block.key]
        self._shadow.went(block.key)
        above, block.parent, block.here = block.parent, None, False
        if above is not None and above.here:
            above.kids -= 1
            if above is not self._shield:
                self._offer(above)

    def _tick(self) -> None:
        self._now += 1
        if self._now % self._survival.slice_sightings:
            return
        self._survival.tick()
        if self._shadow.follow:
            self._missed = self._written = 0
        elif self._missed:
            self._share += (self._written / self._missed - self._share) / SHARE_SLICES
            self._missed = self._written = 0
        now = self._survival.slice
        for block in self._leaves.aged(now):
            self._leaves.drop(block)
            self._offer(block)
        if now % self._learn_every == 0:
            last = self._ledger.rent if self._ledger else 0.0
            self._ledger = reckon(self._survival, self.slots, last, self._price())
            self._leaves.sort(self._ledger.index.ravel().tolist())
        if self._shadow.tick(self._survival.slice_sightings, self._ledger is not None):
            self._leaves.by_age(self._shadow.follow)
