"""The packs in force, made ready for the fold: conditions and rules by name, and of which values they speak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from contracts.catalog.findings import KINDS, span_s
from contracts.laws.bounds import Bound
from rules.core.language import Condition, OnMissing
from rules.core.pack import Pack, Rule
from rules.core.shapes import RuleShape

REPLICAS = "replicas_up"
"""The SLI that says how many replicas answer; a candidate set tells its latest value."""


@dataclass(frozen=True)
class ReadyCondition:
    """A condition of one pack. `key` names it among all packs; `memory` changes with its content, so that a condition
    that was edited begins its hold anew. `keeping` is the bound while it holds: `until`, where there is one."""

    key: str
    name: str
    memory: str
    bound: Bound
    keeping: Bound
    for_s: float
    on_missing: OnMissing

    @cached_property
    def begins(self) -> Callable[[float], bool]:
        """Whether a value makes true what was not."""
        return self.bound.comparator.against(self.bound.value)

    @cached_property
    def keeps(self) -> Callable[[float], bool]:
        """Whether a value leaves true what was."""
        return self.keeping.comparator.against(self.keeping.value)


@dataclass(frozen=True)
class Window:
    """The conditions that look at windows of `size_s`, each with its memory name, the SLI or number compared, and
    whether a value of that makes it begin. `memories`: all their memory names, `on_silence`: of those that are true
    where it is missing."""

    size_s: int
    conditions: tuple[tuple[ReadyCondition, str, str, Callable[[float], bool]], ...]
    memories: frozenset[str]
    on_silence: frozenset[str]


@dataclass(frozen=True)
class ReadyRule:
    """A rule of one pack; `conditions` are the keys of all that it names, `all` first and `none` last."""

    name: str
    pack: str
    rule: Rule
    shape: RuleShape

    @property
    def conditions(self) -> tuple[str, ...]:
        return (*self.shape.all, *self.shape.any, *self.shape.none)


@dataclass(frozen=True)
class RuleSet:
    """All packs in force. `rules` stand highest priority first. `wanted` has the SLIs and numbers of findings
    that are spoken of, by window size in seconds; `named` what the findings speak for that name replicas of actions."""

    packs: tuple[Pack, ...]
    conditions: tuple[ReadyCondition, ...]
    rules: tuple[ReadyRule, ...]
    wanted: dict[int, frozenset[str]]
    named: frozenset[int]

    @cached_property
    def all_off(self) -> dict[str, bool]:
        """Every condition as it is where none holds."""
        return dict.fromkeys((each.key for each in self.conditions), False)

    @cached_property
    def by_window(self) -> tuple[Window, ...]:
        """The conditions by the window that they look at."""
        windows: dict[int, list[ReadyCondition]] = {}
        for each in self.conditions:
            windows.setdefault(each.bound.size_s, []).append(each)
        return tuple(
            Window(
                size_s,
                tuple((each, each.memory, each.bound.sli, each.begins) for each in found),
                memories=frozenset(each.memory for each in found),
                on_silence=frozenset(each.memory for each in found if each.on_missing is OnMissing.TRUE),
            )
            for size_s, found in windows.items()
        )

    @cached_property
    def by_key(self) -> dict[str, ReadyCondition]:
        """The conditions by their key."""
        return {each.key: each for each in self.conditions}

    @cached_property
    def by_memory(self) -> dict[str, ReadyCondition]:
        """The conditions by their memory name."""
        return {each.memory: each for each in self.conditions}

    @cached_property
    def by_name(self) -> dict[str, ReadyRule]:
        """The rules by name."""
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def by_size(self) -> dict[int, tuple[Window]]:
        """Of `by_window`, what looks at windows of each size; of some there is none."""
        return {each.size_s: (each,) for each in self.by_window}

    @cached_property
    def _needs(self) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
        return tuple((frozenset(each.shape.all), frozenset(each.shape.any)) for each in self.rules)

    def may_fire(self, holding: Set[str]) -> bool:
        """Whether some rule has all of its `all`, and one of its `any`, among the conditions that hold. Cheap: what
        stands against a rule, an engine is asked."""
        return any(every <= holding and not (some and some.isdisjoint(holding)) for every, some in self._needs)

    @property
    def shapes(self) -> tuple[RuleShape, ...]:
        """What an engine is to know."""
        return tuple(each.shape for each in self.rules)

    @property
    def history_s(self) -> float:
        """How much history tells all there is to know of a moment: the longest hold or cooldown over its window."""
        holds = [each.for_s + 2 * each.bound.size_s for each in self.conditions]
        return max([*holds, *(each.rule.cooldown for each in self.rules)], default=0.0)


def make_ruleset(packs: Sequence[Pack]) -> RuleSet:
    """Make packs ready that `rules.core.loader` has found sound together."""
    conditions = [_condition(pack, name, told) for pack in packs for name, told in pack.conditions.items()]
    rules = [_rule(pack, name, rule) for pack in packs for name, rule in pack.rules.items()]
    wanted: dict[int, set[str]] = {0: {REPLICAS}}
    for sli, size_s in _spoken_of(packs):
        wanted.setdefault(size_s, set()).add(sli)
    named = frozenset(KINDS[kind] for pack in packs for rule in pack.rules.values() if (kind := rule.action.named_by))
    for size_s in named:
        wanted.setdefault(size_s, set())
    return RuleSet(
        packs=tuple(packs),
        conditions=tuple(conditions),
        rules=tuple(sorted(rules, key=lambda each: -each.rule.priority)),
        wanted={size_s: frozenset(slis) for size_s, slis in wanted.items()},
        named=named,
    )


def _key(pack: Pack, name: str) -> str:
    return f"{pack.pack}/{name}"


def _condition(pack: Pack, name: str, told: Condition) -> ReadyCondition:
    bound = told.bound
    return ReadyCondition(
        key=_key(pack, name),
        name=name,
        memory=f"{_key(pack, name)}#{told.content}",
        bound=bound,
        keeping=bound if told.until is None else bound.model_copy(update={"value": told.until}),
        for_s=told.for_s,
        on_missing=told.on_missing,
    )


def _rule(pack: Pack, name: str, rule: Rule) -> ReadyRule:
    def keys(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(_key(pack, each) for each in names)

    shape = RuleShape(name=name, priority=rule.priority, all=keys(rule.all), any=keys(rule.any), none=keys(rule.none))
    return ReadyRule(name=name, pack=pack.pack, rule=rule, shape=shape)


def _spoken_of(packs: Sequence[Pack]) -> Iterable[tuple[str, int]]:
    for pack in packs:
        for condition in pack.conditions.values():
            yield condition.name, condition.size_s
        for rule in pack.rules.values():
            yield from rule.action.spoken_of
            if rule.effect.by.finding:
                yield rule.effect.by.finding, span_s(rule.effect.by.finding)
            for target in rule.targets:
                yield target.sli, target.window
                now = target.comparison[1].now
                if now is not None:
                    yield now, target.window
