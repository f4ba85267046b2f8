"""Draws traffic from a few published numbers: a day, a week, a drift and bursts. None of it was ever recorded.

Defaults are measured on ServeGen's language/m-large (14 days, 10-minute windows): mean 196 requests a second, highest
window 2.98 times the mean, daily means between 0.54 and 1.43 of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectors.traces.shape import Load, Seconds
from contracts.errors import ConfigError

DAY_S = 86_400
DRAWN = "everything: a day, a week, a drift and bursts from published numbers"


@dataclass(frozen=True, slots=True)
class Profile:
    """`day_ratio`, `week_ratio`: how far the day's and the week's wave rises above the mean; the day's top is at
    `peak_h`. `drift_ratio`: deviation of a slow wander with a memory of `drift_s`. A burst multiplies the rate by
    `burst_ratio` at its top, lasts `burst_s` on average, and `bursts_per_day` come. `gap_cv`: deviation over mean of
    the gaps between requests, 1 is Poisson.
    """

    mean_rps: float = 196.0
    day_ratio: float = 0.5
    peak_h: float = 15.0
    week_ratio: float = 0.15
    drift_ratio: float = 0.2
    drift_s: float = 7_200.0
    burst_ratio: float = 1.6
    burst_s: float = 120.0
    bursts_per_day: float = 12.0
    gap_cv: float = 2.0

    def __post_init__(self) -> None:
        for name in ("mean_rps", "drift_s", "burst_s", "gap_cv"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}", where="profile", fix="Write a number above 0.")
        if not 0 <= self.day_ratio + self.week_ratio < 1:
            raise ConfigError("day_ratio and week_ratio make the rate negative", where="profile", fix="Lower one.")


@dataclass(frozen=True, slots=True)
class Surge:
    """The rate is multiplied by `ratio` from `begin_s` on for `length_s`, and takes `ramp_s` to get there and back. One
    that lasts beyond the end is a launch: the load stays."""

    begin_s: int
    length_s: int
    ratio: float
    ramp_s: int = 0

    def __post_init__(self) -> None:
        if self.ratio <= 0 or self.length_s <= 0 or self.ramp_s < 0:
            raise ConfigError(f"a surge of {self.ratio:g} × for {self.length_s} s", where="surge", fix="Both above 0.")


def arrivals(
    profile: Profile, length_s: int, seed: int, workload: str = "generated", surges: tuple[Surge, ...] = ()
) -> Load:
    """Requests in each second of `length_s`, from a midnight on."""
    rng = np.random.default_rng([seed, length_s])
    rate = _rate(profile, length_s, rng)
    for each in surges:
        rate *= _surge(each, length_s)
    counts = _counts(rate, profile.gap_cv, rng)
    return Load(workload, counts, f"generated with seed {seed}", DRAWN)


def _surge(surge: Surge, length_s: int) -> Seconds:
    """What the rate of each second is multiplied by."""
    begin, end, ramp = surge.begin_s, surge.begin_s + surge.length_s, max(surge.ramp_s, 1e-9)
    edges = (begin, begin + ramp, max(end, begin + ramp), max(end, begin + ramp) + ramp)
    at_s = np.arange(length_s, dtype=np.float64)
    factor: Seconds = np.interp(at_s, edges, (1.0, surge.ratio, surge.ratio, 1.0))
    return factor


def _rate(profile: Profile, length_s: int, rng: np.random.Generator) -> Seconds:
    at_s = np.arange(length_s, dtype=np.float64)
    day = np.cos(2 * np.pi * (at_s / DAY_S - profile.peak_h / 24))
    week = np.cos(2 * np.pi * (at_s / DAY_S - 2.5) / 7)
    minutes = length_s // 60 + 2
    kept = np.exp(-60 / profile.drift_s)
    steps = rng.normal(0.0, profile.drift_ratio * np.sqrt(1 - kept**2), minutes)
    drift = np.empty(minutes)
    level = rng.normal(0.0, profile.drift_ratio)
    for minute, step in enumerate(steps):
        level = drift[minute] = level * kept + step
    wander = np.exp(np.interp(at_s, np.arange(minutes) * 60.0, drift) - profile.drift_ratio**2 / 2)
    rate: Seconds = profile.mean_rps * (1 + profile.day_ratio * day + profile.week_ratio * week) * wander
    for begin in np.sort(rng.integers(0, length_s, rng.poisson(profile.bursts_per_day * length_s / DAY_S))):
        end = min(length_s, int(begin + rng.exponential(profile.burst_s)) + 1)
        rate[begin:end] *= profile.burst_ratio
    return rate


def _counts(rate: Seconds, gap_cv: float, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Counts whose variance is `gap_cv`² times their mean: Poisson, or negative binomial where gaps vary more."""
    excess = gap_cv**2 - 1
    if excess <= 0:
        return rng.poisson(rate)
    return rng.poisson(rng.gamma(np.maximum(rate / excess, 1e-12), excess))
