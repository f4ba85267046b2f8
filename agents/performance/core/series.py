"""Keeps the last day of a measured series and answers its means, however long, in constant time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate


class Series:
    """Values one slot apart, the newest last. What is older than `keep` slots may be forgotten."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._sums = [0.0]
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def push(self, value: float) -> None:
        """Adds the newest value; forgets the older half now and then."""
        self._values.append(value)
        self._sums.append(self._sums[-1] + value)
        if len(self._values) >= 2 * self._keep:
            self._values = self._values[-self._keep :]
            self._sums = [0.0, *accumulate(self._values)]

    def mean(self, slots: int, back: int = 0) -> float:
        """Mean of the `slots` values that ended `back` slots ago; of fewer where there are no more. Empty: 0."""
        last = len(self._values) - back
        if last <= 0:
            return self._values[0] if self._values else 0.0
        first = last - slots if last > slots else 0
        return (self._sums[last] - self._sums[first]) / (last - first)

    def means(self, spans: Sequence[int]) -> list[float]:
        """Means of the newest values, one for each span in slots; of fewer where there are no more. Not empty."""
        sums, last = self._sums, len(self._values)
        newest = sums[last]
        return [(newest - sums[last - span]) / span if span < last else newest / last for span in spans]


class Peak:
    """The greatest of the last `slots` values, in constant time."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._count = 0
        self._falling: deque[tuple[int, float]] = deque()

    def push(self, value: float) -> float:
        """Adds the newest value and returns the greatest."""
        falling = self._falling
        while falling and falling[-1][1] <= value:
            falling.pop()
        falling.append((self._count, value))
        if falling[0][0] <= self._count - self._slots:
            falling.popleft()
        self._count += 1
        return falling[0][1]
