"""Orders replicas before the load needs them, and no more of them than the objective asks for.

Each look it grows to the need that is guessed for the end of a start-up, plus a caution, and shrinks to no less than
the peak that is guessed for the next minutes, plus a reluctance; both are measured in usual errors of the guess. How
much of either the objective asks for is set by nobody: fleets on paper rehearse on the same traffic (`fleets.py`), and
the real one does as those that would have met the target and seldom turned (`choice.py`), corrected by its own misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from agents.performance.core.choice import TURNS_A_DAY, Choice, Chooser
from agents.performance.core.fleets import Fleets, Habits
from agents.performance.core.folding import fold, unfold
from agents.performance.core.forecast import Forecaster, Outlook
from agents.performance.core.series import Array, twin
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts, LoadSeen

CHOOSE_S = 900
"""Seconds between two choices of caution and reluctance."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The numbers that made one choice.

    `replicas`: the answer, ready and starting together. `expected_rps`: the need to come after a start-up.
    `spread_ratio`: its usual error, as a ratio. `caution`: errors added, which gives `quantile_rps`. `floor_rps`: the
    present rate, below which it never plans. `queue_then`: requests that will still wait when a replica ordered now
    serves, and `queue_replicas` ordered for them. `peak_rps`, `peak_spread_ratio`, `reluctance`: the same of the most
    that the next minutes will need, which gives `held_replicas`: the fleet does not shrink below.
    `allowed_ratio`: share of requests that may be late by now. `burn`: share really late over share allowed by the
    target. `blind`: nothing was measured, so nothing was lowered; the other numbers are those of the last look.
    """

    replicas: int
    expected_rps: float = 0.0
    spread_ratio: float = 0.0
    caution: float = 0.0
    quantile_rps: float = 0.0
    floor_rps: float = 0.0
    queue_then: float = 0.0
    queue_replicas: float = 0.0
    peak_rps: float = 0.0
    peak_spread_ratio: float = 0.0
    reluctance: float = 0.0
    held_replicas: float = 0.0
    allowed_ratio: float = 0.0
    burn: float = 0.0
    blind: bool = False

    def explain(self) -> str:
        """The choice in one line."""
        if self.blind:
            return (
                f"{self.replicas} replicas: nothing is measured, so nothing is lowered, "
                f"and the peak that was guessed last, {self.peak_rps:.4g} req/s, is prepared for"
            )
        return (
            f"{self.replicas} replicas: {self.expected_rps:.4g} req/s expected after the start-up, with "
            f"{self.caution:.2g} errors of {self.spread_ratio:.1%} {self.quantile_rps:.4g}; now {self.floor_rps:.4g}; "
            f"{self.queue_then:.4g} will wait then, {self.queue_replicas:.2g} replicas for them; "
            f"shrinks to {self.held_replicas:.3g} at most, for a peak of {self.peak_rps:.4g} and {self.reluctance:.2g} "
            f"errors of {self.peak_spread_ratio:.1%}; {self.allowed_ratio:.2%} may be late, "
            f"burn {self.burn:.2g}"
        )


class PredictiveScaler:
    """A Scaler by forecast, rehearsal and error budget. `target`: share of requests in time, 0.5 to below 1.
    `turns_a_day`: how often it may go from growing to falling or back; the oftener, the cheaper.

    Column 0 of its fleets is the real one. `last` holds the numbers of the newest answer.
    """

    def __init__(self, facts: FleetFacts, *, target: float = 0.99, turns_a_day: float = TURNS_A_DAY) -> None:
        if not 0.5 <= target < 1.0:
            raise ConfigError(f"target is {target}", where="scaler", fix="Name a share from 0.5 to below 1, as 0.99.")
        if not turns_a_day > 0:
            raise ConfigError(f"turns_a_day is {turns_a_day}", where="scaler", fix="Name a number above 0, as 36.")
        _check(facts)
        self._facts = facts
        self._forecaster = Forecaster(facts.startup_s, facts.decide_s)
        self._chooser = Chooser(target, facts.decide_s, turns_a_day)
        self._choice = self._chooser.choose()
        caution = np.concatenate(([self._choice.caution], self._chooser.cautions))
        reluctance = np.concatenate(([self._choice.reluctance], self._chooser.reluctances))
        self._fleets = Fleets(facts, caution, reluctance, Habits())
        self._chosen_s = 0
        self.last = Decision(facts.least)

    def decide(self, seen: LoadSeen) -> int:
        """Replicas there should be, ready and starting together."""
        self._fleets.real(seen.ready, seen.starting, seen.waiting)
        if not seen.arrived:
            return self._blind(seen)
        fleets, chooser = self._fleets, self._chooser
        seconds = np.array(seen.arrived, dtype=float)
        outlook = self._forecaster.see(seen.arrived)
        late = fleets.serve(seconds, outlook.need_rps)
        fleets.real(seen.ready, seen.starting, seen.waiting)
        fleets.decide(outlook)
        paper = slice(1, None)
        chooser.add(sum(seen.arrived), late[paper], fleets.turned[paper], seen.late)
        self._chosen_s += len(seconds)
        self.last = self._told(outlook)
        if self._chosen_s >= CHOOSE_S:
            self._chosen_s = 0
            self._choice = chooser.choose()
            fleets.follow(self._choice.caution, self._choice.reluctance)
        return self.last.replicas

    def copy(self) -> PredictiveScaler:
        """A scaler that knows the same and goes on by itself."""
        new = twin(self)
        new._forecaster, new._chooser, new._fleets = (
            self._forecaster.copy(),
            self._chooser.copy(),
            self._fleets.copy(),
        )
        return new

    def relearn(self, facts: FleetFacts) -> None:
        """The same fleet turned out otherwise: it keeps what it knows of the load and plans with these from now on.

        Raises ConfigError for facts that describe no fleet, and for another `decide_s`.
        """
        _check(facts)
        if facts.decide_s != self._facts.decide_s:
            raise ConfigError(
                f"a look each {facts.decide_s} s, not {self._facts.decide_s} s",
                where="scaler",
                fix="Begin a new scaler for another cadence.",
            )
        if facts.startup_s != self._facts.startup_s:
            self._forecaster.look_ahead(facts.startup_s)
        self._fleets.relearn(facts)
        self._facts = facts

    def pack(self) -> str:
        """All it knows, as text for JSON; some tens of kilobytes after a day."""
        facts = np.array([float(getattr(self._facts, each.name)) for each in fields(self._facts)])
        own = {"facts": facts, "chosen": np.array([float(self._chosen_s)]), "last": _numbers(self.last)}
        return fold(own | {"choice": _numbers(self._choice)} | self._parts())

    @classmethod
    def unpack(
        cls, facts: FleetFacts, text: str, *, target: float = 0.99, turns_a_day: float = TURNS_A_DAY
    ) -> PredictiveScaler:
        """A scaler that goes on where the packed one stood. Facts that have changed since are relearnt.

        Raises ConfigError for text that `pack` did not write, and where `relearn` does.
        """
        state = unfold(text)
        try:
            scaler = cls(_facts(state["facts"]), target=target, turns_a_day=turns_a_day)
            scaler._restore(state)
        except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise ConfigError("the text of no scaler", where="scaler", fix="Begin a new scaler.") from error
        if facts != scaler._facts:
            scaler.relearn(facts)
        return scaler

    def _parts(self) -> dict[str, Array]:
        return self._forecaster.state() | self._fleets.state() | self._chooser.state()

    def _restore(self, state: dict[str, Array]) -> None:
        for name, mine in self._parts().items():
            told = state[name]
            if told.ndim != mine.ndim or (told.ndim > 1 and told.shape != mine.shape):
                raise ValueError(name)
            if name != "rows" and not np.isfinite(told).all():
                raise ValueError(name)
        for part in (self._forecaster, self._fleets, self._chooser):
            part.restore(state)
        self._chosen_s = int(state["chosen"][0])
        self._choice = Choice(*state["choice"].tolist())
        last = dict(zip((each.name for each in fields(Decision)), state["last"].tolist(), strict=True))
        self.last = Decision(**last | {"replicas": int(last["replicas"]), "blind": bool(last["blind"])})

    def _told(self, outlook: Outlook) -> Decision:
        fleets, choice, ahead, peak = self._fleets, self._choice, outlook.ahead, outlook.peak
        return Decision(
            replicas=int(fleets.size[0]),
            expected_rps=math.exp(ahead.log_rps),
            spread_ratio=ahead.spread,
            caution=choice.caution,
            quantile_rps=math.exp(ahead.log_rps + choice.caution * ahead.spread),
            floor_rps=outlook.now_rps,
            queue_then=float(fleets.left[0]),
            queue_replicas=float(fleets.extra[0]),
            peak_rps=math.exp(peak.log_rps),
            peak_spread_ratio=peak.spread,
            reluctance=choice.reluctance,
            held_replicas=float(fleets.held[0]),
            allowed_ratio=choice.allowed_ratio,
            burn=choice.burn,
        )

    def _blind(self, seen: LoadSeen) -> int:
        """Who cannot see stands ready for the peak that was guessed last, and gives up nothing."""
        self._fleets.stand()
        self._forecaster.miss()
        peak = max(self.last.held_replicas, self.last.peak_rps / self._facts.capacity_rps)
        ready_for = min(math.ceil(peak - 1e-9), self._facts.most)
        replicas = max(seen.ready + seen.starting, self.last.replicas, ready_for)
        self.last = replace(self.last, replicas=replicas, blind=True)
        return replicas


def _check(facts: FleetFacts) -> None:
    if not (facts.capacity_rps > 0 and facts.decide_s > 0 and facts.startup_s >= 0):
        raise ConfigError(
            f"capacity {facts.capacity_rps} req/s, a look each {facts.decide_s} s, start-up {facts.startup_s} s",
            where="scaler",
            fix="The first two are above 0, the third is not below.",
        )


def _numbers(record: Decision | Choice) -> Array:
    return np.array([float(getattr(record, each.name)) for each in fields(record)])


def _facts(numbers: Array) -> FleetFacts:
    capacity_rps, service_s, startup_s, *whole = numbers.tolist()
    return FleetFacts(capacity_rps, service_s, startup_s, *map(int, whole))
