"""A fleet small enough to read: a fluid queue, first come first served, in steps of a second."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from contracts.scaling import FleetFacts, LoadSeen, Scaler

CAPACITY_RPS = 10.0


def facts(startup_s: float = 60.0, least: int = 1, most: int = 200) -> FleetFacts:
    return FleetFacts(capacity_rps=CAPACITY_RPS, service_s=5.0, startup_s=startup_s, least=least, most=most)


def poisson(rate_rps: np.ndarray, seed: int = 7) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).poisson(rate_rps)]


def steady(rate_rps: float, hours: float) -> np.ndarray:
    return np.full(int(hours * 3600), rate_rps)


def restless(hours: float, seed: int = 3, mean_rps: float = 60.0) -> list[int]:
    """A load that wanders by the minute and jumps now and then."""
    rng = np.random.default_rng(seed)
    minutes = int(hours * 60)
    drift = np.cumsum(rng.normal(0, 0.05, minutes))
    window = min(120, minutes)
    drift -= np.convolve(drift, np.ones(window) / window, "same")
    jumps = np.where(rng.random(minutes // 30 + 1) < 0.2, 0.5, 0.0)
    level = mean_rps * np.exp(drift + np.repeat(jumps, 30)[:minutes])
    return poisson(np.interp(np.arange(minutes * 60), np.arange(minutes) * 60.0, level), seed)


class Run:
    """What came of it: `sizes` ordered at each look, `billed_s`, `attained`, `turns` from growing to shrinking."""

    def __init__(
        self,
        scaler: Scaler,
        seconds: list[int],
        *,
        startup_s: int = 60,
        begin: int = 8,
        blind: Callable[[int], bool] = lambda at_s: False,
        scored_from_s: int = 0,
    ) -> None:
        self.sizes: list[int] = []
        ready, starting = begin, [0] * startup_s
        queue, arrived_before, late, done = 0.0, 0.0, 0.0, 0.0
        late_seen = done_seen = 0.0
        self.billed_s = 0.0
        scored_late = scored = 0.0
        for at_s, arrived in enumerate(seconds):
            if at_s and at_s % 15 == 0:
                dark = blind(at_s)
                seen = LoadSeen(
                    at_s,
                    None if dark else seconds[at_s - 15 : at_s],
                    None if dark else queue,
                    None if dark else 0.0,
                    ready,
                    sum(starting),
                    done - done_seen,
                    late - late_seen,
                )
                done_seen, late_seen = done, late
                want = scaler.decide(seen)
                self.sizes.append(want)
                more = want - ready - sum(starting)
                if more >= 0:
                    starting[-1] += more
                for place in reversed(range(startup_s)):
                    taken = min(starting[place], max(-more, 0))
                    starting[place] -= taken
                    more += taken
                if more < 0:
                    ready += more
                    self.billed_s += 30 * -more
            ready += starting.pop(0)
            starting.append(0)
            served = min(queue + arrived, ready * CAPACITY_RPS)
            missed = min(max(queue - served, 0.0), arrived_before)
            queue += arrived - served
            arrived_before, late, done = arrived, late + missed, done + served
            if at_s >= scored_from_s:
                self.billed_s += ready + sum(starting)
                scored_late, scored = scored_late + missed, scored + arrived
        self.attained = 1 - scored_late / max(scored, 1)
        moves = [b - a for a, b in zip([begin, *self.sizes], self.sizes, strict=False) if a != b]
        self.turns = sum(a * b < 0 for a, b in pairwise(moves))
