"""Learns from rows of what was seen and of what came of it, and forgets slowly: ridge regressions, solved now and then.

Arrays here are replaced, never written to, so copies may share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agents.performance.core.series import Array, Fading, twin

_PRIOR_SPREAD, _PRIOR_SLOTS = 0.08, 60.0
"""Before anything has come due, a guess is taken to be so far off, as if sixty had said so."""
MOST_CHANGE = 1.2
"""A guess never leaves the last minute's rate by more than a factor e to this; nor does one miss teach more."""
_ROWS_BEFORE_TRUST = 0.75
"""Of an hour."""


class Guess(NamedTuple):
    """`log_rps`: logarithm of a need. `spread`: how far off such a guess usually is, in the same logarithm."""

    log_rps: float
    spread: float


class Manner(NamedTuple):
    """How a guess is made of what was learnt. `mix`: share of the expected error that follows the unrest of the moment;
    the rest is the usual error of all times. `penalty` on the squares of weights; `shape` and `unrest` are the columns
    that have weights."""

    mix: float
    penalty: float
    shape: slice
    unrest: slice


class Ridge:
    """Least squares with a small penalty and forgetting, as a value: what learns more is another one. `hour`: rows of
    an hour; `half_life`: rows."""

    def __init__(self, width: int, hour: int, half_life: int) -> None:
        self._least, self._half_life = _ROWS_BEFORE_TRUST * hour, half_life
        self._gram: Array = np.zeros((width, width))
        self._moment: Array = np.zeros(width)
        self._rows = 0.0
        self.weights: Array = np.zeros(width)

    @property
    def fitted(self) -> bool:
        """Whether it has seen enough to be trusted."""
        return self._rows >= self._least

    def taught(self, rows: Array, values: Array, penalty: float, used: slice) -> Ridge:
        """One that knows these rows too, [rows, width], and what came of them, [rows]; the weights of the columns in
        use are solved for, all others are 0."""
        if not len(rows):
            return self
        new = twin(self)
        fade = 0.5 ** (len(rows) / self._half_life)
        new._gram = self._gram * fade + rows.T @ rows
        new._moment = self._moment * fade + rows.T @ values
        new._rows = self._rows + len(rows)
        gram, moment = new._gram[used, used], new._moment[used]
        new.weights = np.zeros(len(new._moment))
        new.weights[used] = np.linalg.solve(gram + penalty * np.eye(len(moment)), moment)
        return new

    def state(self, name: str) -> dict[str, Array]:
        """All it knows. Of the table of products, which is symmetric, one half."""
        return {
            f"{name}.gram": self._gram[np.triu_indices(len(self._gram))],
            f"{name}.moment": self._moment,
            f"{name}.weights": self.weights,
            f"{name}.rows": np.array([self._rows]),
        }

    def restored(self, name: str, state: Mapping[str, Array]) -> Ridge:
        """One that knows what `state` gave. Raises ValueError where that is of another width."""
        half, moment, weights = (state[f"{name}.{each}"] for each in ("gram", "moment", "weights"))
        width = len(self._moment)
        if [len(half), len(moment), len(weights)] != [width * (width + 1) // 2, width, width]:
            raise ValueError(name)
        new = twin(self)
        upper = np.zeros_like(self._gram)
        upper[np.triu_indices(width)] = half
        new._gram = upper + np.triu(upper, 1).T
        new._moment, new.weights, new._rows = moment, weights, float(state[f"{name}.rows"][0])
        return new


class Guesser:
    """Learns one thing to come, and how far off it is: two regressions. `due`: slots until it is known, which who looks
    ahead says. `recent`: slots over which its last errors are averaged."""

    def __init__(self, hour: int, half_life: int, width: int, unrest: int, recent: Sequence[float]) -> None:
        self.due = 0
        self._level, self._error = Ridge(width, hour, half_life), Ridge(unrest, hour, half_life)
        self._recent, self._spans = Fading(recent), len(recent)
        self._misses, self._weight = _PRIOR_SPREAD * _PRIOR_SLOTS, _PRIOR_SLOTS
        self._fade = 0.5 ** (1 / half_life)

    @property
    def cold(self) -> bool:
        """Whether too little was learnt yet."""
        return not self._level.fitted

    @property
    def usual(self) -> float:
        """How far off its guesses were on average, in the logarithm."""
        return self._misses / self._weight

    @property
    def recent(self) -> list[float]:
        """How far off its guesses were that came due of late, over each span."""
        return self._recent.means

    def guess(self, shape: Array, unrest: Array, level: float, mix: float) -> Guess:
        """What is to be expected after such a slot, whose own level is `level`."""
        change = float(shape.dot(self._level.weights)) if self._level.fitted else 0.0
        log_rps = level + min(max(change, -MOST_CHANGE), MOST_CHANGE)
        if not self._error.fitted:
            return Guess(log_rps, _PRIOR_SPREAD)
        usual = self.usual
        felt = float(unrest.dot(self._error.weights))
        return Guess(log_rps, mix * min(max(felt, 0.2 * usual), 5 * usual) + (1 - mix) * usual)

    def judge(self, said: float, came: float) -> None:
        """One guess has come due."""
        miss = min(abs(came - said), MOST_CHANGE)
        if self._spans:
            self._recent = self._recent.seen([miss] * self._spans)
        self._misses = self._misses * self._fade + miss
        self._weight = self._weight * self._fade + 1.0

    def learn(self, shapes: Array, unrests: Array, levels: Array, said: Array, came: Array, manner: Manner) -> None:
        """Rows whose outcome is known by now; those whose outcome is not a number teach nothing."""
        known = np.isfinite(came)
        shapes, unrests, came = shapes[known], unrests[known], came[known]
        penalty, misses = manner.penalty, np.minimum(np.abs(came - said[known]), MOST_CHANGE)
        self._level = self._level.taught(shapes, came - levels[known], penalty, manner.shape)
        self._error = self._error.taught(unrests, misses, penalty, manner.unrest)

    def copy(self) -> Guesser:
        """One that goes on by itself."""
        return twin(self)

    def state(self, name: str) -> dict[str, Array]:
        """All it knows."""
        usual = {f"{name}.usual": np.array([self._misses, self._weight]), f"{name}.recent": self._recent.state()}
        return {**usual, **self._level.state(f"{name}.level"), **self._error.state(f"{name}.error")}

    def restore(self, name: str, state: Mapping[str, Array]) -> None:
        """Knows what `state` gave."""
        self._misses, self._weight = state[f"{name}.usual"].tolist()
        self._recent = self._recent.restored(state[f"{name}.recent"])
        self._level = self._level.restored(f"{name}.level", state)
        self._error = self._error.restored(f"{name}.error", state)
