"""Learns how busy a replica may be while enough of its requests are still in time.

Of a queue near its limit the tail of the wait falls exponentially with the idle share (Kingman 1962):
late share = exp(-(1 - utilisation) × patience / seconds a request takes). The patience is a property of the objective
and of how unevenly requests come and are sized, not of the speed of a replica: it stays when one gets slower. Its
logarithm is kept as weights on a grid.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from agents.performance.core.series import Array

_LOGS: Array = np.linspace(math.log(0.4), math.log(100.0), 45)
PATIENCE_S: Array = np.exp(_LOGS)
"""What the patience may be, seconds. One queue, one server and an objective of t: 2 t / (1 + cv²)."""
_PRIOR: Array = -0.5 * ((_LOGS - math.log(3.0)) / 0.5) ** 2
_QUICK_S, _SMOOTH_S = 45.0, 150.0
_COMPARE_S = 300.0
"""Being late is the fruit of the load of the last minutes; as many late ones as expected are looked for over more."""
_ALIKE = 20.0
"""Requests that are late together count as one."""
_SOFT, _DOUBT = 0.03, 0.2
_HALF_LIFE_S = 1800.0
_MISJUDGED, _KEPT = 0.1, 0.1
_LEAST_RATIO, _MOST_LATE = 0.05, 0.98


class Lateness(BaseModel):
    """`weights`: logarithms of the likelihood on the grid. `busy`: utilisation of the last minute, of the last minutes,
    and the seconds seen. `late`: requests and late ones of the last minutes; `expected`: late ones by that law, on the
    grid. `scale`: the limit that all this was judged by."""

    model_config = ConfigDict(frozen=True)

    weights: tuple[float, ...] = (0.0,) * len(PATIENCE_S)
    busy: tuple[float, float, float] = (0.0, 0.0, 0.0)
    late: tuple[float, float] = (0.0, 0.0)
    expected: tuple[float, ...] = (0.0,) * len(PATIENCE_S)
    scale: float = 0.0

    def loaded(self, utilisation: float, span_s: float) -> Lateness:
        """After one window: work offered per second of work possible."""
        offered, (last, long, seen_s) = min(max(utilisation, 0.0), 2.0), self.busy
        quick, slow = (1.0 - math.exp(-span_s / min(lag_s, seen_s + span_s)) for lag_s in (_QUICK_S, _SMOOTH_S))
        busy = last + quick * (offered - last), long + slow * (offered - long), seen_s + span_s
        return self.model_copy(update={"busy": busy})

    def seen(self, done: float, late: float, request_s: float, span_s: float, error: float) -> Lateness:
        """After the same window: requests whose first token came, those late, seconds a request takes, and how far off
        those may be: a doubtful utilisation teaches little."""
        # Softly: a utilisation is known to within some percent, and at its limit a replica is not late at once.
        idle = _SOFT * math.log1p(math.exp((1.0 - max(self.busy[:2])) / _SOFT))
        share: Array = np.minimum(_MOST_LATE, np.exp(-idle * PATIENCE_S / request_s))
        kept = math.exp(-span_s / _COMPARE_S)
        counts = (self.late[0] * kept + done, self.late[1] * kept + late)
        expected = np.array(self.expected) * kept + done * share
        ratio = counts[1] / counts[0]
        shares = np.clip(expected / counts[0], 1e-4, _MOST_LATE)
        many = done / _ALIKE / (1.0 + (error / _DOUBT) ** 2)
        likely = many * (ratio * np.log(shares) + (1.0 - ratio) * np.log1p(-shares))
        weights = np.array(self.weights) * 0.5 ** (span_s / _HALF_LIFE_S) + likely
        weights -= weights.max()
        told = {"weights": tuple(weights.tolist()), "late": counts, "expected": tuple(expected.tolist())}
        return self.model_copy(update=told)

    def judged(self, scale: float, *, other: bool) -> Lateness:
        """What was learnt counts for little after requests became others, or when the limit by which they were judged
        turned out to be another; `scale` stands for it, up to a factor that stays the same."""
        if self.scale > 0 and not other and abs(math.log(scale / self.scale)) < _MISJUDGED:
            return self
        return Lateness(weights=tuple(_KEPT * each for each in self.weights), busy=self.busy, scale=scale)

    def utilisation(self, target: float, request_s: float) -> tuple[float, float]:
        """The share of its limit at which `target` of the requests are in time, and the standard error of its
        logarithm."""
        chances = np.exp(_PRIOR + np.array(self.weights))
        chances /= chances.sum()
        needed = -math.log1p(-target) * request_s
        logs = np.log(np.maximum(_LEAST_RATIO, 1.0 - needed / PATIENCE_S))
        mean = float(chances @ logs)
        return math.exp(mean), math.sqrt(max(0.0, float(chances @ (logs - mean) ** 2)))
