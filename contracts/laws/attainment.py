"""Attainment: the share of observations that met a latency threshold, exact because thresholds are bucket edges, and
how fast what was missed spends the error budget."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ConfigError
from contracts.laws.histogram import Histogram


class Attainment(BaseModel):
    """`good` of `total` observations met the objective; addable over windows and instances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: int = Field(ge=0)
    total: int = Field(ge=0)

    @property
    def ratio(self) -> float | None:
        """0..1, or None when nothing was observed."""
        return self.good / self.total if self.total else None

    def __add__(self, other: Attainment) -> Attainment:
        return Attainment(good=self.good + other.good, total=self.total + other.total)


def nearest_edge(le: Sequence[float], threshold: float) -> float:
    """The finite edge closest to `threshold`."""
    return min(le, key=lambda edge: (abs(edge - threshold), edge))


def check_threshold(le: Sequence[float], threshold: float, where: str) -> None:
    """Refuse a threshold between two edges: the histogram cannot say how many requests met it."""
    if threshold not in le:
        raise ConfigError(
            f"threshold {threshold:g} s is not a bucket edge of the histogram",
            where=where,
            fix=f"Use {nearest_edge(le, threshold):g}, the nearest edge.",
        )


def attainment(hist: Histogram, threshold: float) -> Attainment:
    """Count observations at or below `threshold`, which must be an edge of `hist`.

    >>> attainment(Histogram(le=(0.5, 1.0), counts=(8, 9, 10)), 0.5).ratio
    0.8
    """
    check_threshold(hist.le, threshold, "attainment")
    return Attainment(good=hist.counts[hist.le.index(threshold)], total=hist.count)


def burn_rate(met: Attainment, target_ratio: float) -> float | None:
    """The share of observations that missed the threshold over the share that may miss it (SRE workbook, chapter 5).

    `target_ratio` is the share that must meet it, below 1. 1 spends the error budget exactly, 2 twice as fast; None
    when nothing was observed.

    >>> burn_rate(Attainment(good=90, total=100), 0.95)
    2.0
    """
    if not met.total:
        return None
    return (met.total - met.good) / (met.total - target_ratio * met.total)
