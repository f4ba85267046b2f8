"""Which replicas have the setting of a trial that is taken back: the canary, and whom a roll-out has reached.

They lose it one at a time, each by an action of its own: such a one waits for no start-up and no burning budget
(`ActionSpec.frees_one`), and what hurts goes the faster. Who is set back next stands in the trial as its canary.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from agents.performance.core.steering_state import Trial


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
