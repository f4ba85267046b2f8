"""Judges a canary that has another engine setting: no worse than the rest, and of use, or not.

Whether it is no worse says `canary.py`, from all requests. Whether it is of use shows only under the load that asked
for the trial: there it must finish more than a replica of the rest, or about as much with fewer of them late, by more
than chance does. One that hardly finishes anything is taken back whatever its requests in time are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from agents.performance.core.canary import Canary, Decision, Seen
from agents.performance.core.comparing import Effect
from agents.performance.core.learning import DAY_MS
from agents.performance.core.minutes import Minute, replica_seen
from agents.performance.core.steering_state import Declared, Phase, Trial, TuningState
from agents.performance.core.trials import Setting, in_words
from agents.performance.core.usage import telling

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TELLING_MINUTES, ENOUGH_MINUTES = 5, 30
"""Minutes of the load that asked for the trial, before which nothing is kept, and after which all is decided."""
SURE = 2.0
"""Standard errors by which the canary must differ from the rest."""
HALF, SILENT_MINUTES = 0.5, 5
"""A canary that finishes less than this share of what another does, or nothing in so many minutes, is taken back."""
LONGEST_MS = 6 * HOUR_MS
"""A trial that is not settled by then is taken back."""
PACE_GAIN, PACE_HELD, LATE_LESS = 1.01, 0.98, 0.9
"""Of use: the canary finishes so much more than a replica of the rest, or about as much with so many fewer late."""


def watched(
    trial: Trial, end_ms: int, own: Minute, rest: Mapping[str, Minute], present: Setting, target: float
) -> Trial:
    """The trial with one more minute of the canary and of the rest."""
    told = sum(telling(each, trial.why, present) for each in rest.values()) * 2 >= len(rest)
    if trial.effect is not None:
        trial = _tiered(trial, trial.effect, end_ms, own, rest)
    done, good = own.in_time
    sums = [sum(each) for each in zip(*(each.in_time for each in rest.values()), strict=True)]
    mean = sum(each.finished for each in rest.values()) / len(rest)
    silent = done == 0 and own.finished == 0 and own.running + own.waiting >= 1 and mean > 0
    return trial.model_copy(
        update={
            "requests": trial.requests.see(Seen(done, good, sums[0], sums[1])),
            "usage": trial.usage.seen((own,), end_ms, trial.setting),
            "capacity": trial.capacity.seen(replica_seen({trial.canary: own}), target),
            "telling": trial.telling + told,
            "paced": (trial.paced[0] + own.finished, trial.paced[1] + mean) if told else trial.paced,
            # Counts of requests vary by themselves, that of a mean of several replicas less.
            "spread": trial.spread + (own.finished + mean / len(rest) if told else 0.0),
            "silent": trial.silent + 1 if silent else 0,
        }
    )


def _tiered(trial: Trial, effect: Effect, end_ms: int, own: Minute, rest: Mapping[str, Minute]) -> Trial:
    """The same of a trial of KV tiers; all that was seen in the warm-up is forgotten when that is over."""
    if end_ms - MINUTE_MS < effect.warm_ms:
        return trial
    if not effect.warm:
        fresh = {"requests": Canary(trial.requests.terms), "telling": 0, "paced": (0.0, 0.0), "spread": 0.0}
        effect = effect.model_copy(update={"warm": True, "served": Canary(trial.requests.terms)})
        trial = trial.model_copy(update=fresh)
    return trial.model_copy(update={"effect": effect.seen(own, rest.values())})


def verdict_of(state: TuningState, trial: Trial, at_ms: int) -> TuningState:
    """What the canary comes to at `at_ms`: kept, taken back, or looked at further."""
    verdict = trial.requests.verdict()
    if verdict.decision is Decision.STOP and trial.effect is None:
        return judged(state, Phase.BACK, verdict.explain())
    if trial.silent >= SILENT_MINUTES:
        return judged(state, Phase.BACK, f"nothing came of its requests in {trial.silent} minutes: {so_far(trial)}")
    own, other = trial.paced
    behind = own < HALF * other and other - own > SURE * sqrt(trial.spread)
    if behind and trial.telling >= TELLING_MINUTES:
        return judged(state, Phase.BACK, f"it finishes less than half of what another does: {so_far(trial)}")
    if trial.effect is not None:
        kept, words = trial.effect.settled(verdict, at_ms)
        if kept is not None:
            return judged(state, Phase.ROLLING if kept else Phase.BACK, words)
        return _overdue(state, trial, at_ms)
    both_told = min(trial.requests.canary.requests, trial.requests.rest.requests) > 0
    if verdict.decision is Decision.KEEP and trial.telling >= TELLING_MINUTES and both_told:
        more, fewer, words = _of_use(trial, verdict.clump)
        words = f"{verdict.explain()}; {words}"
        if more > SURE or fewer > SURE:
            return judged(state, Phase.ROLLING, words)
        if max(more, fewer) <= 0 or trial.telling >= ENOUGH_MINUTES:
            return judged(state, Phase.BACK, f"of no use: {words}")
    return _overdue(state, trial, at_ms)


def _overdue(state: TuningState, trial: Trial, at_ms: int) -> TuningState:
    if at_ms - trial.since_ms > LONGEST_MS:
        # What nothing was told of may be told another day: a server of another version, a connector that is mended.
        bar_ms = DAY_MS if trial.effect is not None and trial.effect.untold else None
        words = f"not settled in {LONGEST_MS // HOUR_MS} hours: {so_far(trial)}"
        return judged(state, Phase.BACK, words, bar_ms=bar_ms)
    return state


def _of_use(trial: Trial, clump: float) -> tuple[float, float, str]:
    """By how many standard errors it finished more, and by how many fewer were late; 0 where it is too little to be of
    use; and both in words."""
    own, other = trial.paced
    canary, rest = trial.requests.canary, trial.requests.rest
    late, rest_late = (1 - arm.good / arm.requests for arm in (canary, rest))
    both = 1 - (canary.good + rest.good) / (canary.requests + rest.requests)
    error = sqrt(clump * both * (1 - both) * (1 / canary.requests + 1 / rest.requests))
    more = (own - other) / sqrt(trial.spread) if own >= PACE_GAIN * other and trial.spread > 0 else 0.0
    fewer = (rest_late - late) / error if own >= PACE_HELD * other and late < LATE_LESS * rest_late else 0.0
    found = f"more by {more:.1f} standard errors, fewer late by {fewer:.1f}, {SURE:g} are told from chance"
    return more, fewer, f"{_pace(trial)}, late {late:.2%} for {rest_late:.2%}; {found}"


def withdrawn(state: TuningState, declared: Declared | None) -> TuningState:
    """A trial of KV tiers that nobody declares any more ends, whatever it showed; that bars them from nothing."""
    trial = state.trial
    if trial is None or trial.effect is None or state.phase not in (Phase.TRYING, Phase.ROLLING):
        return state
    if declared is not None and declared.tiers == trial.setting.tiers:
        return state
    return judged(state, Phase.BACK, f"{in_words(trial.setting.tiers)} are no longer declared", bar_ms=0)


def judged(state: TuningState, phase: Phase, words: str, *, bar_ms: int | None = None) -> TuningState:
    """The trial with an end, and the words for it."""
    trial = state.trial
    if trial is None:
        return state
    changes = {"verdict": words, "bar_ms": bar_ms, "refused": 0, "needless": 0, "again_ms": 0}
    return state.model_copy(update={"phase": phase, "trial": trial.model_copy(update=changes)})


def gain(trial: Trial) -> dict[str, float]:
    """How much more the canary finished than a replica of the rest, as a number of the finding; what its KV tiers do,
    where it has others."""
    if trial.effect is not None:
        return trial.effect.numbers() if trial.effect.warm else {}
    own, rest = trial.paced
    return {"goodput_gain_ratio": max(0.0, own / rest - 1)} if rest > 0 else {}


def _pace(trial: Trial) -> str:
    own, rest = trial.paced
    if rest <= 0:
        return "no minute yet of the load that asked for it"
    return f"in {trial.telling} minutes of the load that asked for it {own:.0f} requests for {rest:.0f} of another"


def so_far(trial: Trial) -> str:
    """What was seen of it, in words."""
    if trial.effect is not None:
        seen = trial.effect.explain() if trial.effect.warm else "it warms up"
        return f"{seen}; {trial.requests.verdict().explain()}"
    return f"{trial.requests.verdict().explain()}; {_pace(trial)}"
