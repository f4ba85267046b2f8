"""Which replicas have the setting of a trial that is taken back: the canary, and whom a roll-out has reached. Who came
after that had begun may have been launched with it, and counts as reached too.

They lose it one at a time, each by an action of its own: such a one waits for no start-up and no burning budget
(`ActionSpec.frees_one`), and what hurts goes the faster. Who is set back next stands in the trial as its canary.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence

from agents.performance.core import learning
from agents.performance.core.judging import HOUR_MS
from agents.performance.core.learning import DAY_MS, WORDS_LIMIT
from agents.performance.core.steering_state import Learnt, Phase, Trial, TuningState


def reached(trial: Trial, names: Iterable[str], *, surely: bool) -> Trial:
    """With replicas that a roll-out has given the setting to, or may have."""
    more = {name: surely for name in sorted(names) if name != trial.canary}
    return trial.model_copy(update={"reached": trial.reached | more})


def have(trial: Trial) -> set[str]:
    """The replicas that surely have the setting."""
    return {trial.canary, *(name for name, surely in trial.reached.items() if surely)}


def next_of(trial: Trial, answering: Container[str]) -> str | None:
    """Who can be set back now: the canary first."""
    return next((name for name in (trial.canary, *trial.reached) if name in answering), None)


def without(trial: Trial, names: Container[str]) -> Trial | None:
    """The trial once these have the setting of the others again, or are gone; None when nobody is left."""
    left = [name for name in (trial.canary, *trial.reached) if name not in names]
    if not left:
        return None
    rest = {name: trial.reached[name] for name in left[1:]}
    asked_anew = {"refused": 0, "needless": 0, "again_ms": 0}
    return trial.model_copy(update={"canary": left[0], "reached": rest} | asked_anew)


def with_new(state: TuningState, listed: Collection[str]) -> TuningState:
    """With those who came since the roll-out began among the reached: a controller gives new replicas a setting with
    the last of the others, and whoever is launched before it is taken back keeps it."""
    trial = state.trial
    if trial is None or (trial.there is None and state.phase is not Phase.ROLLING):
        return state
    there = listed if trial.there is None else trial.there
    new = set(listed) - {*there, trial.canary, *trial.reached}
    everybody = tuple(sorted({*there, *listed}))
    if everybody == trial.there:
        return state
    trial = reached(trial, new, surely=False).model_copy(update={"there": everybody})
    return state.model_copy(update={"trial": trial})


def parked(state: TuningState, trial: Trial) -> TuningState:
    """A trial is over but for replicas that hang: nobody waits for them."""
    before = state.parked
    if before is not None:
        trial = reached(trial, (before.canary, *before.reached), surely=False)
    # Who comes from now on is launched with what the others have.
    changes = {"there": None, "refused": 0, "needless": 0, "again_ms": 0}
    return state.model_copy(update={"parked": trial.model_copy(update=changes)})


def resumed(state: TuningState, answering: Container[str]) -> TuningState:
    """With a trial that was parked taken back further, once one of its replicas answers and nothing else is tried."""
    trial = state.parked
    if trial is None or state.trial is not None or state.busy or next_of(trial, answering) is None:
        return state
    return state.model_copy(update={"phase": Phase.BACK, "trial": trial, "parked": None})


def gone(state: TuningState, known: Sequence[str]) -> TuningState:
    """Without replicas that are not there any more; a trial whose canary is not settled nothing until then."""
    trial, waits = state.trial, state.parked
    if any(name not in known for name in state.given):
        state = state.model_copy(update={"given": tuple(name for name in state.given if name in known)})
    if waits is not None and (away := {waits.canary, *waits.reached} - set(known)):
        state = state.model_copy(update={"parked": without(waits, away)})
    lost = set() if trial is None else {trial.canary, *trial.reached} - set(known)
    if trial is None or not lost or state.phase is Phase.ROLLING:
        return state
    left = without(trial, lost)
    if left is not None:
        return state.model_copy(update={"trial": left})
    until_ms = trial.since_ms + HOUR_MS
    if state.phase is Phase.BACK:
        usual_ms = learning.FOREVER_MS if trial.effect is not None else trial.since_ms + DAY_MS
        until_ms = usual_ms if trial.bar_ms is None else trial.since_ms + trial.bar_ms
    words = trial.verdict[:WORDS_LIMIT] or f"{trial.canary} is gone"
    state = learning.with_learnt(state, Learnt(setting=trial.setting, kept=False, until_ms=until_ms, words=words))
    return state.model_copy(update={"phase": Phase.IDLE, "trial": None})


def given(state: TuningState, names: Sequence[str]) -> TuningState:
    """With replicas that have the present setting, or are left as they are."""
    if state.present is None or set(names) <= set(state.given):
        return state
    return state.model_copy(update={"given": tuple(sorted({*state.given, *names}))})
