"""Why each rule fired, or did not, at a moment: in words, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.events import Message, Tick
from contracts.laws.bounds import cooling, fresh
from rules.core import fold
from rules.core.amounts import Lacking, spec
from rules.core.conditions import Standing, Told, current_value, holds, still_fresh, told_ms
from rules.core.fold import RuleSettings, WatchState
from rules.core.language import OnMissing
from rules.core.reference import PythonEngine, fire
from rules.core.ruleset import ReadyCondition, ReadyRule, RuleSet

_TICK_MS = 1000


class RuleState(StrEnum):
    """What a rule does at a moment: proposes, fires though no proposal of it is known, fires but cools down, fires but
    lacks a number, or does not fire."""

    PROPOSES = "proposes"
    FIRES = "fires"
    COOLING = "cooling"
    NUMBERLESS = "numberless"
    QUIET = "quiet"


@dataclass(frozen=True)
class RuleAccount:
    """One rule at one moment. `why` is a line for each condition that matters; `last_ms` is when it last proposed, as
    far as that is known (None: it is not)."""

    rule: str
    pack: str
    priority: int
    state: RuleState
    why: tuple[str, ...]
    last_ms: int | None = None
    cooldown_left_s: float = 0.0


def replay(
    rules: RuleSet,
    slis: Sequence[Told],
    at_ms: int,
    max_age_s: float = 30.0,
    proposed_ms: Mapping[str, int] | None = None,
) -> list[RuleAccount]:
    """Every rule at event time `at_ms`, highest priority first, from the SLIs and findings of one workload up to
    then.

    Without `proposed_ms` they are all there ever were, and holds and cooldowns are those of this history. With it
    they are cut out of a longer one, of which `rules.history_s` is enough: `proposed_ms` says when each rule last
    proposed, up to `at_ms`, no other proposal is claimed, and a hold that may have begun before the cut says `≥`.
    """
    settings = RuleSettings(max_age_s=max_age_s)
    log = with_ticks([each for each in slis if told_ms(each) <= at_ms], at_ms)
    state, _ = fold.step(rules, PythonEngine(rules.shapes), settings, None, log)
    if state is None:
        nothing = ("nothing is known of the workload at this moment",)
        return [RuleAccount(r.name, r.pack, r.rule.priority, RuleState.QUIET, nothing) for r in rules.rules]
    cut = proposed_ms is not None
    teller = _Teller(rules, state.watch, settings, cut, _uncertain(rules, settings, log) if cut else frozenset())
    last_ms = state.fired.proposed_ms if proposed_ms is None else proposed_ms
    return [teller.account(rule, last_ms.get(rule.name)) for rule in rules.rules]


def with_ticks(slis: Sequence[Told], until_ms: int) -> list[Message]:
    """Messages in the order in which they came about, and a tick after those of each second, the last at `until_ms`."""
    ordered = sorted(slis, key=lambda each: (told_ms(each), each.end_ms, -each.size_s))
    log: list[Message] = []
    tick_ms = (told_ms(ordered[0]) // _TICK_MS + 1) * _TICK_MS if ordered else until_ms
    for each in ordered:
        while tick_ms < told_ms(each):
            log.append(Tick(at_ms=tick_ms, partition=0))
            tick_ms += _TICK_MS
        log.append(each)
    log += [Tick(at_ms=at_ms, partition=0) for at_ms in range(tick_ms, until_ms, _TICK_MS)]
    return [*log, Tick(at_ms=until_ms, partition=0)]


def _uncertain(rules: RuleSet, settings: RuleSettings, log: Sequence[Message]) -> frozenset[str]:
    """Conditions, by key, that were false for certain at no moment of a history that was cut: since when they hold,
    it does not tell."""
    watch: WatchState | None = None
    found = rules.by_key
    for message in log:
        watch, _ = fold.look(rules, settings, watch, message)
        if watch is not None:
            found = {key: each for key, each in found.items() if not _is_false(each, watch, settings.max_age_s)}
    return frozenset(found)


def _is_false(condition: ReadyCondition, watch: WatchState, max_age_s: float) -> bool:
    value = current_value(condition, watch.evidence, watch.at_ms, max_age_s)
    if value is None:  # a window that was not told since the cut may have been told before it
        return condition.on_missing is OnMissing.FALSE and condition.bound.size_s in watch.evidence
    return not condition.keeping.comparator.compare(value, condition.keeping.value)


@dataclass(frozen=True)
class _Teller:
    """What is known of the workload at the moment; `cut` and `uncertain` as in `replay` and `_uncertain`."""

    rules: RuleSet
    watch: WatchState
    settings: RuleSettings
    cut: bool
    uncertain: frozenset[str]

    def account(self, rule: ReadyRule, last_ms: int | None) -> RuleAccount:
        """One rule, which last proposed at `last_ms`."""
        watch = self.watch
        conditions = self.rules.by_key
        facts = {key: holds(each, self._standing(each), watch.at_ms) for key, each in conditions.items()}

        def words(keys: Sequence[str]) -> Iterator[str]:
            for key in keys:
                yield self._words(conditions[key])

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
            spec(rule.rule, still_fresh(watch.evidence, watch.at_ms, self.settings.max_age_s))
        except Lacking as lacking:
            return told(RuleState.NUMBERLESS, str(lacking), *why)
        return told(RuleState.FIRES if self.cut and last_ms != watch.at_ms else RuleState.PROPOSES, *why)

    def _standing(self, condition: ReadyCondition) -> Standing:
        return self.watch.conditions.get(condition.memory, Standing())

    def _words(self, condition: ReadyCondition) -> str:
        """One condition as it stands: `burning: ttft_burn_rate over 10 s is 0.4, needs > 2`."""
        bound, at_ms, standing = condition.bound, self.watch.at_ms, self._standing(condition)
        over = bound.subject
        needs = f"{bound.comparator.sign} {bound.value:g}"
        value = current_value(condition, self.watch.evidence, at_ms, self.settings.max_age_s)
        if value is not None:
            text = f"{over} is {value:g}"
            if not standing.on:
                keeping, before = condition.keeping, ""
                if condition.key in self.uncertain and keeping.comparator.compare(value, keeping.value):
                    before = (
                        f", or {keeping.comparator.sign} {keeping.value:g} where it held before all that is told here"
                    )
                return f"{condition.name}: {text}, needs {needs}{before}"
            if not bound.comparator.compare(value, bound.value):
                keeping = condition.keeping
                text += f", was {needs} and stays true while {keeping.comparator.sign} {keeping.value:g}"
            else:
                text += f", {needs}"
        else:
            text = f"{over} is {_lack(condition, self.watch, self.settings.max_age_s)}"
            text += f", on_missing: {condition.on_missing}"
            if not standing.on:
                return f"{condition.name}: {text}, needs {needs}"
        held_s = (at_ms - (standing.since_ms or 0)) / 1000.0
        held = f"held {'≥ ' if condition.key in self.uncertain else ''}{held_s:g} s"
        held += "" if holds(condition, standing, at_ms) else f" of {condition.for_s:g} s"
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
