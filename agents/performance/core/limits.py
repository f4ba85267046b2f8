"""Learns how much a replica can hold at once, and what a mean request is made of."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

BATCHES = (32.0, 256.0)
"""Requests that a batch may hold, where nothing tells: vLLM's `max_num_seqs` was 256 by default for long, and people
set it lower."""
CHUNKS = (256.0, 4096.0)
"""Prompt tokens in an iteration, likewise: the defaults of `max_num_batched_tokens` went from 512 to 2048 and 8192."""
_ROOM_ABOVE = 4.0
"""Whoever pays for a replica has filled a quarter of its batch at some time."""
_FORGET_S = 21_600.0
_PINNED, _FULL_WINDOWS = 0.15, 4.0
_MEMORY = 20.0
_SHORT, _LONG = 60.0, 600.0
"""Requests after which a mean has mostly been forgotten, for the test and for the estimate."""
_SPREAD = 1.2
"""Standard deviation of request lengths to their mean: 0.9 to 1.9 in the public traces."""
_CHANGED = 4.0


class Mix(BaseModel):
    """Tokens of a mean request: sums over the last 600 requests or so, and over the last 60 to see a change.

    Each sum is `(requests, prompt tokens, requests ended, tokens generated)`.
    """

    model_config = ConfigDict(frozen=True)

    long: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    short: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @property
    def prompt(self) -> float:
        """Prompt tokens of a mean request."""
        return self.long[1] / self.long[0] if self.long[0] > 0 else 0.0

    @property
    def generation(self) -> float:
        """Tokens generated for a mean request."""
        return self.long[3] / self.long[2] if self.long[2] > 0 else 0.0

    @property
    def error(self) -> float:
        """Standard error of the logarithm of either."""
        return _SPREAD / math.sqrt(max(1.0, min(self.long[0], self.long[2])))

    def seen(self, begun: float, prompt: float, ended: float, generated: float) -> tuple[Mix, bool]:
        """After one window, and whether requests have become others."""
        window = (begun, prompt, ended, generated)
        short, long = _faded(self.short, window, _SHORT), _faded(self.long, window, _LONG)
        if _apart(short[:2], long[:2]) or _apart(short[2:], long[2:]):
            return Mix(long=short, short=short), True
        return Mix(long=long, short=short), False


def _faded(
    sums: tuple[float, float, float, float], more: tuple[float, float, float, float], requests: float
) -> tuple[float, float, float, float]:
    first, second = math.exp(-more[0] / requests), math.exp(-more[2] / requests)
    return (
        sums[0] * first + more[0],
        sums[1] * first + more[1],
        sums[2] * second + more[2],
        sums[3] * second + more[3],
    )


def _apart(short: tuple[float, ...], long: tuple[float, ...]) -> bool:
    """Whether two means differ by more than chance would have it."""
    if min(*short, *long) <= 0 or long[0] < 2 * short[0]:
        return False
    differ = math.log(short[1] / short[0] * long[0] / long[1])
    return abs(differ) > _CHANGED * _SPREAD / math.sqrt(short[0]) or (abs(differ) > 1.0 and short[0] > 10)


class Limits(BaseModel):
    """`batch`: requests that decode at once, `prompted`: prompt tokens in an iteration; at most.

    `batch_seen`, `prompted_seen`: the most that was seen. In full windows one of the two stands still, and that is the
    one that binds: `full` windows, means and squares of the logarithms of both, over the last twenty or so.
    """

    model_config = ConfigDict(frozen=True)

    batch_seen: float = 0.0
    prompted_seen: float = 0.0
    room: float = BATCHES[1]
    batch_known: float | None = None
    prompted_known: float | None = None
    full: float = 0.0
    sums: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def seen(self, decoding: float, prompted: float, span_s: float, *, full: bool, most: float | None) -> Limits:
        """After one window. `most`: requests that the KV cache has room for, None where not known."""
        fade = 0.5 ** (span_s / _FORGET_S)
        changes: dict[str, object] = {
            "batch_seen": max(decoding, self.batch_seen * fade),
            "prompted_seen": max(prompted, self.prompted_seen * fade),
        }
        if most is not None:
            changes["room"] = min(BATCHES[1], most)
        if full and decoding > 0 and prompted > 0:
            logs = math.log(decoding), math.log(prompted)
            kept = 1.0 - 1.0 / _MEMORY
            more = (logs[0], logs[0] ** 2, logs[1], logs[1] ** 2)
            many = self.full * kept + 1.0
            sums = tuple(old * kept + new for old, new in zip(self.sums, more, strict=True))
            changes |= {"full": many, "sums": sums}
            if many >= _FULL_WINDOWS - 0.5:
                spreads = [math.sqrt(max(0.0, sums[i + 1] / many - (sums[i] / many) ** 2)) for i in (0, 2)]
                if spreads[0] <= min(spreads[1], _PINNED):
                    changes["batch_known"] = math.exp(sums[0] / many)
                elif spreads[1] <= min(spreads[0], _PINNED):
                    changes["prompted_known"] = math.exp(sums[2] / many)
        return self.model_copy(update=changes)

    @property
    def batch(self) -> float:
        """Requests that decode at once when full, as far as is known."""
        return self._batches()[1]

    @property
    def chunk(self) -> float:
        """Prompt tokens in an iteration when full, as far as is known; at least 1."""
        return max(1.0, self._chunks()[1])

    def rounds(self, prompt: float, generated: float) -> float:
        """Iterations that such a request takes of a full replica: one for a token, shared by the batch, or one for a
        prompt chunk, whichever is more."""
        return max(generated / max(1.0, self._batches()[1]), prompt / max(1.0, self._chunks()[1]))

    def rounds_about(self, prompt: float, generated: float) -> list[float]:
        """The same for limits that are as likely, low, middle and high of either."""
        return [
            max(generated / max(1.0, batch), prompt / max(1.0, chunk))
            for batch in self._batches()
            for chunk in self._chunks()
        ]

    def _batches(self) -> tuple[float, float, float]:
        most = min(self.room, max(2 * BATCHES[0], _ROOM_ABOVE * self.batch_seen))
        return _about(max(self.batch_seen, min(BATCHES[0], most)), self.batch_known, most)

    def _chunks(self) -> tuple[float, float, float]:
        return _about(max(self.prompted_seen, CHUNKS[0]), self.prompted_known, CHUNKS[1])


def _about(low: float, known: float | None, high: float) -> tuple[float, float, float]:
    """A sixth, a half and five sixths of the way from the least to the most that it can be, in the logarithm."""
    if known is not None:
        return 0.97 * known, known, 1.03 * known
    start = math.log(max(1.0, low))
    width = max(0.0, math.log(max(1.0, high)) - start)
    return math.exp(start + width / 6), math.exp(start + width / 2), math.exp(start + width * 5 / 6)
