"""How many bytes may be written a day."""

from __future__ import annotations

_DAY_S = 86_400.0


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
