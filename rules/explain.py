"""Why each rule fired, or did not, at a moment: in words, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.events import Message, Sli, Tick
from contracts.laws.bounds import cooling, fresh
from rules.core import fold
from rules.core.amounts import Lacking, spec
from rules.core.conditions import Standing, current_value, holds, still_fresh
from rules.core.fold import RuleSettings, WatchState
from rules.core.reference import PythonEngine, fire
from rules.core.ruleset import ReadyCondition, ReadyRule, RuleSet

_TICK_MS = 1000


class RuleState(StrEnum):
    """What a rule does at a moment: proposes, fires but cools down, fires but lacks a number, or does not fire."""

    PROPOSES = "proposes"
    COOLING = "cooling"
    NUMBERLESS = "numberless"
    QUIET = "quiet"


@dataclass(frozen=True)
class RuleAccount:
    """One rule at one moment. `why` is a line for each condition that matters; `last_ms` is when it last proposed in
    the history that was looked at (None: not in it)."""

    rule: str
    pack: str
    priority: int
    state: RuleState
    why: tuple[str, ...]
    last_ms: int | None = None
    cooldown_left_s: float = 0.0


def replay(rules: RuleSet, slis: Sequence[Sli], at_ms: int, max_age_s: float = 30.0) -> list[RuleAccount]:
    """Every rule at event time `at_ms`, highest priority first, from the SLIs of one workload up to then.

    Holds and cooldowns are those of the history that is handed over: `rules.history_s` says how much is enough.
    """
    settings = RuleSettings(max_age_s=max_age_s)
    known = [sli for sli in slis if sli.cause_ms <= at_ms]
    state, _ = fold.step(rules, PythonEngine(rules.shapes), settings, None, with_ticks(known, at_ms))
    if state is None:
        nothing = ("nothing is known of the workload at this moment",)
        return [RuleAccount(r.name, r.pack, r.rule.priority, RuleState.QUIET, nothing) for r in rules.rules]
    return [
        _account(rules, rule, state.watch, state.fired.proposed_ms.get(rule.name), settings) for rule in rules.rules
    ]


def with_ticks(slis: Sequence[Sli], until_ms: int) -> list[Message]:
    """SLIs in the order in which they came about, and a tick after those of each second, the last at `until_ms`."""
    ordered = sorted(slis, key=lambda sli: (sli.cause_ms, sli.end_ms, -sli.size_s))
    log: list[Message] = []
    tick_ms = (ordered[0].cause_ms // _TICK_MS + 1) * _TICK_MS if ordered else until_ms
    for sli in ordered:
        while tick_ms < sli.cause_ms:
            log.append(Tick(at_ms=tick_ms, partition=0))
            tick_ms += _TICK_MS
        log.append(sli)
    log += [Tick(at_ms=at_ms, partition=0) for at_ms in range(tick_ms, until_ms, _TICK_MS)]
    return [*log, Tick(at_ms=until_ms, partition=0)]


def _account(
    rules: RuleSet, rule: ReadyRule, watch: WatchState, last_ms: int | None, settings: RuleSettings
) -> RuleAccount:
    conditions = {each.key: each for each in rules.conditions}
    standing = {key: watch.conditions.get(each.memory, Standing()) for key, each in conditions.items()}
    facts = {key: holds(each, standing[key], watch.at_ms) for key, each in conditions.items()}

    def words(keys: Sequence[str]) -> Iterator[str]:
        for key in keys:
            yield _words(conditions[key], standing[key], watch, settings.max_age_s)

    def told(state: RuleState, *why: str, left_s: float = 0.0) -> RuleAccount:
        return RuleAccount(rule.name, rule.pack, rule.rule.priority, state, why, last_ms, left_s)

    shape = rule.shape
    if not fire([shape], facts):
        unmet = [key for key in shape.all if not facts[key]]
        if not any(facts[key] for key in shape.any):
            unmet += shape.any
        forbidding = [key for key in shape.none if facts[key]]
        return told(RuleState.QUIET, *words(unmet), *(f"forbidden by {each}" for each in words(forbidding)))
    why = tuple(words(rule.conditions))
    if last_ms is not None and last_ms != watch.at_ms and cooling(last_ms, rule.rule.cooldown, watch.at_ms):
        left_s = rule.rule.cooldown - (watch.at_ms - last_ms) / 1000.0
        cooldown = f"cooling down, {left_s:g} s of {rule.rule.cooldown:g} s left"
        return told(RuleState.COOLING, cooldown, *why, left_s=left_s)
    try:
        spec(rule.rule, still_fresh(watch.evidence, watch.at_ms, settings.max_age_s))
    except Lacking as lacking:
        return told(RuleState.NUMBERLESS, str(lacking), *why)
    return told(RuleState.PROPOSES, *why)


def _words(condition: ReadyCondition, standing: Standing, watch: WatchState, max_age_s: float) -> str:
    """One condition as it stands: `burning: ttft_burn_rate over 10 s is 0.4, needs > 2`."""
    bound, at_ms = condition.bound, watch.at_ms
    over = f"{bound.sli} over {bound.size_s} s" if bound.size_s else bound.sli
    needs = f"{bound.comparator.sign} {bound.value:g}"
    value = current_value(condition, watch.evidence, at_ms, max_age_s)
    if value is not None:
        text = f"{over} is {value:g}"
        if not standing.on:
            return f"{condition.name}: {text}, needs {needs}"
        if not bound.comparator.compare(value, bound.value):
            keeping = condition.keeping
            text += f", was {needs} and stays true while {keeping.comparator.sign} {keeping.value:g}"
        else:
            text += f", {needs}"
    else:
        text = f"{over} is {_lack(condition, watch, max_age_s)}, on_missing: {condition.on_missing}"
        if not standing.on:
            return f"{condition.name}: {text}, needs {needs}"
    held_s = (at_ms - (standing.since_ms or 0)) / 1000.0
    held = f"held {held_s:g} s" + ("" if holds(condition, standing, at_ms) else f" of {condition.for_s:g} s")
    return f"{condition.name}: {text}, {held}"


def _lack(condition: ReadyCondition, watch: WatchState, max_age_s: float) -> str:
    """Why there is no value: never told, too old, or told as missing."""
    size_s = condition.bound.size_s
    reading = watch.evidence.get(size_s)
    if reading is None:
        return "not told yet"
    if not fresh(reading, size_s, watch.at_ms, max_age_s):
        age_s = (watch.at_ms - reading.end_ms) / 1000.0 + reading.freshness_s
        return f"too old ({age_s:g} s)"
    return "missing"
