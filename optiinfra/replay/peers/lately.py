"""What peers remember of the last seconds: a mean and a highest value over a sliding window."""

from __future__ import annotations

from collections import deque


class HighestLately:
    """The highest of the values put in during the last `window_s` seconds, the newest included."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._values: deque[tuple[int, int]] = deque()

    def put(self, at_s: int, value: int) -> int:
        """Put in the value of `at_s`, which is later than those before; the highest now."""
        values = self._values
        while values and values[-1][1] <= value:
            values.pop()
        values.append((at_s, value))
        while values[0][0] <= at_s - self._window_s:
            values.popleft()
        return values[0][1]


class MeanLately:
    """The mean of the last `size` values put in."""

    def __init__(self, size: int) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def put(self, *values: float) -> None:
        """Put in values, oldest first; the oldest go when there are more than `size`."""
        self._values.extend(values)

    @property
    def mean(self) -> float | None:
        """None before the first value."""
        return sum(self._values) / len(self._values) if self._values else None
