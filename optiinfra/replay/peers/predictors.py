"""Predictors of the next interval's requests, of the kinds that NVIDIA Dynamo's planner offers, in plain numpy.

Dynamo names constant, ARIMA, Kalman and Prophet. Here stand the same ideas, not those libraries: the last value, an
autoregression of differences fitted anew each time, a Kalman filter of level and trend, a daily season.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Predictor(Protocol):
    """One step ahead, from the values so far."""

    def put(self, value: float | None) -> float:
        """Take the newest value, None where it was not measured; the forecast of the next."""
        ...


class Constant:
    """The next value is the last one."""

    def __init__(self) -> None:
        self._last = 0.0

    def put(self, value: float | None) -> float:
        self._last = self._last if value is None else value
        return self._last


class Autoregression:
    """ARIMA(2,1,0) by least squares: the next difference is linear in the last two, fitted on the last 120 values."""

    ORDER, KEPT, ENOUGH = 2, 120, 12

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=self.KEPT)

    def put(self, value: float | None) -> float:
        values = self._values
        if value is None:
            value = values[-1] if values else 0.0
        values.append(value)
        if len(values) < self.ENOUGH:
            return value
        steps = np.diff(np.array(values))
        past = np.column_stack([steps[self.ORDER - lag : len(steps) - lag] for lag in range(1, self.ORDER + 1)])
        weights = np.linalg.lstsq(past, steps[self.ORDER :], rcond=None)[0]
        return float(value + steps[: -self.ORDER - 1 : -1] @ weights)


class Kalman:
    """A local linear trend: level and slope walk at random, values are seen through noise.

    Variances as Dynamo's settings have them: 1 of level, 0.1 of slope, 10 of what is seen. Only their ratios matter.
    """

    LEVEL, SLOPE, VALUE = 1.0, 0.1, 10.0

    def __init__(self) -> None:
        self._state: NDArray[np.float64] | None = None
        self._spread = np.eye(2) * 1e3

    def put(self, value: float | None) -> float:
        if self._state is None:
            if value is None:
                return 0.0
            self._state = np.array([value, 0.0])
            return value
        move = np.array([[1.0, 1.0], [0.0, 1.0]])
        state = move @ self._state
        spread = move @ self._spread @ move.T + np.diag([self.LEVEL, self.SLOPE])
        if value is not None:
            gain = spread[:, 0] / (spread[0, 0] + self.VALUE)
            state = state + gain * (value - state[0])
            spread = spread - np.outer(gain, spread[0])
        self._state, self._spread = state, spread
        return float(state[0] + state[1])


class Seasonal:
    """The value of the same time on the day before, times how the last hour compares with the same hour then."""

    def __init__(self, interval_s: int) -> None:
        self._day, self._hour = 86_400 // interval_s, max(1, 3_600 // interval_s)
        self._values: deque[float] = deque(maxlen=self._day + self._hour)

    def put(self, value: float | None) -> float:
        values = self._values
        if value is None:
            value = values[-1] if values else 0.0
        values.append(value)
        if len(values) < self._day + self._hour:
            return value
        held = list(values)
        then, now = sum(held[: self._hour]), sum(held[-self._hour :])
        return held[self._hour] * now / then if then > 0 else value
