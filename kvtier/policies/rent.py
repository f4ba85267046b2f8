"""What a slot is worth to each kind of block, and the rent at which the blocks worth keeping just fill the tier.

A block that is kept earns 1 for a hit, and no second write when it is worth one again; it pays rent for every sighting
it stays. What comes after the hit is no merit of keeping it: it could be written again. By Little's law the blocks
kept at a rent are the rate at which they come times the time that they stay: the rent at which that is the number of
slots is the right one. The index of a kind and age is the best rate of earning that any time of holding gives (Gittins
1979): the lowest leaves first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kvtier.policies.survival import Survival, Table

LEAST_HITS = 0.03
"""A write must bring this many hits at least, however free the room."""
_STEPS = 7


@dataclass(frozen=True, eq=False)
class Ledger:
    """`rent` per slot and sighting; in the same unit `index` [kinds, bins]; of a block that is taken in, `hits` [kinds]
    are what it is to bring while it is worth its rent, `held` [kinds] the sightings for which it stays."""

    rent: float
    index: Table
    hits: Table
    held: Table


@dataclass(frozen=True, eq=False)
class _Course:
    """Chances and times of a block that enters each bin of age: `back`, `stay` [kinds, bins]; then `becomes`."""

    back: Table
    stay: Table
    becomes: Table
    price: float

    def earned(self, value: Table) -> Table:
        """What a hit earns, [kinds]: 1, and the write that is spared where the block is worth writing again."""
        return 1.0 + self.becomes @ np.clip(value, 0.0, self.price)

    def kept(self, rent: float, value: Table) -> tuple[Table, Table]:
        """Hits earned and time held, each [kinds], at this rent. `value`: a guess of one less the other's rent."""
        gain = self.back * self.earned(value)[:, None]
        worth, held, hits = (_nothing(len(value)) for _ in range(3))
        for b in range(gain.shape[1] - 1, -1, -1):
            left = 1.0 - self.back[:, b]
            ahead = gain[:, b] - rent * self.stay[:, b] + left * worth
            keep = ahead > 0
            worth = np.where(keep, ahead, 0.0)
            held = np.where(keep, self.stay[:, b] + left * held, 0.0)
            hits = np.where(keep, gain[:, b] + left * hits, 0.0)
        return hits, held


def reckon(seen: Survival, slots: int, last: float, price: float) -> Ledger:
    """Rent and indices from what was learnt, where a block is written that is worth more than `price`. `last`: the
    rent before, where the search begins (0: anywhere)."""
    hazard = seen.hazard()
    back = -np.expm1(-hazard * seen.widths)
    course = _Course(back, back / np.maximum(hazard, 1e-30), seen.becomes(), price)
    rate, value = seen.rate(), np.zeros(len(hazard))

    def full(rent: float) -> bool:
        nonlocal value
        for _ in range(2):
            hits, held = course.kept(rent, value)
            value = hits - rent * held
        return bool(rate @ (held * (value > price)) > slots)

    rent = _search(full, last)
    hits, held = course.kept(rent, value)
    return Ledger(rent, _index(course, course.earned(value)), hits, held)


def _nothing(size: int) -> Table:
    return np.zeros(size, dtype=np.float64)


def _search(full: Callable[[float], bool], last: float) -> float:
    """The lowest rent, nearly, at which the tier is not more than full."""
    low, high = (last / 3, last * 3) if last else (0.0, 1e-2)
    if last and full(high):
        low, high = high, high * 30
    elif last and not full(low):
        low, high = 0.0, low
    for _ in range(_STEPS if last else 3 * _STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if full(middle) else (low, middle)
    return high


def _index(course: _Course, earns: Table) -> Table:
    """The best rate of earning from each age on: [kinds, bins]."""
    index = np.empty_like(course.back)
    for b in range(index.shape[1]):
        left = 1.0 - course.back[:, b:]
        still = np.cumprod(np.column_stack([np.ones(len(left)), left[:, :-1]]), axis=1)
        earned = np.cumsum(still * course.back[:, b:], axis=1) * earns[:, None]
        index[:, b] = np.max(earned / np.cumsum(still * course.stay[:, b:], axis=1), axis=1)
    return index
