"""Scores how short the memory of a workload is, 0 to 100, from what it showed in the last minutes.

Four terms have points: a full KV cache, preemptions, failed allocations, answers cut short. A term that nobody told is
left out, and the others weigh so much more: unknown is not zero. Without the KV cache there is no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

KV_POINTS, PREEMPTION_POINTS, ALLOCATION_POINTS, TRUNCATION_POINTS = 60.0, 20.0, 10.0, 10.0
KV_EMPTY_RATIO = 0.4
"""Up to this p95 a KV cache has no points; from there they rise to all of them at 1."""
PREEMPTED_RATIO, FAILURES_PER_S, TRUNCATED_RATIO = 0.1, 0.1, 0.25
"""From so much on a term has all its points. These three, like the weights, are choices: no trace set them."""


class Level(IntEnum):
    """How bad it is, as the requirements name it; from 40, 60 and 80 points on."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3


_FROM = {Level.CRITICAL: 80.0, Level.HIGH: 60.0, Level.MEDIUM: 40.0}


@dataclass(frozen=True)
class Signs:
    """What was seen, each None where nobody told it.

    `kv_p95_ratio`: share of KV blocks in use, 0..1; `preempted_ratio`: preemptions over preemptions and finished
    requests; `failures_per_s`: KV transfers without room; `truncated_ratio`: answers cut at a limit of tokens, of those
    that finished.
    """

    kv_p95_ratio: float | None = None
    preempted_ratio: float | None = None
    failures_per_s: float | None = None
    truncated_ratio: float | None = None


@dataclass(frozen=True)
class Pressure:
    """The score and its parts: `points` as they count in it, by term; `known_ratio`, the share of all points that could
    be told; `unknown`, the terms that could not."""

    score: float
    points: dict[str, float]
    known_ratio: float
    unknown: tuple[str, ...]

    @property
    def level(self) -> Level:
        """The level of the score."""
        return next((level for level, least in _FROM.items() if self.score >= least), Level.LOW)

    def values(self) -> dict[str, float]:
        """Numbers of a finding."""
        told = {f"pressure_{term}_points": value for term, value in self.points.items()}
        return told | {
            "pressure_score": self.score,
            "pressure_level": float(self.level),
            "pressure_known_ratio": self.known_ratio,
        }

    def explain(self) -> str:
        """One line with every number that decided."""
        parts = " + ".join(f"{term} {value:.1f}" for term, value in self.points.items())
        left_out = f"; left out, as nobody told: {', '.join(self.unknown)}" if self.unknown else ""
        return f"pressure {self.score:.0f} of 100 ({self.level.name.lower()}): {parts}{left_out}"


def pressure_of(signs: Signs) -> Pressure | None:
    """The score of what was seen; None where the use of the KV cache is not known.

    >>> pressure_of(Signs(kv_p95_ratio=0.8, preempted_ratio=0.0)).explain()
    'pressure 50 of 100 (medium): kv 50.0 + preemption 0.0; left out, as nobody told: allocation, truncation'
    """
    if signs.kv_p95_ratio is None:
        return None
    kv = max(0.0, signs.kv_p95_ratio - KV_EMPTY_RATIO) / (1.0 - KV_EMPTY_RATIO)
    terms = (
        ("kv", KV_POINTS, kv),
        ("preemption", PREEMPTION_POINTS, _share(signs.preempted_ratio, PREEMPTED_RATIO)),
        ("allocation", ALLOCATION_POINTS, _share(signs.failures_per_s, FAILURES_PER_S)),
        ("truncation", TRUNCATION_POINTS, _share(signs.truncated_ratio, TRUNCATED_RATIO)),
    )
    most = sum(weight for _, weight, share in terms if share is not None)
    points = {name: 100.0 * weight * min(1.0, share) / most for name, weight, share in terms if share is not None}
    unknown = tuple(name for name, _, share in terms if share is None)
    return Pressure(min(100.0, sum(points.values())), points, most / sum(w for _, w, _ in terms), unknown)


def _share(value: float | None, all_at: float) -> float | None:
    return None if value is None else value / all_at
