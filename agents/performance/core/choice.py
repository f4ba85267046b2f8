"""Picks the caution and the reluctance that the objective asks for, from what fleets on paper spent and missed of late.

The bill, the late requests and the turns of every fleet on paper are summed with forgetting. For each reluctance the
caution is read off where lateness meets what is allowed; of these pairs the cheapest wins that turns no oftener than
`TURNS_A_DAY`. What is allowed follows the error budget: a fleet that has missed more than its share is allowed less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.series import Array, twin

CAUTIONS = (0.0, 0.7, 1.4, 2.2, 3.2, 4.6, 7.0, 11.0)
RELUCTANCES = (0.5, 1.5, 2.5, 4.0, 6.0, 9.0)
"""Usual errors above the two guesses that are rehearsed; the real fleet may stand anywhere between them."""
TURNS_A_DAY = 48.0
"""From growing to falling or back: what a horizontal pod autoscaler with five minutes of stabilisation does."""
HALF_LIFE_S = 20 * 86_400
"""Half of a bill, of a miss and of a turn is forgotten in twenty days: misses are few, and few are a poor judge."""
KEPT_RATIO = 0.15
"""This share of the error budget is not planned away: the days to come may be worse than those seen."""
PRIOR_S = 43_200
"""Before anything was seen, half a day of experience is supposed, with lateness falling by caution as below; what is
learnt gains weight through the first day, for the misses of an hour say little of the caution that a week needs."""
_PRIOR_LATE, _PRIOR_FALL, _PRIOR_RELUCTANCE = 0.08, 0.8, 2.0
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

    def __init__(self, target: float, slot_s: int) -> None:
        self._goal = 1.0 - target
        self._fade = 0.5 ** (slot_s / HALF_LIFE_S)
        self._a_day = 86_400 / slot_s
        ladder = np.array(CAUTIONS)
        self._ladder: Array = ladder
        self._supposed: Array = np.tile(_PRIOR_LATE * np.exp(-_PRIOR_FALL * ladder), len(RELUCTANCES))
        self._prior_slots = PRIOR_S / slot_s
        self._late: Array = np.zeros(len(self._supposed))
        self._cost: Array = np.zeros(len(self._supposed))
        self._turns: Array = np.zeros(len(self._supposed))
        self._done = self._missed = self._slots = 0.0
        self._fresh = 0

    @property
    def cautions(self) -> Array:
        """Of every fleet on paper: [fleets]."""
        return np.tile(self._ladder, len(RELUCTANCES))

    @property
    def reluctances(self) -> Array:
        """Of every fleet on paper: [fleets]."""
        return np.repeat(np.array(RELUCTANCES), len(self._ladder))

    def add(self, arrived: float, late: Array, cost_s: Array, turned: NDArray[np.bool_], missed: float) -> None:
        """One slot: requests, those late on paper, replica-seconds and turns there [fleets], and those really late."""
        self._late = self._late + late
        self._cost = self._cost + cost_s
        self._turns = self._turns + turned
        self._done += arrived
        self._missed += missed
        self._slots += 1.0
        self._fresh += 1

    def choose(self) -> Choice:
        """The cheapest pair that would have met what is allowed now."""
        self._forget()
        prior = self._prior_slots * (self._done / self._slots if self._done > 0 else 1.0)
        weight = self._done + prior
        burn = (self._missed / self._goal + prior) / weight
        trust = min(self._slots / self._a_day, 1.0)
        allowed = self._goal * (1 - KEPT_RATIO) * min(max(1.0 + trust * (1.0 - burn), _LEAST_ALLOWED), _MOST_ALLOWED)
        rates = ((self._late + self._supposed * prior) / weight).reshape(len(RELUCTANCES), -1)
        logs = np.log(np.maximum(np.minimum.accumulate(rates, axis=1), 1e-9))
        learnt = np.array([np.interp(-np.log(allowed), -each, self._ladder) for each in logs])
        cautions = trust * learnt + (1 - trust) * max(np.log(_PRIOR_LATE / allowed) / _PRIOR_FALL, 0.0)
        if self._slots < self._prior_slots:
            caution = float(np.interp(_PRIOR_RELUCTANCE, RELUCTANCES, cautions))
            return Choice(caution, _PRIOR_RELUCTANCE, allowed, burn)
        fine = np.interp(np.arange((len(RELUCTANCES) - 1) * _STEPS + 1) / _STEPS, range(len(RELUCTANCES)), RELUCTANCES)
        prices, turns = (
            np.interp(fine, RELUCTANCES, self._there(each, cautions)) for each in (self._cost, self._turns)
        )
        busy = turns / self._slots * self._a_day > TURNS_A_DAY
        best = int(np.argmin(np.where(busy, np.inf, prices))) if not busy.all() else len(fine) - 1
        return Choice(float(np.interp(fine[best], RELUCTANCES, cautions)), float(fine[best]), allowed, burn)

    def reprice(self, ratio: float) -> None:
        """A replica of old makes so many of those that are billed from now on."""
        self._cost = self._cost * ratio

    def copy(self) -> Chooser:
        """One that goes on by itself."""
        return twin(self)

    def state(self) -> dict[str, Array]:
        """All it knows, by name."""
        return {
            "sums": np.array([self._late, self._cost, self._turns]),
            "totals": np.array([self._done, self._missed, self._slots, self._fresh]),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Knows what `state` gave."""
        self._late, self._cost, self._turns = state["sums"]
        self._done, self._missed, self._slots, fresh = state["totals"].tolist()
        self._fresh = int(fresh)

    def _forget(self) -> None:
        fade = self._fade**self._fresh
        self._fresh = 0
        self._late, self._cost, self._turns = self._late * fade, self._cost * fade, self._turns * fade
        self._done, self._missed, self._slots = self._done * fade, self._missed * fade, self._slots * fade

    def _there(self, sums: Array, cautions: Array) -> Array:
        """A sum as it would be at the caution of each reluctance: [reluctances]."""
        table = sums.reshape(len(RELUCTANCES), -1)
        return np.array([np.interp(at, self._ladder, row) for at, row in zip(cautions, table, strict=True)])
