"""How long blocks of each kind stay away before they come back, learnt from every sighting as it happens.

Blocks of a kind that were seen in one slice of time are a cohort. Each slice, every cohort adds the blocks that are
still away to the exposure of its age; a block that comes back adds one return at its age. Returns by exposure are the
hazard: the chance per sighting that a block of this kind and age comes back now. Time is the number of sightings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kvtier.policies.kinds import FAMILIES, KINDS

Table = NDArray[np.float64]

SLICES = 2048
"""Cohorts remembered: a block that stays away for longer counts as one that never comes back."""
PRIOR_BLOCKS = 100.0
"""A kind with fewer blocks than this is judged mostly by what its family does."""


def ages(slices: int) -> list[int]:
    """Edges of the bins of age, in slices: each half an octave wide.

    >>> ages(16)
    [0, 1, 2, 3, 4, 6, 8, 11, 16]
    """
    edges, wide = [0, 1], 1.0
    while edges[-1] < slices:
        wide *= 2**0.5
        edges.append(min(slices, max(edges[-1] + 1, round(wide))))
    return edges


class Survival:
    """Returns and exposure by kind and age: [KINDS, bins]. `slice_sightings`: sightings in a slice.

    What was learnt counts half after `half_life` slices.
    """

    def __init__(self, slice_sightings: int, half_life: int = 8192) -> None:
        self.slice_sightings = slice_sightings
        self.slice = 0
        self.edges = ages(SLICES)
        self.bins = len(self.edges) - 1
        widths = np.diff(self.edges)
        self.widths: Table = widths.astype(np.float64) * slice_sightings
        self.bin_of: list[int] = [*np.repeat(np.arange(self.bins), widths).tolist(), self.bins - 1]
        self._bins = np.array(self.bin_of)
        self._keep = 0.5 ** (1.0 / half_life)
        self._away = np.zeros((SLICES, KINDS))
        self._by_age = np.zeros((self.bins, KINDS))
        self._inner = np.array(self.edges[1:-1])
        self._returns = np.zeros((KINDS, self.bins))
        self._exposure = np.zeros((KINDS, self.bins))
        self._next = np.zeros((KINDS, KINDS))
        self._sighted = np.zeros(KINDS)
        self._span = 0.0
        self._fresh()

    def _fresh(self) -> None:
        self._now = [0] * KINDS
        self._left: list[tuple[int, int]] = []
        self._back: list[tuple[int, int, int]] = []

    def first(self, kind: int) -> None:
        """A block was sighted that nothing is remembered of."""
        self._now[kind] += 1

    def again(self, before: int, at: int, kind: int) -> None:
        """A block that was of kind `before` at sighting `at` came back, and is of `kind` now."""
        then = at // self.slice_sightings
        age = self.slice - then
        if age < SLICES:
            self._left.append((then % SLICES, before))
        self._back.append((before, self.bin_of[min(age, SLICES)], kind))
        self._now[kind] += 1

    def forget(self, kind: int, at: int) -> None:
        """A block is remembered no longer: it says nothing about the ages to come."""
        then = at // self.slice_sightings
        if self.slice - then < SLICES:
            self._left.append((then % SLICES, kind))

    def tick(self) -> None:
        """A slice is over."""
        row = self.slice % SLICES
        older = self._away[(self.slice - self._inner) % SLICES]
        self._by_age[-1] -= self._away[row]
        self._by_age[:-1] -= older
        self._by_age[1:] += older
        self._away[row] = self._now
        self._by_age[0] += self._away[row]
        if self._left:
            rows, kinds = np.array(self._left).T
            np.subtract.at(self._away, (rows, kinds), 1.0)
            np.subtract.at(self._by_age, (self._bins[(self.slice - rows) % SLICES], kinds), 1.0)
        if self._back:
            before, bins, kinds = np.array(self._back).T
            np.add.at(self._returns, (before, bins), 1.0)
            np.add.at(self._next, (before, kinds), 1.0)
        self._sighted += self._now
        self._span += self.slice_sightings
        self._exposure += self._by_age.T * self.slice_sightings
        for each in (self._returns, self._exposure, self._next, self._sighted):
            each *= self._keep
        self._span *= self._keep
        self.slice += 1
        self._fresh()

    def hazard(self) -> Table:
        """Chance per sighting to come back now: [KINDS, bins]; what was seen little is drawn to its family."""
        prior = PRIOR_BLOCKS * self.widths
        overall = (self._returns.sum(0) + 1e-9) / (self._exposure.sum(0) + 1.0)
        shrunk = np.empty_like(self._returns)
        for first, end in FAMILIES:
            returns, exposure = self._returns[first:end], self._exposure[first:end]
            family = (returns.sum(0) + overall * prior) / (exposure.sum(0) + prior)
            shrunk[first:end] = (returns + family * prior) / (exposure + prior)
        return shrunk

    def becomes(self) -> Table:
        """Of blocks that come back, the share that is of each kind then: [KINDS, KINDS], rows add up to 1."""
        counted = self._next + 1e-9
        shares: Table = counted / counted.sum(1, keepdims=True)
        return shares

    def rate(self) -> Table:
        """Blocks of each kind per sighting: [KINDS]."""
        return self._sighted / max(1.0, self._span)
