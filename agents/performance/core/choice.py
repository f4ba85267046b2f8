"""Picks the caution and the reluctance that the objective asks for, from what fleets on paper missed of late.

That lateness falls with caution, and how steeply, is supposed; how high it lies is learnt for each reluctance, from the
late requests of every fleet on paper, summed with forgetting. So the caution is read off where lateness meets what is
allowed. Of the reluctances the least is taken that turns no oftener than it may. What is allowed follows the
error budget: a fleet that has missed more than its share is allowed less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.series import Array, twin

CAUTIONS = (0.0, 0.7, 1.4, 2.2, 3.2, 4.6, 7.0, 11.0)
RELUCTANCES = (-0.5, 0.5, 1.5, 2.5, 4.0, 7.0, 13.0)
"""Usual errors above the two guesses that are rehearsed; the real fleet may stand anywhere between them, with more
caution than any, and with less reluctance until half a day was seen."""
TURNS_A_DAY = 36.0
"""How often a fleet may go from growing to falling or back, where nobody says: on paper; the real one turns somewhat
oftener, for its caution moves. A horizontal pod autoscaler with five minutes of stabilisation turns 50 to 60 times."""
HALF_LIFE_S = 20 * 86_400
"""Half of a miss and of a turn is forgotten in twenty days: misses are few, and few are a poor judge."""
KEPT_RATIO = 0.15
"""This share of the error budget is not planned away: the days to come may be worse than those seen."""
PRIOR_S = 43_200
"""Before anything was seen, half a day of experience is supposed, as late as follows. Until more was seen, turns say
little: the reluctance is as great as the caution that is supposed, and less where more turns are allowed."""
LATE_RATIO, FALL = 0.08, 0.8
"""Share of requests late without caution, and the power of e by which each usual error of caution divides it."""
_JUDGES = slice(2, 6)
"""The cautions by which the height is judged: below them need is seldom guessed, above them too little is late."""
TURNS_FALL = 0.9
"""Power of e by which each usual error of reluctance is supposed to divide turns."""
_LEAST_ALLOWED, _MOST_ALLOWED = 0.3, 1.3
_STEPS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """`caution`, `reluctance`: in usual errors. `allowed_ratio`: of requests late. `burn`: missed over allowed."""

    caution: float
    reluctance: float
    allowed_ratio: float
    burn: float


class Chooser:
    """Keeps the sums. Fleets on paper come by reluctance, then by caution. `target`: share of requests in time."""

    def __init__(self, target: float, slot_s: int, turns_a_day: float = TURNS_A_DAY) -> None:
        self._goal, self._turns_a_day = 1.0 - target, turns_a_day
        self._fade = 0.5 ** (slot_s / HALF_LIFE_S)
        self._a_day = 86_400 / slot_s
        self._prior_slots = PRIOR_S / slot_s
        self._supposed: Array = LATE_RATIO * np.exp(-FALL * self.cautions)
        self._late: Array = np.zeros(len(self._supposed))
        self._turns: Array = np.zeros(len(self._supposed))
        self._done = self._missed = self._slots = 0.0
        self._fresh = 0

    @property
    def cautions(self) -> Array:
        """Of every fleet on paper: [fleets]."""
        return np.tile(np.array(CAUTIONS), len(RELUCTANCES))

    @property
    def reluctances(self) -> Array:
        """Of every fleet on paper: [fleets]."""
        return np.repeat(np.array(RELUCTANCES), len(CAUTIONS))

    def add(self, arrived: float, late: Array, turned: NDArray[np.bool_], missed: float) -> None:
        """One slot: requests, those late on paper and turns there [fleets], and those really late."""
        self._late = self._late + late
        self._turns = self._turns + turned
        self._done += arrived
        self._missed += missed
        self._slots += 1.0
        self._fresh += 1

    def choose(self) -> Choice:
        """The least reluctance that turns seldom enough, with the caution that would have met what is allowed now."""
        self._forget()
        prior = self._prior_slots * (self._done / self._slots if self._done > 0 else 1.0)
        weight = self._done + prior
        burn = (self._missed / self._goal + prior) / weight
        trust = min(self._slots / self._a_day, 1.0)
        allowed = self._goal * (1 - KEPT_RATIO) * min(max(1.0 + trust * (1.0 - burn), _LEAST_ALLOWED), _MOST_ALLOWED)
        above = np.log((self._late / self._supposed + prior) / weight).reshape(len(RELUCTANCES), -1)
        usual = np.log(LATE_RATIO / allowed) / FALL
        cautions = np.maximum(usual + above[:, _JUDGES].mean(axis=1) / FALL, 0.0)
        early = self._slots < self._prior_slots
        reluctance = self._supposed_reluctance(float(usual)) if early else self._calm(cautions)
        return Choice(float(np.interp(reluctance, RELUCTANCES, cautions)), reluctance, allowed, burn)

    def copy(self) -> Chooser:
        """One that goes on by itself."""
        return twin(self)

    def state(self) -> dict[str, Array]:
        """All it knows, by name."""
        return {
            "sums": np.array([self._late, self._turns]),
            "totals": np.array([self._done, self._missed, self._slots, self._fresh]),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Knows what `state` gave."""
        self._late, self._turns = state["sums"]
        self._done, self._missed, self._slots, fresh = state["totals"].tolist()
        self._fresh = int(fresh)

    def _forget(self) -> None:
        fade = self._fade**self._fresh
        self._fresh = 0
        self._late, self._turns = self._late * fade, self._turns * fade
        self._done, self._missed, self._slots = self._done * fade, self._missed * fade, self._slots * fade

    def _supposed_reluctance(self, caution: float) -> float:
        return max(caution, 0.0) - math.log(self._turns_a_day / TURNS_A_DAY) / TURNS_FALL

    def _calm(self, cautions: Array) -> float:
        """The least reluctance whose fleet, with its caution, turns no oftener than it may; else the greatest.

        Turns grow by factors from rung to rung, so they are read off between the rungs by their logarithms.
        """
        logs = np.log(self._turns + 1.0).reshape(len(RELUCTANCES), -1)
        there = [np.interp(at, CAUTIONS, row) for at, row in zip(cautions, logs, strict=True)]
        rungs = np.arange((len(RELUCTANCES) - 1) * _STEPS + 1) / _STEPS
        most = np.log(self._turns_a_day * self._slots / self._a_day + 1.0)
        calm = np.interp(rungs, range(len(RELUCTANCES)), there) <= most
        return float(np.interp(rungs[calm.argmax()] if calm.any() else rungs[-1], range(len(RELUCTANCES)), RELUCTANCES))
