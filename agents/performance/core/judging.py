"""Judges a canary that has another engine setting: no worse than the rest, and of use, or not.

Whether it is no worse says `canary.py`, from all requests. Whether it is of use shows only under the load that asked
for the trial: there it must finish more than a replica of the rest, or about as much with fewer of them late.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.performance.core.canary import Decision, Seen
from agents.performance.core.minutes import Minute, replica_seen
from agents.performance.core.steering_state import Phase, Trial, TuningState
from agents.performance.core.trials import Setting
from agents.performance.core.usage import telling

HOUR_MS = 3_600_000
TELLING_MINUTES = 5
"""Minutes of the load that asked for the trial, before which nothing is kept."""
LONGEST_MS = 6 * HOUR_MS
"""A trial that is not settled by then is taken back."""
PACE_GAIN, PACE_HELD, LATE_LESS = 1.01, 0.98, 0.9
"""Of use: the canary finishes so much more than a replica of the rest, or about as much with so many fewer late."""


def watched(
    trial: Trial, end_ms: int, own: Minute, rest: Mapping[str, Minute], present: Setting, target: float
) -> Trial:
    """The trial with one more minute of the canary and of the rest."""
    told = sum(telling(each, trial.why, present) for each in rest.values()) * 2 >= len(rest)
    done, good = own.in_time
    sums = [sum(each) for each in zip(*(each.in_time for each in rest.values()), strict=True)]
    mean = sum(each.finished for each in rest.values()) / len(rest)
    return trial.model_copy(
        update={
            "requests": trial.requests.see(Seen(done, good, sums[0], sums[1])),
            "usage": trial.usage.seen((own,), end_ms, trial.setting),
            "capacity": trial.capacity.seen(replica_seen({trial.canary: own}), target),
            "telling": trial.telling + told,
            "paced": (trial.paced[0] + own.finished, trial.paced[1] + mean) if told else trial.paced,
        }
    )


def verdict_of(state: TuningState, trial: Trial, at_ms: int) -> TuningState:
    """What the canary comes to at `at_ms`: kept, taken back, or looked at further."""
    verdict = trial.requests.verdict()
    if verdict.decision is Decision.STOP:
        return judged(state, Phase.BACK, verdict.explain())
    if verdict.decision is Decision.KEEP and trial.telling >= TELLING_MINUTES:
        pace = trial.paced[0] / trial.paced[1] if trial.paced[1] > 0 else 1.0
        late, rest_late = (1 - arm.good / arm.requests for arm in (trial.requests.canary, trial.requests.rest))
        words = f"{verdict.explain()}; {_pace(trial)}, late {late:.2%} for {rest_late:.2%}"
        if pace >= PACE_GAIN or (pace >= PACE_HELD and late < LATE_LESS * rest_late):
            return judged(state, Phase.ROLLING, words)
        return judged(state, Phase.BACK, f"of no use: {words}")
    if at_ms - trial.since_ms > LONGEST_MS:
        return judged(state, Phase.BACK, f"not settled in {LONGEST_MS // HOUR_MS} hours: {so_far(trial)}")
    return state


def judged(state: TuningState, phase: Phase, words: str) -> TuningState:
    """The trial with an end, and the words for it."""
    trial = state.trial
    if trial is None:
        return state
    return state.model_copy(update={"phase": phase, "trial": trial.model_copy(update={"verdict": words})})


def gain(trial: Trial) -> dict[str, float]:
    """How much more the canary finished than a replica of the rest, as a number of the finding."""
    own, rest = trial.paced
    return {"goodput_gain_ratio": max(0.0, own / rest - 1)} if rest > 0 else {}


def _pace(trial: Trial) -> str:
    own, rest = trial.paced
    if rest <= 0:
        return "no minute yet of the load that asked for it"
    return f"in {trial.telling} minutes of the load that asked for it {own:.0f} requests for {rest:.0f} of another"


def so_far(trial: Trial) -> str:
    """What was seen of it, in words."""
    return f"{trial.requests.verdict().explain()}; {_pace(trial)}"
