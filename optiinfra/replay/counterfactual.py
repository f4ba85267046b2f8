"""What each rule did to the bill: the same replay once more without it, and the difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from optiinfra.replay.account import PipelineResult
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.pipeline import Surroundings, replay_pipeline
from rules.book import RuleBook


class Counterfactual(BaseModel):
    """The replay without one rule, less the replay with it: above 0 means that without the rule it is more.

    `replica_s` and `usd` are billed in the scored span, `attainment_ratio` is a difference of shares, `actions` of
    actions that ended with something done. `fired` is how often the rule fired where it was on.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    pack: str
    fired: int
    replica_s: int
    usd: float
    attainment_ratio: float
    undone: int
    held: int
    actions: int


def counterfactuals(
    arrivals: NDArray[np.int64],
    options: PipelineOptions,
    baseline: PipelineResult,
    surroundings: Surroundings | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Counterfactual, ...]:
    """One replay for every rule of every pack, against `baseline`, the result of the same arguments; of a rule that
    never fired the replay is `baseline` itself. `progress` is told how many rules are done, of how many. Highest
    priority first; rules that are off already are left out."""
    rules = [rule for rule in RuleBook(options.rules).rules.rules if rule.name not in options.rules_off]
    found: list[Counterfactual] = []
    for number, rule in enumerate(rules, 1):
        other = baseline
        if baseline.fired.get(rule.name):
            without = options.model_copy(update={"rules_off": options.rules_off | {rule.name}})
            other = replay_pipeline(arrivals, without, surroundings)
        found.append(_difference(rule.name, rule.pack, baseline, other))
        if progress is not None:
            progress(number, len(rules))
    return tuple(found)


def _difference(rule: str, pack: str, told: PipelineResult, other: PipelineResult) -> Counterfactual:
    return Counterfactual(
        rule=rule,
        pack=pack,
        fired=told.fired.get(rule, 0),
        replica_s=other.cost.replica_s - told.cost.replica_s,
        usd=other.cost.usd - told.cost.usd,
        attainment_ratio=other.cost.attainment_ratio - told.cost.attainment_ratio,
        undone=other.undone - told.undone,
        held=other.held - told.held,
        actions=_done(other) - _done(told),
    )


def _done(result: PipelineResult) -> int:
    return sum(deed.began_s is not None for deed in result.deeds)
