"""The blocks that may leave: those that no block here stands on, sorted by what keeping them earns.

A leaf lies in the cell of its kind, its age and its level of worth. All leaves of a cell earn the same, so the first to
leave is any leaf of the lowest cell. Cells lie in a heap; leaves move on to the next cell as they age. While the policy
does as LRU, the leaf that was sighted longest ago leaves instead: a second heap, of times.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict

from kvtier.policies.base import Key
from kvtier.policies.kinds import KINDS, Seen

LEVELS = 13
NEUTRAL = 8
"""The level of a block whose hit saves as much as that of most."""


def level_of(ratio: float) -> int:
    """The level of a block whose hit saves `ratio` times as much as that of most; levels are a factor of 1.4 apart.

    >>> level_of(1.0), level_of(2.0), level_of(0.0)
    (8, 10, 0)
    """
    if ratio <= 0:
        return 0
    return min(LEVELS - 1, max(0, NEUTRAL + round(2 * math.log2(ratio))))


FACTORS: tuple[float, ...] = tuple(2.0 ** ((level - NEUTRAL) / 2) for level in range(LEVELS))
"""What each level earns beside the neutral one."""


class Leaves:
    """Candidates for eviction. `edges`: bins of age in slices, `bin_of`: the bin of each age."""

    def __init__(self, edges: list[int], bin_of: list[int]) -> None:
        self._edges, self._bin_of = edges, bin_of
        self._bins = len(edges) - 1
        self._cells: dict[int, OrderedDict[Key, Seen]] = {}
        self._heap: list[tuple[float, int]] = []
        self._due: dict[int, list[tuple[Seen, int]]] = {}
        self._index = [0.0] * (KINDS * self._bins)
        self._of: dict[int, Seen] = {}
        self._oldest: list[int] | None = []

    def add(self, block: Seen, born: int, now: int) -> None:
        """A leaf that was sighted last in slice `born`."""
        place = self._bin_of[min(now - born, self._edges[-1])]
        code = (block.kind * self._bins + place) * LEVELS + block.level
        cell = self._cells.get(code)
        if cell is None:
            cell = self._cells[code] = OrderedDict()
            heapq.heappush(self._heap, (self.earns(code), code))
        cell[block.key] = block
        block.cell = code
        self._of[block.at] = block
        if self._oldest is not None:
            heapq.heappush(self._oldest, block.at)
            if len(self._oldest) > 64 + 4 * len(self._of):
                self._oldest = sorted(self._of)
        if place < self._bins - 1:
            self._due.setdefault(born + self._edges[place + 1], []).append((block, block.at))

    def drop(self, block: Seen) -> None:
        """No candidate any more."""
        if block.cell is not None:
            cell = self._cells[block.cell]
            del cell[block.key]
            if not cell:
                del self._cells[block.cell]
            block.cell = None
            del self._of[block.at]

    def aged(self, now: int) -> list[Seen]:
        """Leaves that are in the wrong cell from slice `now` on."""
        return [block for block, at in self._due.pop(now, ()) if block.cell is not None and block.at == at]

    def lowest(self) -> tuple[float, Seen] | None:
        """What the leaf that earns least earns, and that leaf; None without leaves."""
        if self._oldest is not None:
            while self._oldest and self._oldest[0] not in self._of:
                heapq.heappop(self._oldest)
            return (0.0, self._of[self._oldest[0]]) if self._oldest else None
        while self._heap and self._heap[0][1] not in self._cells:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        earns, code = self._heap[0]
        return earns, next(iter(self._cells[code].values()))

    def earns(self, code: int) -> float:
        """What a leaf of this cell earns, per sighting."""
        return self._index[code // LEVELS] * FACTORS[code % LEVELS]

    def by_age(self, oldest: bool) -> None:
        """Let the oldest leave first, as LRU does, or those that earn least."""
        self._oldest = sorted(self._of) if oldest else None

    def sort(self, index: list[float]) -> None:
        """Judge all cells by new indices: [KINDS * bins]."""
        self._index = index
        self._heap = [(self.earns(code), code) for code in self._cells]
        heapq.heapify(self._heap)
