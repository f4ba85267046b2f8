"""Says how much capacity a workload will need when a replica ordered now begins to serve, and how sure that is.

A slot is one look of the scaler. The *need* of a slot is the steady rate that would have served its requests with no
wait beyond `SLACK_S`: the greatest slope of its arrival curve (Cruz 1991), so a burst of seconds counts and not the
mean alone. The forecast is a ridge regression of the logarithm of the need, refitted every quarter of an hour with
forgetting, on what the load did at time scales from one slot to an hour, and did an hour, two hours and a day ago.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from agents.performance.core.regression import Guess, Guesser, Manner
from agents.performance.core.series import Array, Fading, Marks, Past, Series, twin

SLACK_S = 1.0
"""A request may wait this long before its slot needs more capacity: half of a two-second objective."""
REFIT_S = 900
HALF_LIFE_S = 3 * 86_400
"""Half of what a regression knows is forgotten in three days."""
_SCALES_S = (15, 30, 60, 180, 300, 600, 1800, 3600)
_LAGS_S = (1800, 3600, 7200, 86_400)
_AHEAD_S = 60
PEAK_S, PEAK_STARTUPS = 600.0, 1.5
"""How far the peak is looked for, at least and in start-ups: what is let go costs a start-up to have back."""
_LEAST_COLD_HOLD_S, _COLD_HOLD_S, _COLD_HOLD_PER_ERROR_S = 300.0, 900.0, 1000.0
"""Until the peak can be guessed, it is the highest need of the past: the further off guesses are, the longer a past."""
_LONG_S = (3600, 14_400)
"""Over these spans the unrest is averaged too, for the guess ahead: a restless hour often comes again."""
_RECENT_S = (60, 600, 3600, 14_400)
"""Spans over which the last errors of the guess ahead are averaged, of those that came due."""
_GATE_S, _GATE_UNIT, _MOST_GATE = 120, 0.1, 3.0
"""How far a slope goes on depends on how restless these last seconds were, so slopes are told again, times that.
These spans were chosen on fortnights made of days 1 to 7 of m-large (`docs/scaler.md`)."""
_SLOPES = len(_SCALES_S) - 1
_ONE = 2 * _SLOPES + 5 + len(_LAGS_S)
_SHAPE, _UNREST = slice(_ONE + 1), slice(_ONE, _ONE + 9)
_LEVEL = _UNREST.stop + 3 * len(_LONG_S) + len(_RECENT_S)
_FELT = (slice(_ONE, _LEVEL), _UNREST)
_SAID, _CAME = (_LEVEL + 1, _LEVEL + 2), (_LEVEL + 3, _LEVEL + 4)
"""Columns of a row: what a slot was like, what was then guessed, and what came of it once that is known; all of them in
single precision, which halves what is packed. The shape ends and the unrest begins with a one. `_FELT`: by what the
error of each guess is guessed."""
_EARLY = Manner(0.4, 2.0, slice(_SLOPES, None), slice(9))
_SEASONED, _SEASONED_S = Manner(0.5, 0.5, slice(None), slice(None)), 86_400
"""In the first day slopes by unrest, the unrest of hours and the last errors have no say: a few hours teach too little
of them."""


class Outlook(NamedTuple):
    """`now_rps`: rate of the last half minute. `ahead`: the need when a replica ordered now begins to serve. `peak`:
    the most that will be needed within the next minutes. `need_rps`: of the newest slot.
    """

    now_rps: float
    ahead: Guess
    peak: Guess
    need_rps: float = math.inf


def need_rps(seconds: Array) -> float:
    """Least steady rate that serves these requests with no wait beyond SLACK_S. `seconds`: [seconds], oldest first."""
    curve = np.zeros(len(seconds) + 1)
    np.add.accumulate(seconds, out=curve[1:])
    slopes = np.subtract.outer(curve, curve)
    slopes *= _per_width(len(seconds))
    return float(np.maximum.reduce(slopes, axis=None))


@lru_cache(maxsize=64)
def _per_width(count: int) -> Array:
    """One over the seconds between every two edges and the slack; nothing where the second lies before the first."""
    edges = np.arange(count + 1.0)
    apart = edges[:, None] - edges[None, :]
    return np.where(apart > 0, 1 / np.maximum(apart + SLACK_S, SLACK_S), 0.0)


class Forecaster:
    """Sees one slot after the other and knows nothing else. `lead_s`: how far ahead it looks; `slot_s`: of a look."""

    def __init__(self, lead_s: float, slot_s: int) -> None:
        self._slot_s = slot_s
        self._scales = [self._slots(each) for each in _SCALES_S]
        self._lags = [self._slots(each) for each in _LAGS_S]
        hour, minute = self._scales[-1], self._scales[2]
        self._rate, self._need = Series(hour + minute), Series(self._scales[4])
        self._minutes = Marks(self._lags[-1] // minute + 2, minute)
        self._steps = [Series(self._scales[each]) for each in (6, 6, 5)]
        self._long = Fading([each / slot_s for each in _LONG_S] * 3)
        self._tail: list[int] = []
        self._refit, self._gate = self._slots(REFIT_S), self._slots(_GATE_S)
        self._seen = self._unbroken = 0
        life = self._slots(HALF_LIFE_S)
        recents: list[list[float]] = [[each / slot_s for each in _RECENT_S], []]
        self._guessers = [
            Guesser(hour, life, _ONE + 1, felt.stop - felt.start, recent)
            for felt, recent in zip(_FELT, recents, strict=True)
        ]
        self._needs: list[float] = []
        self._smooth: list[float] = []
        self._rows = Past(1, _CAME[-1] + 1, np.float32)
        self._rows.fill(np.array(math.nan))
        self.look_ahead(lead_s)

    def look_ahead(self, lead_s: float) -> None:
        """From now on it guesses so far ahead; what it has learnt of another start-up is where it begins."""
        self._lead = math.ceil(lead_s / self._slot_s) + 1
        self._ahead, self._within = self._slots(_AHEAD_S), self._slots(max(PEAK_S, PEAK_STARTUPS * lead_s))
        self._guessers[0].due, self._guessers[1].due = self._lead + self._ahead - 1, self._within
        self._rows = self._rows.copy(self._refit + max(each.due for each in self._guessers))

    @property
    def _manner(self) -> Manner:
        return _SEASONED if self._seen >= self._slots(_SEASONED_S) else _EARLY

    def _slots(self, seconds: float) -> int:
        return max(1, round(seconds / self._slot_s))

    def see(self, arrived: Sequence[int]) -> Outlook:
        """Takes the requests of each second of the newest slot, at least one second, and looks ahead."""
        tail = [*self._tail, *arrived][-2 * self._slot_s :]
        self._tail = tail[-self._slot_s :]
        tiny = 0.5 / self._slot_s
        rate = sum(arrived) / len(arrived)
        need = max(need_rps(np.array(tail, dtype=np.float64)), rate) + tiny
        self._rate.push(rate + tiny)
        self._need.push(need)
        _remember(self._needs, need, self._scales[6])
        smooth = math.log(self._need.mean(self._ahead))
        _remember(self._smooth, smooth, max(self._within, self._slots(_COLD_HOLD_S)))
        rates = self._rate.means(self._scales)
        squares = []
        for series, scale in zip(self._steps, (0, 2, 3), strict=True):
            slots = self._scales[scale]
            step = math.log(rates[scale] / self._rate.mean(slots, slots))
            squares.append(step * step)
            series.push(step * step)
        self._long = self._long.seen([each for each in squares for _ in _LONG_S])
        self._settle((smooth, max(self._smooth[-self._within :])))
        means = [math.log(each) for each in rates]
        self._minutes.push(means[2])
        return self._guess(means, need, rates[1])

    def _settle(self, came: tuple[float, float]) -> None:
        """Judges the guesses that have come due, and learns from all of them now and then."""
        for guesser, said, column, value in zip(self._guessers, _SAID, _CAME, came, strict=True):
            if self._unbroken >= guesser.due:
                row = self._rows.rows(1, guesser.due - 1)[0]
                guesser.judge(float(row[said]), value)
                row[column] = value
        self._seen += 1
        if self._seen % self._refit == 0:
            for guesser, felt, said, column in zip(self._guessers, _FELT, _SAID, _CAME, strict=True):
                rows = self._rows.rows(self._refit, guesser.due - 1).astype(np.float64)
                shapes, unrests, levels = rows[:, _SHAPE], rows[:, felt], rows[:, _LEVEL]
                guesser.learn(shapes, unrests, levels, rows[:, said], rows[:, column], self._manner)

    def _guess(self, means: list[float], need: float, now_rps: float) -> Outlook:
        level = means[2]
        gate = min(math.sqrt(self._steps[0].mean(self._gate)) / _GATE_UNIT, _MOST_GATE)
        row = np.array([*self._shape(means, need, gate), *self._unrest(means), level, 0.0, 0.0, math.nan, math.nan])
        mix = self._manner.mix
        ahead, peak = (
            guesser.guess(row[_SHAPE], row[felt], level, mix)
            for guesser, felt in zip(self._guessers, _FELT, strict=True)
        )
        row[_SAID[0]], row[_SAID[1]] = ahead.log_rps, peak.log_rps
        self._rows.push(row)
        self._unbroken += 1
        if self._guessers[1].cold:
            hold_s = min(max(_COLD_HOLD_PER_ERROR_S * self._guessers[1].usual, _LEAST_COLD_HOLD_S), _COLD_HOLD_S)
            peak = Guess(max(level, *self._smooth[-self._slots(hold_s) :]), peak.spread)
        return Outlook(now_rps, ahead, peak, need)

    def miss(self) -> None:
        """A slot went by unseen: what was guessed across it is judged by nothing."""
        self._unbroken = 0
        self._tail = []

    def _shape(self, means: list[float], need: float, gate: float) -> list[float]:
        """How the load leans: differences of logarithms between time scales by the unrest, these differences alone,
        bursts above them, and past days."""
        slopes = [short - longer for short, longer in pairwise(means)]
        row = [*[gate * slope for slope in slopes], *slopes]
        minute, five = self._need.means((self._scales[2], self._scales[4]))
        row += [math.log(need) - means[0], math.log(minute) - means[2], math.log(five) - means[4]]
        row.append(math.log(max(self._needs[-self._scales[4] :])) - means[4])
        row.append(math.log(max(self._needs)) - means[6])
        row += [self._minutes.rise(lag, self._lead + 1) for lag in self._lags]
        row.append(1.0)
        return row

    def _unrest(self, means: list[float]) -> list[float]:
        """How much the load moved of late, at three time scales and over two to three spans each, and over hours; how
        far off the guess ahead was of late."""
        fast, minute, slow = self._steps
        spans = self._scales
        squares = fast.means((spans[2], spans[4], spans[6])) + minute.means((spans[4], spans[6]))
        squares.append(slow.mean(spans[5]))
        row = [*map(math.sqrt, squares), abs(means[2] - means[6]), abs(means[2] - means[4])]
        return [*row, *map(math.sqrt, self._long.means), *self._guessers[0].recent]

    def copy(self) -> Forecaster:
        """One that goes on by itself."""
        new = twin(self)
        new._rate, new._need, new._minutes = self._rate.copy(), self._need.copy(), self._minutes.copy()
        new._steps = [each.copy() for each in self._steps]
        new._needs, new._smooth = self._needs.copy(), self._smooth.copy()
        new._guessers = [each.copy() for each in self._guessers]
        new._rows = self._rows.copy()
        return new

    def state(self) -> dict[str, Array]:
        """All it knows, by name."""
        return {
            "counts": np.array([self._seen, self._unbroken], dtype=np.float64),
            "rate": self._rate.state(),
            "need": self._need.state(),
            "minutes": self._minutes.state(),
            **{f"step{number}": each.state() for number, each in enumerate(self._steps)},
            "long": self._long.state(),
            "tail": np.array(self._tail, dtype=np.float64),
            "needs": np.array(self._needs),
            "smooth": np.array(self._smooth),
            "rows": self._rows.state(),
            **self._guessers[0].state("ahead"),
            **self._guessers[1].state("peak"),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Knows what `state` gave."""
        self._seen, self._unbroken = map(int, state["counts"])
        self._rate.restore(state["rate"])
        self._need.restore(state["need"])
        self._minutes.restore(state["minutes"])
        for number, each in enumerate(self._steps):
            each.restore(state[f"step{number}"])
        self._long = self._long.restored(state["long"])
        self._tail = [int(each) for each in state["tail"]]
        self._needs, self._smooth = state["needs"].tolist(), state["smooth"].tolist()
        self._rows.restore(state["rows"])
        self._guessers[0].restore("ahead", state)
        self._guessers[1].restore("peak", state)


def _remember(values: list[float], value: float, keep: int) -> None:
    values.append(value)
    if len(values) > keep:
        del values[0]
