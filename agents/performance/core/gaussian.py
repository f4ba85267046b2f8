"""A Gaussian process: what a smooth function is likely to be where nobody has measured it, and how doubtful that is.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1, with the squared-exponential
kernel. The scales are given and not fitted: a dozen trials teach no scale, and a scale fitted too long makes the doubt
too small, which is what a safe search must not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.performance.core.series import Array


@dataclass(frozen=True)
class Prior:
    """What is supposed before anything is measured: the `mean`, and the usual distance from it, `spread`."""

    mean: float
    spread: float


@dataclass(frozen=True, eq=False)
class Guess:
    """Expected values and their standard deviations: [points] each."""

    mean: Array
    spread: Array

    def low(self, caution: float) -> Array:
        """`caution` standard deviations below what is expected: [points]."""
        return self.mean - caution * self.spread

    def high(self, caution: float) -> Array:
        """`caution` standard deviations above what is expected: [points]."""
        return self.mean + caution * self.spread


def guess(places: Array, values: Array, noises: Array, points: Array, prior: Prior) -> Guess:
    """The function at `points` ([points, dimensions]) from `values` ([n]) seen at `places` ([n, dimensions]).

    `noises` are the standard deviations of the values, above 0: [n]. One unit of a coordinate is the distance over
    which the function loses most of what ties it together (the correlation falls to 0.61).

    >>> line = np.array([[0.0], [1.0]])
    >>> found = guess(line, np.array([2.0, 2.0]), np.array([0.01, 0.01]), np.array([[0.5], [9.0]]), Prior(0.0, 1.0))
    >>> [round(float(each), 2) for each in (*found.mean, *found.spread)]
    [2.2, 0.0, 0.17, 1.0]
    """
    if not len(places):
        return Guess(np.full(len(points), prior.mean), np.full(len(points), prior.spread))
    variance = prior.spread**2
    lower = np.linalg.cholesky(variance * _alike(places, places) + np.diag(noises**2))
    across = variance * _alike(places, points)
    left = np.linalg.solve(lower.T, np.linalg.solve(lower, values - prior.mean))
    known = np.linalg.solve(lower, across)
    spread = np.sqrt(np.maximum(variance - np.sum(known**2, axis=0), 0.0))
    return Guess(prior.mean + across.T @ left, spread)


def _alike(some: Array, others: Array) -> Array:
    """Correlation of each place with each other one: [some, others]."""
    apart = some[:, None, :] - others[None, :, :]
    alike: Array = np.exp(-0.5 * np.sum(apart**2, axis=2))
    return alike
