"""Says how much capacity a workload will need when a replica ordered now begins to serve, and how sure that is.

A slot is one look of the scaler. The *need* of a slot is the steady rate that would have served its requests with no
wait beyond `SLACK_S`: the greatest slope of its arrival curve (Cruz 1991), so a burst of seconds counts and not the
mean alone. The forecast is a ridge regression of the logarithm of the need, refitted every quarter of an hour with
forgetting, on what the load did at time scales from one slot to an hour, and did an hour, a half-day and a day ago.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.series import Peak, Series

Array = NDArray[np.float64]

SLACK_S = 1.0
"""A request may wait this long before its slot needs more capacity: half of a two-second objective."""
REFIT_S = 900
HALF_LIFE_S = 3 * 86_400
"""Half of what a regression knows is forgotten in three days."""
_SCALES_S = (15, 30, 60, 180, 300, 600, 1800, 3600)
_LAGS_S = (1800, 3600, 7200, 86_400)
_AHEAD_S = 60
MIX = 0.4
"""Share of the expected error that follows the unrest of the moment; the rest is the usual error of all times."""
PRIOR_SPREAD, _PRIOR_SLOTS = 0.1, 60.0
"""Before anything has come due, a guess is taken to be a tenth off, as if sixty had said so."""
PEAK_S, PEAK_STARTUPS = 600.0, 1.5
"""How far the peak is looked for, at least and in start-ups: what is let go costs a start-up to have back."""
COLD_HOLD_S = 300.0
"""Until the peak can be guessed, it is the highest need of so long a past."""
MOST_CHANGE = 1.2
"""A guess never leaves the last minute's rate by more than a factor e to this; nor does one miss teach more."""
_UNREST = 9
_PENALTY = 2.0
_FITS_BEFORE_TRUST = 4


@dataclass(frozen=True, slots=True)
class Guess:
    """`log_rps`: logarithm of a need. `spread`: how far off such a guess usually is, in the same logarithm."""

    log_rps: float
    spread: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """`now_rps`: rate of the last half minute. `ahead`: the need when a replica ordered now begins to serve. `peak`:
    the most that will be needed within the next minutes.
    """

    now_rps: float
    ahead: Guess
    peak: Guess


class Ridge:
    """Least squares with a small penalty and forgetting, fed row by row and solved now and then."""

    def __init__(self, width: int, refit: int, half_life: int) -> None:
        self._refit = refit
        self._fade = 0.5 ** (refit / half_life)
        self._gram: Array = np.zeros((width, width))
        self._fits = 0
        self._moment: Array = np.zeros(width)
        self._rows: list[Array] = []
        self._values: list[float] = []
        self.weights: Array = np.zeros(width)

    @property
    def fitted(self) -> bool:
        """Whether it has seen enough to be trusted: an hour at the usual pace."""
        return self._fits >= _FITS_BEFORE_TRUST

    def learn(self, row: Array, value: float) -> None:
        """Takes one row and what came of it."""
        self._rows.append(row)
        self._values.append(value)
        if len(self._rows) == self._refit:
            rows = np.array(self._rows)
            self._gram = self._gram * self._fade + rows.T @ rows
            self._moment = self._moment * self._fade + rows.T @ np.array(self._values)
            self._fits += 1
            penalised = self._gram + _PENALTY * np.eye(len(self._moment))
            self.weights = np.asarray(np.linalg.solve(penalised, self._moment), dtype=np.float64)
            self._rows.clear()
            self._values.clear()


def need_rps(seconds: Array) -> float:
    """Least steady rate that serves these requests with no wait beyond SLACK_S. `seconds`: [seconds], oldest first."""
    curve = np.concatenate(([0.0], np.cumsum(seconds)))
    return float(((curve[:, None] - curve[None, :]) / _widths(len(seconds))).max())


@lru_cache(maxsize=64)
def _widths(count: int) -> Array:
    """Seconds between every two edges, plus the slack; infinite where the second lies before the first."""
    edges = np.arange(count + 1.0)
    apart = edges[:, None] - edges[None, :]
    return np.where(apart > 0, apart + SLACK_S, np.inf)


class Guesser:
    """Learns one thing to come, and how far off it is: two regressions. `due`: slots until it is known."""

    def __init__(self, due: int, refit: int, half_life: int, width: int, unrest: int) -> None:
        self.due = due
        self._level, self._error = Ridge(width, refit, half_life), Ridge(unrest, refit, half_life)
        self._open: deque[tuple[Array, Array, float, float]] = deque()
        self._misses, self._weight = PRIOR_SPREAD * _PRIOR_SLOTS, _PRIOR_SLOTS
        self._fade = 0.5 ** (1 / half_life)

    def guess(self, shape: Array, unrest: Array, level: float) -> Guess:
        """What is to be expected after such a slot, whose own level is `level`."""
        change = float(shape @ self._level.weights) if self._level.fitted else 0.0
        log_rps = level + min(max(change, -MOST_CHANGE), MOST_CHANGE)
        usual = self._misses / self._weight
        felt = float(unrest @ self._error.weights)
        spread = (
            MIX * min(max(felt, 0.2 * usual), 5 * usual) + (1 - MIX) * usual if self._error.fitted else PRIOR_SPREAD
        )
        self._open.append((shape, unrest, level, log_rps))
        return Guess(log_rps, spread)

    @property
    def cold(self) -> bool:
        """Whether nothing was learnt yet."""
        return not self._level.fitted

    def forget_open(self) -> None:
        """No guess that is still open will be judged."""
        self._open.clear()

    def settle(self, came: float) -> None:
        """What came of the guess of `due` slots ago, if there was one."""
        if len(self._open) < self.due:
            return
        shape, unrest, level, said = self._open.popleft()
        self._level.learn(shape, came - level)
        miss = min(abs(came - said), MOST_CHANGE)
        self._error.learn(unrest, miss)
        self._misses = self._misses * self._fade + miss
        self._weight = self._weight * self._fade + 1.0


