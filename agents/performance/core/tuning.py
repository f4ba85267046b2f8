"""Finds the engine setting with the most goodput per GPU by trials, and tries none that is likely to break the SLO.

Safe Bayesian optimisation (SafeOpt, Sui et al. 2015; StageOpt, Sui et al. 2018). Gaussian processes say what goodput,
TTFT and inter-token latency a setting would have. Candidates are neighbours of settings that kept the objective, and
of those only the ones whose latency keeps it still when all doubt is counted against them. The search begins at the
present setting, goes where most improvement is expected, and ends where too little is.

A degree of tensor parallelism is no flag: another degree is another machine. In life it is left out of the space, or
the ramp of `canary.py` comes before the trial; on a simulation every degree may be tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, exp, inf, log, log2, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.gaussian import Guess, Prior, guess
from agents.performance.core.series import Array
from agents.performance.core.trials import Runner, Setting, Tried
from contracts.errors import ConfigError

Mask = NDArray[np.bool_]

MOST_GPUS = 8
"""GPUs that one replica may be spread over: those of one machine."""
SCALES = (2.5, 2.5, 1.0)
"""Doublings of sequences, of batched tokens and of GPUs that make one unit of distance: what `bench/tuning.py` bore."""
GOODPUT, TTFT, ITL = 0.35, 0.5, 0.3
"""How far apart the logarithms of two settings far from each other usually are."""
WORST = 1.5
"""The logarithm beyond which a latency is bad and no more: a replica past its capacity has a TTFT without end."""


@dataclass(frozen=True)
class Trial:
    """Try `setting` next. Expected goodput per GPU with its bounds, and the worst that TTFT and inter-token latency
    may be at the live rate, over their limits; `best_rps` per GPU was the best so far, `safe` of `settings` may be
    tried."""

    setting: Setting
    expected_rps: float
    low_rps: float
    high_rps: float
    ttft_worst_ratio: float
    itl_worst_ratio: float
    best_rps: float
    safe: int
    settings: int
    number: int
    opens: bool = False

    def explain(self) -> str:
        """The choice in one line."""
        if self.number == 1:
            return f"trial 1: {self.setting}: the present setting, live at {self.expected_rps:.3g} req/s per GPU"
        why = "opens the way to others" if self.opens else f"best so far {self.best_rps:.3g}"
        return (
            f"trial {self.number}: {self.setting}: {self.expected_rps:.3g} req/s per GPU expected "
            f"({self.low_rps:.3g} to {self.high_rps:.3g}), {why}; at the live rate TTFT at worst "
            f"{self.ttft_worst_ratio:.0%} of its limit, inter-token {self.itl_worst_ratio:.0%}; "
            f"{self.safe} of {self.settings} settings are safe"
        )


@dataclass(frozen=True)
class Done:
    """The end of a search: the best setting that kept the objective, None where none did, the present one included."""

    best: Setting | None
    best_rps: float
    present_rps: float
    trials: int
    broken: int
    left_ratio: float
    reason: str

    @property
    def gain_ratio(self) -> float:
        """Goodput per GPU above that of the present setting, 0 for as much."""
        return self.best_rps / self.present_rps - 1 if self.best is not None and self.present_rps > 0 else 0.0

    def values(self) -> dict[str, float]:
        """The numbers of a finding of kind `tuning`; without a best one, no goodput."""
        if self.best is None:
            return {"trials_made": float(self.trials), "trials_broken": float(self.broken)}
        return {
            "goodput_per_gpu_rps": self.best_rps,
            "goodput_gain_ratio": self.gain_ratio,
            "trials_made": float(self.trials),
            "trials_broken": float(self.broken),
        }

    def explain(self) -> str:
        """The result in one line."""
        if self.best is None:
            return f"no setting: {self.reason}; {self.trials} trials, {self.broken} broke the objective"
        return (
            f"{self.best}: {self.best_rps:.3g} req/s per GPU, {self.gain_ratio:+.1%} on the present "
            f"{self.present_rps:.3g}; {self.trials} trials, {self.broken} broke the objective; {self.reason} "
            f"({self.left_ratio:.1%} expected)"
        )


@dataclass(frozen=True)
class Space:
    """The settings there are to choose from, the `present` one, which the search begins with, and the requests a
    second that live traffic has for each GPU."""

    settings: tuple[Setting, ...]
    present: Setting
    live_rps: float

    def __post_init__(self) -> None:
        if self.present not in self.settings:
            raise ConfigError("the present setting is not among them", where="tuning", fix=f"Add {self.present}.")
        if max(each.tensor_parallel for each in self.settings) > MOST_GPUS:
            raise ConfigError(
                "a replica over more GPUs than a machine has", where="tuning", fix=f"Leave out TP beyond {MOST_GPUS}."
            )

    def places(self, settings: Sequence[Setting]) -> Array:
        """Coordinates in units of distance: [settings, 3]."""
        rows = [(log2(s.max_num_seqs), log2(s.max_num_batched_tokens), log2(s.tensor_parallel)) for s in settings]
        places: Array = np.array(rows, dtype=np.float64).reshape(-1, 3) / np.array(SCALES)
        return places


@dataclass(frozen=True)
class Care:
    """`caution`: standard deviations of doubt that count against a setting. `least_gain_ratio`: the search ends when
    less improvement is expected. `trials`: and when so many were made, the present one included."""

    caution: float = 1.5
    least_gain_ratio: float = 0.01
    trials: int = 20


class Tuner:
    """Says what to try next, from all that was tried. Keeps nothing: the same past gives the same answer."""

    def __init__(self, space: Space, care: Care | None = None) -> None:
        self._space, self._care = space, care or Care()
        self._places = space.places(space.settings)

    def propose(self, past: Sequence[Tried]) -> Trial | Done:
        """The next trial, or the end. The first is the present setting."""
        space, care = self._space, self._care
        if not past:
            return Trial(space.present, space.live_rps, space.live_rps, inf, 1.0, 1.0, 0.0, 1, len(space.settings), 1)
        if not past[0].measured.kept:
            return ended(past, "the present setting breaks the objective, so nothing is known to be safe")
        goodput, ttft, itl = self._guesses(past)
        best = max(each.per_gpu_rps for each in past if each.measured.kept)
        improvement = _improvement(goodput, log(best))
        tried = {each.setting for each in past}
        new = np.array([each not in tried for each in space.settings])
        slow = (ttft.high(care.caution) > 0.0) | (itl.high(care.caution) > 0.0)
        short = goodput.low(care.caution) < log(space.live_rps)
        safe = self._near(past) & self._roomy(past) & ~slow & ~short
        open_ = safe & new
        left = float(np.max(np.where(open_, improvement, 0.0), initial=0.0))
        if len(past) >= care.trials:
            return ended(past, f"the {care.trials} trials are used up", left)
        place, opens = int(np.argmax(np.where(open_, improvement, -1.0))), False
        if left < care.least_gain_ratio:
            behind = np.where(new & ~safe, improvement, 0.0)
            place, opens = self._expander(open_, behind, goodput), True
            if place < 0:
                return ended(past, "no setting that is known to be safe promises more", left)
        return Trial(
            setting=space.settings[place],
            expected_rps=exp(goodput.mean[place]),
            low_rps=exp(goodput.low(care.caution)[place]),
            high_rps=exp(goodput.high(care.caution)[place]),
            ttft_worst_ratio=exp(ttft.high(care.caution)[place]),
            itl_worst_ratio=exp(itl.high(care.caution)[place]),
            best_rps=best,
            safe=int(safe.sum()),
            settings=len(space.settings),
            number=len(past) + 1,
            opens=opens,
        )

    def _guesses(self, past: Sequence[Tried]) -> tuple[Guess, Guess, Guess]:
        """Logarithms of goodput per GPU, and of TTFT and inter-token latency over their limits."""
        places = self._space.places([each.setting for each in past])
        noises = np.array([max(each.measured.noise_ratio, 1e-3) for each in past])
        told = [each.measured.latency_noise_ratio for each in past]
        slips = np.array([noise if own is None else max(own, 1e-3) for own, noise in zip(told, noises, strict=True)])
        rates = np.array([log(max(each.per_gpu_rps, 1e-6)) for each in past])
        rates = np.maximum(rates, rates[0] - WORST)
        shares = [(each.measured.ttft_ratio, each.measured.itl_ratio) for each in past]
        ttft, itl = np.clip(np.log(np.maximum(np.array(shares), 1e-3)), -WORST, WORST).T
        return (
            guess(places, rates, noises, self._places, Prior(float(rates[0]), GOODPUT)),
            guess(places, ttft, slips, self._places, Prior(float(ttft[0]), TTFT)),
            guess(places, itl, slips, self._places, Prior(float(itl[0]), ITL)),
        )

    def _roomy(self, past: Sequence[Tried]) -> Mask:
        """Settings whose batch holds the live requests, told from the nearest that was tried: [settings].

        A replica of twice the GPUs has twice the requests; they come and go like Poisson arrivals to many servers.
        """
        apart = self._places[:, None, :] - self._space.places([each.setting for each in past])[None, :, :]
        nearest = np.argmin(np.sum(apart**2, axis=2), axis=1)
        running = np.array([each.measured.running / each.setting.tensor_parallel for each in past])[nearest]
        needed = running * np.array([each.tensor_parallel for each in self._space.settings])
        room: Mask = np.array([each.max_num_seqs for each in self._space.settings]) >= needed + 2 * np.sqrt(needed)
        return room

    def _near(self, past: Sequence[Tried]) -> Mask:
        """Settings no more than one doubling from one that kept the objective, in each of the three: [settings]."""
        kept = self._space.places([each.setting for each in past if each.measured.kept]) * np.array(SCALES)
        apart = np.abs((self._places * np.array(SCALES))[:, None, :] - kept[None, :, :])
        near: Mask = np.any(np.all(apart <= 1.0 + 1e-9, axis=2), axis=1)
        return near

    def _expander(self, open_: Mask, behind: Array, goodput: Guess) -> int:
        """The safe setting nearest to the most promising one that is not known to be safe; -1 where there is none."""
        goal = int(np.argmax(behind))
        doubtful = open_ & (goodput.spread > 2 * self._care.least_gain_ratio)
        if behind[goal] < 2 * self._care.least_gain_ratio or not doubtful.any():
            return -1
        apart = np.sum((self._places - self._places[goal]) ** 2, axis=1)
        return int(np.argmin(np.where(doubtful, apart, np.inf)))


def ended(past: Sequence[Tried], reason: str, left_ratio: float = 0.0) -> Done:
    """The best of what was tried, the first of it being the present setting."""
    kept = [each for each in past if each.measured.kept]
    best = max(kept, key=lambda each: each.per_gpu_rps, default=None)
    rate, broken = best.per_gpu_rps if best else 0.0, len(past) - len(kept)
    return Done(best.setting if best else None, rate, past[0].per_gpu_rps, len(past), broken, left_ratio, reason)


def search(runner: Runner, space: Space, care: Care | None = None) -> tuple[Done, tuple[Tried, ...]]:
    """Try until it is done: the result and every trial."""
    tuner, past = Tuner(space, care), list[Tried]()
    while isinstance(step := tuner.propose(past), Trial):
        past.append(Tried(step.setting, runner.run(step.setting)))
    return step, tuple(past)


def _improvement(found: Guess, best: float) -> Array:
    """Expected improvement over `best`, both logarithms, so a ratio: [points] (Mockus 1974)."""
    spread = np.maximum(found.spread, 1e-9)
    ahead = (found.mean - best) / spread
    below = np.array([0.5 * (1 + erf(each / sqrt(2))) for each in ahead])
    density = np.exp(-0.5 * ahead**2) / sqrt(2 * pi)
    improvement: Array = spread * (ahead * below + density)
    return improvement
