"""Load or compute: what a load costs is measured, what computing costs is told, and a prompt gets the faster one.

An engine loads a leading run of a prompt's blocks and computes the rest. Every block of a run takes as long to load,
and each longer to compute than the one before it, so what a run saves is most at one of its ends: all of it, or none.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from math import inf

_LASTS = 32
"""Reads after which an old one counts for a third."""
_ENOUGH = 8
"""Loads before which nothing is chosen: the first one may wait for a cold disk, or touch memory for the first time."""
_PROBE = 64
"""So often a run is loaded although computing is said to be faster, or a disk that recovered would never be seen."""


@dataclass
class Meter:
    """Seconds that one load takes from its beginning to its last byte, as a line: a fixed part and seconds a byte.

    Loads that wait for one another count with their wait: that is what a request feels. Exponentially weighted least
    squares; with loads of one size the line goes through the origin.
    """

    loads: int = 0
    count: float = 0.0
    mean_bytes: float = 0.0
    mean_s: float = 0.0
    spread: float = 0.0
    product: float = 0.0

    def saw(self, size: int, took_s: float) -> None:
        """One load of `size` bytes."""
        self.loads += 1
        keep = 1 - 1 / _LASTS
        self.count = self.count * keep + 1
        share, bytes_off, s_off = 1 / self.count, size - self.mean_bytes, took_s - self.mean_s
        self.mean_bytes += share * bytes_off
        self.mean_s += share * s_off
        self.spread = (1 - share) * (self.spread + share * bytes_off * bytes_off)
        self.product = (1 - share) * (self.product + share * bytes_off * s_off)

    def expected_s(self, size: int) -> float | None:
        """Seconds that a load of `size` bytes will take; None before any was seen."""
        if not self.count or not self.mean_bytes:
            return None
        even = self.mean_s / self.mean_bytes
        if self.spread <= (0.05 * self.mean_bytes) ** 2:
            return even * size
        per_byte = min(max(self.product / self.spread, 0.0), even)
        return max(0.0, self.mean_s - per_byte * self.mean_bytes) + per_byte * size


@dataclass(frozen=True)
class Computing:
    """How fast an engine computes a prompt: tokens a second at its beginning, and after how many tokens of it the next
    one takes twice as long, since it attends to all before. Raises ValueError unless both are above 0."""

    tokens_per_s: float
    doubles_at_tokens: float = inf

    def __post_init__(self) -> None:
        if not (self.tokens_per_s > 0 and self.doubles_at_tokens > 0):
            raise ValueError("prefill_tokens_per_s and prefill_doubles_at_tokens are above 0")

    def seconds(self, start: int, end: int) -> float:
        """To compute the tokens of a prompt from `start` up to `end`."""
        attended = (end * end - start * start) / (2 * self.doubles_at_tokens)
        return (end - start + attended) / self.tokens_per_s


class Choice:
    """Load or compute. Without a word on computing, and until some loads were seen, it is always load.

    A probe that comes back sooner than computing would have been done says that what was measured is over: it is
    measured anew, or one slow load would keep a quick disk closed for thousands of requests."""

    def __init__(self, computing: Computing | None) -> None:
        self._computing, self._declined = computing, 0
        self._probe: tuple[bytes, float] | None = None
        self._looked: tuple[str, int] | None = None
        self._back = 0
        self.meter = Meter()

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return self._computing is not None

    def looked(self, request: str, end: int, tokens: int) -> None:
        """An engine looks up a request's block of `tokens` tokens up to `end`. It goes from a prompt's beginning to its
        first block that is missing; where it goes back by one block twice in a row, layers have a sliding window, and
        want the last blocks alone: what is not loaded of these is not computed either, so nothing is to be chosen."""
        self._back = self._back + 1 if self._looked == (request, end + tokens) else 0
        self._looked = (request, end)
        if self._back > 1:
            self._computing = None

    def load(self, first: bytes, start: int, end: int, size: int) -> bool:
        """Whether to load the blocks of a prompt's tokens from `start` up to `end`, `size` bytes in all, of which
        `first` is the first block."""
        expected_s = self.meter.expected_s(size)
        if self._computing is None or expected_s is None or self.meter.loads < _ENOUGH:
            return True
        computing_s = self._computing.seconds(start, end)
        if expected_s < computing_s:
            return True
        self._declined += 1
        if self._declined % _PROBE:
            return False
        self._probe = (first, computing_s / size)
        return True

    def saw(self, blocks: Container[bytes], size: int, took_s: float) -> None:
        """One load of these blocks, `size` bytes in all."""
        if self._probe is not None and self._probe[0] in blocks:
            if took_s < self._probe[1] * size:
                self.meter = Meter()
            self._probe = None
        self.meter.saw(size, took_s)