class Forecaster:
    """Sees one slot after the other and knows nothing else. `lead_s`: how far ahead it looks; `slot_s`: of a look."""

    def __init__(self, lead_s: float, slot_s: int) -> None:
        self._slot_s = slot_s
        self._lead = math.ceil(lead_s / slot_s) + 1
        self._ahead, self._within = self._slots(_AHEAD_S), self._slots(max(PEAK_S, PEAK_STARTUPS * lead_s))
        keep = self._slots(_LAGS_S[-1]) + self._lead + self._slots(_SCALES_S[-1])
        self._scales = [self._slots(each) for each in _SCALES_S]
        self._lags = [self._slots(each) for each in _LAGS_S]
        self._rate, self._need = Series(keep), Series(keep)
        self._burst, self._bursts = Peak(self._scales[4]), Peak(self._scales[6])
        self._most, self._lately = Peak(self._within), Peak(self._slots(COLD_HOLD_S))
        self._steps = [Series(keep) for _ in range(3)]
        self._tail: deque[float] = deque(maxlen=2 * slot_s)
        refit, life = self._slots(REFIT_S), self._slots(HALF_LIFE_S)
        width = len(_SCALES_S) + 5 + len(_LAGS_S)
        self._next = Guesser(self._lead + self._ahead - 1, refit, life, width, _UNREST)
        self._peak = Guesser(self._within, refit, life, width, _UNREST)

    def _slots(self, seconds: float) -> int:
        return max(1, round(seconds / self._slot_s))

    def see(self, arrived: Sequence[int]) -> Outlook:
        """Takes the requests of each second of the newest slot, at least one second, and looks ahead."""
        self._tail.extend(arrived)
        tiny = 0.5 / self._slot_s
        rate = sum(arrived) / len(arrived)
        need = max(need_rps(np.array(self._tail)), rate) + tiny
        self._rate.push(rate + tiny)
        self._need.push(need)
        smooth = self._need.mean(self._ahead)
        most, lately = math.log(self._most.push(smooth)), math.log(self._lately.push(smooth))
        rates = self._rate.means(self._scales)
        for series, scale in zip(self._steps, (0, 2, 3), strict=True):
            slots = self._scales[scale]
            step = math.log(rates[scale] / self._rate.mean(slots, slots))
            series.push(step * step)
        self._next.settle(math.log(smooth))
        self._peak.settle(most)
        means = [math.log(each) for each in rates]
        shape, unrest, level = self._shape(means, need), self._unrest(means), means[2]
        ahead, peak = self._next.guess(shape, unrest, level), self._peak.guess(shape, unrest, level)
        if self._peak.cold:
            peak = Guess(max(level, lately), 0.0)
        return Outlook(rates[1], ahead, peak)

    def miss(self) -> None:
        """A slot went by unseen: what was guessed across it is judged by nothing."""
        self._next.forget_open()
        self._peak.forget_open()
        self._tail.clear()

    def _shape(self, means: list[float], need: float) -> Array:
        """How the load leans: differences of logarithms between time scales, bursts above them, and past days."""
        row = [short - longer for short, longer in pairwise(means)]
        minute, five = self._need.means((self._scales[2], self._scales[4]))
        row += [math.log(need) - means[0], math.log(minute) - means[2], math.log(five) - means[4]]
        row.append(math.log(self._burst.push(need)) - means[4])
        row.append(math.log(self._bursts.push(need)) - means[6])
        span, rate = self._scales[2], self._rate
        for lag in self._lags:
            known = len(rate) >= lag + span
            later = max(lag - self._lead - 1, 0)
            row.append(math.log(rate.mean(span, later) / rate.mean(span, lag)) if known else 0.0)
        row.append(1.0)
        return np.array(row)

    def _unrest(self, means: list[float]) -> Array:
        """How much the load moved of late, at three time scales and over two to three spans each."""
        fast, minute, slow = self._steps
        spans = self._scales
        row = [math.sqrt(each) for each in fast.means((spans[2], spans[4], spans[6]))]
        row += [math.sqrt(each) for each in minute.means((spans[4], spans[6]))]
        row += [math.sqrt(slow.mean(spans[5])), abs(means[2] - means[6]), abs(means[2] - means[4]), 1.0]
        return np.array(row)
