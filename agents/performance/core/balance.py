"""Says how unevenly the replicas of a workload are loaded, and which share of its requests each of them should get.

Imbalance is told by Jain's index of fairness (Jain, Chiu and Hawe 1984, DEC-TR-301) of the load that each replica has
for what it can bear: 0 where all are alike, 1 where one has everything. Above 0.3 (requirements, section 1) it pays to
act: of two replicas of equal capacity, that is one with 1.4 times the mean load.

Weights are in proportion to measured capacity. A router that sees what is outstanding at each replica may send to the
one with the fewest for its capacity instead. That helps where requests wait for a place in the batch and durations vary
at least as much as exponential ones (deviation as large as the mean, behind which the mean wait is twice that of equal
ones by Pollaczek and Khinchine). Where nobody waits it costs: the replica with the fewest takes several prompts in a
row, which are then computed one after the other (`bench/balance.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import ConfigError

ACT_ABOVE = 0.3
"""Imbalance worth an action: requirements, section 1."""
VARIATION_ABOVE = 1.0
"""Deviation of durations over their mean from which a share of the requests is no good measure of the work."""
WAITING_ABOVE = 0.05
"""Share of outstanding requests that wait, below which there is no queue to speak of."""


@dataclass(frozen=True)
class Replica:
    """What was seen of one replica: `outstanding` requests on average, running and waiting, those of them `waiting`,
    and the most requests a second it was measured to serve within its objective, `capacity_rps`."""

    instance_id: str
    outstanding: float
    capacity_rps: float
    waiting: float = 0.0

    def __post_init__(self) -> None:
        if not (self.outstanding >= self.waiting >= 0 and self.capacity_rps > 0):
            raise ConfigError(
                f"{self.outstanding} outstanding, {self.waiting} of them wait, capacity {self.capacity_rps} req/s",
                where=self.instance_id,
                fix="Leave out a replica whose load or capacity is not known.",
            )


@dataclass(frozen=True)
class Limits:
    """`step`: how far a weight may move at once, of itself or of the least share. `least_share`: of an equal share,
    which every replica keeps, so that it can be measured at all."""

    step: float = 0.25
    least_share: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.step < 1 and 0 <= self.least_share <= 1):
            raise ConfigError("limits that bound nothing", where="balance", fix="A step below 1, a share from 0 to 1.")


@dataclass(frozen=True)
class Balance:
    """What to do about the load of some replicas.

    `imbalance`: 0 to 1. `variation`: deviation of durations over their mean, None where it is not known.
    `waiting_share`: of outstanding requests. `least_outstanding`: send by what is outstanding, not by weight.
    `weights`: share of the requests by replica, summing to 1; those of before where nothing is to be done. `goal`: the
    shares to which further steps lead. `worst` has `worst_ratio` times the mean load for its capacity. `moved`: by how
    much the share that changes most does.
    """

    imbalance: float
    variation: float | None
    waiting_share: float
    act: bool
    least_outstanding: bool
    weights: Mapping[str, float]
    goal: Mapping[str, float]
    worst: str
    worst_ratio: float
    moved: float

    def values(self) -> dict[str, float]:
        """The numbers of a finding of kind `balance`."""
        known = {} if self.variation is None else {"duration_variation_ratio": self.variation}
        return known | {
            "imbalance_ratio": self.imbalance,
            "busiest_load_ratio": self.worst_ratio,
            "waiting_share_ratio": self.waiting_share,
            "share_moved_ratio": self.moved,
        }

    def explain(self) -> str:
        """The finding in one line."""
        shares = ", ".join(f"{name} {share:.1%} (to be {self.goal[name]:.1%})" for name, share in self.weights.items())
        varied = (
            "durations unknown" if self.variation is None else f"durations vary by {self.variation:.2g} of the mean"
        )
        how = "fewest outstanding for its capacity" if self.least_outstanding else "by weight"
        sign = ">" if self.act else "≤"
        return (
            f"imbalance {self.imbalance:.2f} {sign} {ACT_ABOVE}: {self.worst} has {self.worst_ratio:.2g} times the "
            f"mean load for its capacity; {varied} (limit {VARIATION_ABOVE}), {self.waiting_share:.0%} wait "
            f"(limit {WAITING_ABOVE:.0%}): {how}; {shares}"
        )


def imbalance(loads: Sequence[float]) -> float:
    """0 where all loads are alike or nothing is loaded, 1 where one of several has everything.

    >>> imbalance([3.0, 3.0, 3.0]), imbalance([4.0, 0.0])
    (0.0, 1.0)
    >>> round(imbalance([1.78, 0.22]), 2)
    0.76
    """
    count, most = len(loads), max(loads, default=0.0)
    if count < 2 or most <= 0:
        return 0.0
    shares = [each / most for each in loads]  # of loads next to nothing the squares would be nothing
    fair = sum(shares) ** 2 / (count * sum(each * each for each in shares))
    return min(1.0, max(0.0, (1 - fair) / (1 - 1 / count)))


def balance(
    replicas: Sequence[Replica],
    before: Mapping[str, float],
    variation: float | None = None,
    limits: Limits | None = None,
) -> Balance:
    """The finding. `before`: weights as they are, in any scale; equal ones where it is empty."""
    if not replicas:
        raise ConfigError("no replicas", where="balance", fix="Give one at least.")
    limits = limits or Limits()
    loads = [each.outstanding / each.capacity_rps for each in replicas]
    mean = sum(loads) / len(loads)
    worst = max(range(len(loads)), key=loads.__getitem__)
    score = imbalance(loads)
    held = sum(each.outstanding for each in replicas)
    waiting = sum(each.waiting for each in replicas) / held if held > 0 else 0.0
    names = [each.instance_id for each in replicas]
    goal = _raised([each.capacity_rps for each in replicas], limits.least_share / len(replicas))
    now = _shares([before.get(name, sum(before.values()) / len(before)) if before else 1.0 for name in names])
    act = score > ACT_ABOVE
    weights = _step(now, goal, limits) if act else now
    return Balance(
        imbalance=score,
        variation=variation,
        waiting_share=waiting,
        act=act,
        least_outstanding=variation is not None and variation >= VARIATION_ABOVE and waiting >= WAITING_ABOVE,
        weights=dict(zip(names, weights, strict=True)),
        goal=dict(zip(names, goal, strict=True)),
        worst=names[worst],
        worst_ratio=loads[worst] / mean if mean > 0 else 1.0,
        moved=max(abs(there - here) for here, there in zip(now, weights, strict=True)),
    )


def _shares(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [each / total for each in weights] if total > 0 else [1 / len(weights)] * len(weights)


def _raised(weights: Sequence[float], least: float) -> list[float]:
    """Shares of at least `least`, the others in proportion: [replicas]."""
    shares, low = _shares(weights), set[int]()
    while fresh := {n for n, each in enumerate(shares) if n not in low and each < least}:
        low |= fresh
        rest = sum(weights[n] for n in range(len(weights)) if n not in low)
        room = 1 - least * len(low)
        shares = [least if n in low else room * weights[n] / rest for n in range(len(weights))]
    return shares


def _step(now: Sequence[float], goal: Sequence[float], limits: Limits) -> list[float]:
    """As far towards the goal as no share moves by more than a step of itself; the sum stays 1. A step of nothing would
    lead nowhere: of a share below the least one it is a step of that, and where there is none, of its goal."""
    least = limits.least_share / len(now)
    ratios = [
        limits.step * (max(here, least) or there) / abs(there - here)
        for here, there in zip(now, goal, strict=True)
        if there != here
    ]
    far = min([1.0, *ratios])
    return [here + far * (there - here) for here, there in zip(now, goal, strict=True)]
