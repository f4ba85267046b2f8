"""What a load costs by measured bandwidth, whether computing anew is cheaper, and how much may be written a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Recompute = Callable[[int, int], float]
"""Seconds to compute the KV of a block anew, from its position (tokens before it) and the tokens in it."""

_DAY_S = 86_400.0
_LASTS = 32
"""Reads after which an old one counts for a third."""
_PROBE = 64
"""So often a block is loaded although computing is said to be cheaper, or a disk that recovered would never be seen."""


@dataclass
class Meter:
    """Seconds that one read takes from its request to its last byte, as a line: a fixed part and seconds a byte.

    Reads that wait for one another count with their wait: that is what a request feels. Exponentially weighted least
    squares; with blocks of one size the line goes through the origin.
    """

    count: float = 0.0
    mean_bytes: float = 0.0
    mean_s: float = 0.0
    spread: float = 0.0
    product: float = 0.0

    def saw(self, size: int, took_s: float) -> None:
        """One read of `size` bytes."""
        keep = 1 - 1 / _LASTS
        self.count = self.count * keep + 1
        share, bytes_off, s_off = 1 / self.count, size - self.mean_bytes, took_s - self.mean_s
        self.mean_bytes += share * bytes_off
        self.mean_s += share * s_off
        self.spread = (1 - share) * (self.spread + share * bytes_off * bytes_off)
        self.product = (1 - share) * (self.product + share * bytes_off * s_off)

    def expected_s(self, size: int) -> float | None:
        """Seconds that a read of `size` bytes will take; None before any was seen."""
        if not self.count or not self.mean_bytes:
            return None
        even = self.mean_s / self.mean_bytes
        if self.spread <= (0.05 * self.mean_bytes) ** 2:
            return even * size
        per_byte = min(max(self.product / self.spread, 0.0), even)
        return max(0.0, self.mean_s - per_byte * self.mean_bytes) + per_byte * size


class Choice:
    """Load or recompute. Without a cost of recomputing, and before a read was seen, it is always load."""

    def __init__(self, recompute: Recompute | None) -> None:
        self._recompute, self._declined = recompute, 0
        self.meter = Meter()

    def load(self, position: int, tokens: int, size: int) -> bool:
        """Whether to load a block of `size` bytes."""
        expected_s = self.meter.expected_s(size)
        if self._recompute is None or expected_s is None or expected_s < self._recompute(position, tokens):
            return True
        self._declined += 1
        return self._declined % _PROBE == 0

    def worth_s(self, position: int, tokens: int, size: int) -> float:
        """Seconds that having the block saves, 0 where loading is dearer."""
        if self._recompute is None:
            return 1.0
        return max(0.0, self._recompute(position, tokens) - (self.meter.expected_s(size) or 0.0))


class Wear:
    """How many bytes may be written: `bytes_a_day` evenly, with an hour's worth saved up at most. An hour's worth is
    there at once when a tier is opened."""

    def __init__(self, bytes_a_day: int | None, now_s: float) -> None:
        self._rate = None if bytes_a_day is None else bytes_a_day / _DAY_S
        self._left = 0.0 if self._rate is None else self._rate * 3600
        self._at_s = now_s

    def spend(self, size: int, now_s: float) -> bool:
        """Take `size` bytes, if they are there. A clock that steps back adds nothing."""
        if self._rate is None:
            return True
        self._left = min(self._rate * 3600, self._left + self._rate * max(0.0, now_s - self._at_s))
        self._at_s = now_s
        if self._left < size:
            return False
        self._left -= size
        return True
