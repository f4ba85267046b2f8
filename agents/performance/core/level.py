"""Follows one number that is seen with noise and drifts, and notices when it jumps."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

NOISE, _DRIFT, START_SD = 0.05, 0.004, 0.1
"""Of one window of 15 s, from one to the next, and before any was seen: standard deviations of a logarithm."""
_SLACK, _JUMP = 0.75, 6.0
"""A sum of surprises, each in standard deviations less the slack, that is called a jump."""


class Level(BaseModel):
    """A level that drifts, with its variance, and sums of surprises to either side: a Kalman filter of one number that
    starts afresh when they run away (Page's CUSUM, 1954)."""

    model_config = ConfigDict(frozen=True)

    mean: float = 0.0
    variance: float = START_SD**2
    above: float = 0.0
    below: float = 0.0
    seen_s: float = 0.0

    def observed(self, value: float, noise_sd: float, span_s: float) -> Level:
        """After one observation."""
        known = self.variance + _DRIFT**2 * span_s / 15.0
        spread = math.sqrt(known + noise_sd**2)
        surprise = max(-4.0, min(4.0, (value - self.mean) / spread))
        above, below = max(0.0, self.above + surprise - _SLACK), max(0.0, self.below - surprise - _SLACK)
        if max(above, below) > _JUMP:
            known, above, below = known + (value - self.mean) ** 2, 0.0, 0.0
        gain = known / (known + noise_sd**2)
        return Level(
            mean=self.mean + gain * (value - self.mean),
            variance=(1 - gain) * known,
            above=above,
            below=below,
            seen_s=self.seen_s + span_s,
        )
