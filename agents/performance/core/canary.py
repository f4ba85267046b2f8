"""Says when a canary replica may be kept and when it must be stopped, looked at as often as one likes.

Both shares of requests in time, of the canary and of the rest, get a confidence sequence: bounds that hold at all
times at once, so that looking every ten seconds does not raise the chance of an error (Robbins 1970; the mixture over
a Beta prior in Howard et al. 2021, Time-uniform confidence sequences). With independent requests a wrong keep or stop
has at most the probability `error`, whatever the shares are and however long it goes on.

Requests are not independent: a queue makes many late together. So counts are divided by how much more the shares of
looks vary than those of independent requests would. That factor is estimated, and the bound with it is no theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import lgamma, log

from contracts.errors import ConfigError


class Decision(StrEnum):
    """What to do with the canary now."""

    KEEP = "keep"
    STOP = "stop"
    CONTINUE = "continue"


@dataclass(frozen=True)
class Seen:
    """One look: requests that ended since the last one, and those in time, of the canary and of the rest."""

    canary: int
    canary_good: int
    rest: int
    rest_good: int


@dataclass(frozen=True)
class Terms:
    """`error`: probability of keeping what is worse by more than `margin`, or of stopping what is no worse. `most`:
    requests of the canary after which it is stopped for want of evidence. `least_good`: the share in time below which
    no canary is kept, however the rest fares."""

    error: float = 0.05
    margin: float = 0.02
    most: int = 20_000
    least_good: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.error < 1 and 0 < self.margin < 1 and self.most > 0):
            raise ConfigError("no terms of a test", where="canary", fix="Name an error and a margin between 0 and 1.")


@dataclass(frozen=True)
class Arm:
    """What was seen of one side, in sums: looks with requests, requests, those in time, and the excess of variance."""

    looks: int = 0
    requests: int = 0
    good: int = 0
    squares: float = 0.0

    def add(self, requests: int, good: int) -> Arm:
        """With one more look."""
        if not requests:
            return self
        squares = self.squares + good * good / requests
        return Arm(self.looks + 1, self.requests + requests, self.good + good, squares)

    @property
    def clump(self) -> float:
        """How many times more the looks vary than independent requests would, at least 1 (Pearson's statistic)."""
        share = self.good / self.requests if self.requests else 0.0
        if self.looks < 2 or not 0 < share < 1:
            return 1.0
        return max(1.0, (self.squares - self.requests * share * share) / (share * (1 - share)) / (self.looks - 1))


@dataclass(frozen=True)
class Verdict:
    """A decision with the bounds that made it: shares of requests in time, low and high, of both sides."""

    decision: Decision
    canary_low: float
    canary_high: float
    rest_low: float
    rest_high: float
    canary_requests: int
    rest_requests: int
    clump: float
    terms: Terms
    reason: str

    def explain(self) -> str:
        """The verdict in one line."""
        return (
            f"{self.decision}: {self.reason}; in time {self.canary_low:.2%} to {self.canary_high:.2%} of "
            f"{self.canary_requests} requests, the rest {self.rest_low:.2%} to {self.rest_high:.2%} of "
            f"{self.rest_requests}; they come late in clumps of {self.clump:.2g}, margin {self.terms.margin:.1%}, "
            f"error at most {self.terms.error:.1%}"
        )


@dataclass(frozen=True)
class Canary:
    """A fold over looks: `see` gives the next state, `verdict` what it says."""

    terms: Terms = Terms()
    canary: Arm = Arm()
    rest: Arm = Arm()

    def see(self, seen: Seen) -> Canary:
        """With one more look."""
        return replace(
            self,
            canary=self.canary.add(seen.canary, seen.canary_good),
            rest=self.rest.add(seen.rest, seen.rest_good),
        )

    def verdict(self) -> Verdict:
        """What to do now."""
        terms, clump = self.terms, max(self.canary.clump, self.rest.clump)
        low, high = bounds(self.canary.good / clump, self.canary.requests / clump, terms.error / 2)
        rest_low, rest_high = bounds(self.rest.good / clump, self.rest.requests / clump, terms.error / 2)
        decision, reason = Decision.CONTINUE, "the bounds still overlap"
        if high < rest_low:
            decision, reason = Decision.STOP, "it is worse than the rest"
        elif high < terms.least_good:
            decision, reason = Decision.STOP, f"it is below {terms.least_good:.2%}"
        elif low > max(rest_high - terms.margin, terms.least_good):
            decision, reason = Decision.KEEP, "it is no worse than the rest by more than the margin"
        elif self.canary.requests >= terms.most:
            decision, reason = Decision.STOP, f"{terms.most} requests did not settle it"
        counts = self.canary.requests, self.rest.requests
        return Verdict(decision, low, high, rest_low, rest_high, *counts, clump, terms, reason)


def bounds(good: float, count: float, error: float) -> tuple[float, float]:
    """Bounds of a share that hold at all times at once with probability 1 - `error`; 0 and 1 before anything was seen.

    Those shares p are inside for which the mixture over a uniform prior is less than 1/`error` times as likely as p.

    >>> [round(each, 3) for each in bounds(95.0, 100.0, 0.05)]
    [0.84, 0.993]
    """
    limit = lgamma(good + 1) + lgamma(count - good + 1) - lgamma(count + 2) + log(error)
    middle = good / count if count else 0.5

    def inside(share: float) -> bool:
        missed = count - good
        if (good > 0 and share <= 0) or (missed > 0 and share >= 1):
            return False
        likely = (good * log(share) if good > 0 else 0.0) + (missed * log(1 - share) if missed > 0 else 0.0)
        return likely > limit

    return _edge(middle, 0.0, inside), _edge(middle, 1.0, inside)


def _edge(inner: float, outer: float, inside: Callable[[float], bool]) -> float:
    if inside(outer):
        return outer
    for _ in range(40):
        middle = (inner + outer) / 2
        inner, outer = (middle, outer) if inside(middle) else (inner, middle)
    return outer
