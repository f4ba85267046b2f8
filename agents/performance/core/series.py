"""Keeps what was measured, of the last hour each look and of the last day each minute, and answers means and rises.

Of looks the sums are kept, so a mean costs the same however long it is. They are lists, for they are read one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Known = TypeVar("Known")
_SPARE = 64
"""So many slots more than asked are kept before the oldest are thrown away at once."""


def twin(known: Known) -> Known:
    """Another object with the same attributes, as `copy.copy` makes it, in a fifth of the time."""
    new = object.__new__(type(known))
    new.__dict__.update(known.__dict__)
    return new


def _own(values: list[float], count: int) -> list[float]:
    """A list to go on with: the one that copies share, or another where one of them has gone on with that."""
    return values if len(values) == count else values[:count]


class Series:
    """Values one slot apart, the newest last. Of what is older than `keep` slots nothing can be asked.

    Copies share a list until one that goes on finds it longer than its own count.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._sums, self._last = [0.0], 0

    def __len__(self) -> int:
        return self._last

    def push(self, value: float) -> None:
        """Adds the newest value."""
        sums = _own(self._sums, self._last + 1)
        sums.append(sums[-1] + value)
        if len(sums) > self._keep + _SPARE:
            first = sums[-self._keep - 1]
            sums = [each - first for each in sums[-self._keep - 1 :]]
        self._sums, self._last = sums, len(sums) - 1

    def mean(self, slots: int, back: int = 0) -> float:
        """Mean of the `slots` values that ended `back` slots ago; of fewer where there are no more. Empty: 0."""
        sums = self._sums
        last = max(self._last - back, min(self._last, 1))
        first = last - slots if last > slots else 0
        return (sums[last] - sums[first]) / (last - first) if last else 0.0

    def means(self, spans: Sequence[int]) -> list[float]:
        """Means of the newest values, one for each span in slots; of fewer where there are no more. Not empty."""
        sums, last = self._sums, self._last
        newest = sums[last]
        return [(newest - sums[last - span]) / span if span < last else (newest - sums[0]) / last for span in spans]

    def copy(self) -> Series:
        """One that goes on by itself."""
        return twin(self)

    def state(self) -> Array:
        """All it knows: [slots + 1]."""
        return np.array(self._sums[: self._last + 1])

    def restore(self, state: Array) -> None:
        """Knows what `state` gave."""
        self._sums = state.tolist() or [0.0]
        self._last = len(self._sums) - 1


class Fading:
    """Means of several things, none below 0, each forgetting at its own pace, as a value: what learns more is another
    one. `spans`: slots after which a value counts a third as much; until so many were seen, all count alike."""

    def __init__(self, spans: Sequence[float]) -> None:
        self._rates = [1.0 / max(span, 1.0) for span in spans]
        self._seen = 0.0
        self.means = [0.0] * len(self._rates)

    def seen(self, values: Sequence[float]) -> Fading:
        """One that knows these too, the newest of each thing."""
        new = twin(self)
        new._seen = self._seen + 1.0
        least = 1.0 / new._seen
        new.means = [
            mean + (value - mean) * (rate if rate > least else least)
            for mean, value, rate in zip(self.means, values, self._rates, strict=True)
        ]
        return new

    def state(self) -> Array:
        """All it knows: [1 + things]."""
        return np.array([self._seen, *self.means])

    def restored(self, state: Array) -> Fading:
        """One that knows what `state` gave. Raises ValueError where that is of other things, or below 0."""
        if len(state) != 1 + len(self.means) or (state < 0).any():
            raise ValueError("fading")
        new = twin(self)
        new._seen, *new.means = state.tolist()
        return new


class Marks:
    """Every `width`-th value of a series, the last `keep` of them; between two of them lies a straight line. Copies
    share a list, as those of a `Series` do."""

    def __init__(self, keep: int, width: int) -> None:
        self._keep, self._width = keep, width
        self._marks: list[float] = []
        self._count, self._past = 0, width - 1

    def push(self, value: float) -> None:
        """Adds the newest value."""
        self._past += 1
        if self._past == self._width:
            marks = _own(self._marks, self._count)
            marks.append(value)
            if len(marks) > self._keep + _SPARE:
                marks = marks[-self._keep :]
            self._marks, self._count, self._past = marks, len(marks), 0

    def rise(self, back: int, slots: int) -> float:
        """By how much the value `back` slots ago had risen `slots` later; 0 where that is not known."""
        width, marks = self._width, self._marks
        place = (self._count - 1) * width + self._past - back
        if place < 0 or slots + width > back:
            return 0.0
        whole, part = divmod(place, width)
        later, rest = divmod(place + slots, width)
        then = marks[whole] + (marks[whole + 1] - marks[whole]) * (part / width)
        return marks[later] + (marks[later + 1] - marks[later]) * (rest / width) - then

    def copy(self) -> Marks:
        """One that goes on by itself."""
        return twin(self)

    def state(self) -> Array:
        """All it knows: [marks + 1]."""
        return np.array([self._past, *self._marks[: self._count]])

    def restore(self, state: Array) -> None:
        """Knows what `state` gave."""
        self._past, self._marks = int(state[0]), state[1:].tolist()
        self._count = len(self._marks)


class Past:
    """The last `keep` rows of something, the oldest first, always in one piece of memory, in double precision unless
    said otherwise."""

    def __init__(self, keep: int, columns: int, precision: type[np.floating[Any]] = np.float64) -> None:
        self.keep = keep
        self._table: Array = np.zeros((4 * keep, columns), precision)
        self._end = keep

    def push(self, row: Array) -> None:
        """Adds the newest row."""
        if self._end == len(self._table):
            self._table[: self.keep] = self._table[-self.keep :]
            self._end = self.keep
        self._table[self._end] = row
        self._end += 1

    def rows(self, count: int, back: int = 0) -> Array:
        """The `count` rows that ended `back` rows ago, to be read or written: [count, columns]."""
        last = self._end - back
        return self._table[last - count : last]

    def fill(self, row: Array) -> None:
        """All rows are alike."""
        self._table[:] = row

    def copy(self, keep: int | None = None) -> Past:
        """One that goes on by itself, of so many rows; where more are asked for, the oldest stands for them."""
        keep = keep or self.keep
        new = twin(self)
        new.keep, new._end = keep, keep
        new._table = np.empty((4 * keep, self._table.shape[1]), self._table.dtype)
        known = min(keep, self.keep)
        new._table[keep - known : keep] = self.rows(known)
        if known < keep:
            new._table[: keep - known] = new._table[keep - known]
        return new

    def state(self) -> Array:
        """All it knows: [keep, columns]."""
        return self.rows(self.keep)

    def restore(self, state: Array) -> None:
        """Knows what `state` gave."""
        self._end = self.keep
        self._table[: self.keep] = state
