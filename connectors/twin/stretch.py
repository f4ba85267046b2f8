"""Decode steps of an unchanging batch, many at once: each takes a little longer than the last, as its context grows."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from connectors.twin.coefficients import Coefficients


@dataclass(slots=True)
class Stretch:
    """`steps` iterations that begin at `began_ms`. The first takes `first_ms`, each later one `growth_ms` more than the
    one before it, and the last `held_ms` on top, while the process hung.

    Steps are counted from 1. All is told from the beginning, so that it does not matter when somebody looks.
    """

    began_ms: float
    first_ms: float
    growth_ms: float = 0.0
    steps: int = 1
    held_ms: float = 0.0

    @classmethod
    def of_prefill(
        cls, made: Coefficients, at_ms: float, tokens: int, pairs: float, decoding: int, held: int, slower: float
    ) -> Stretch:
        """An iteration that computes prompt tokens beside `decoding` requests, which hold so many tokens."""
        return cls(at_ms, (made.prefill_ms(tokens, pairs) + made.added_by_decode_ms(decoding, held)) * slower)

    @classmethod
    def of_decode(
        cls, made: Coefficients, at_ms: float, decoding: int, held: int, slower: float, steps: int
    ) -> Stretch:
        """Iterations that compute one token for each request."""
        growth_ms = made.decode_per_kv_token_ms * decoding
        return cls(at_ms, made.decode_ms(decoding, held) * slower, growth_ms * slower, steps)

    def end_ms(self, step: int) -> float:
        """When a step ends; the beginning for step 0.

        >>> stretch = Stretch(100.0, 30.0, 0.5, 4)
        >>> [stretch.end_ms(step) for step in range(5)]
        [100.0, 130.0, 160.5, 191.5, 223.0]
        """
        grown_ms = self.began_ms + step * self.first_ms + self.growth_ms * (step * (step - 1) / 2)
        return grown_ms + self.held_ms if step == self.steps else grown_ms

    def took_ms(self, step: int) -> float:
        """How long a step takes."""
        took_ms = self.first_ms + self.growth_ms * (step - 1)
        return took_ms + self.held_ms if step == self.steps else took_ms

    def done_by(self, at_ms: float) -> int:
        """Steps that have ended by then.

        >>> [Stretch(100.0, 30.0, 0.5, 4).done_by(at) for at in (99.0, 130.0, 191.0, 999.0)]
        [0, 1, 2, 4]
        """
        left_ms = at_ms - self.began_ms
        if left_ms < self.first_ms:
            done = 0
        elif left_ms == inf:
            done = self.steps
        elif self.growth_ms > 0.0:
            half = self.first_ms - self.growth_ms / 2
            done = int((sqrt(half * half + 2 * self.growth_ms * left_ms) - half) / self.growth_ms)
        elif self.first_ms > 0.0:
            done = int(left_ms / self.first_ms)
        else:
            done = self.steps
        done = min(done, self.steps)
        # The root is off by one where rounding has it; the ends themselves decide.
        while done < self.steps and self.end_ms(done + 1) <= at_ms:
            done += 1
        while done > 0 and self.end_ms(done) > at_ms:
            done -= 1
        return done

    def cut(self, at_ms: float) -> None:
        """Plan nothing beyond the step that is under way at `at_ms`."""
        self.steps = min(self.steps, self.done_by(at_ms) + 1)
