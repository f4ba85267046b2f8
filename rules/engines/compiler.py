"""Turns rules into rulesets of durable_rules, in the one shape that it gets right.

A moment is one flat message of booleans, and a rule is one pattern over it:

    all: [a], any: [b, c], none: [d]    {"$and": [{"c0": true}, {"c3": false}, {"$or": [{"c1": true}, {"c2": true}]}]}

Conditions have the names c0, c1, …, whatever people call them. What durable_rules 2.0.28 gets wrong is never written:
no `none` pattern, no reference to another message, no arithmetic, no `$nex`, no empty `$and`. It gives up on a message
that takes more than 64 paths at once (error 303) or has more than 252 fields (302), and stops for good from 512
predicates on: so rules are spread over rulesets, each with few enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import ConfigError
from rules.core.shapes import Facts, RuleShape

MAX_PATHS = 60
"""Paths through one ruleset that may hold together: one a rule, or one for each member of its `any`."""
MAX_FIELDS = 240
"""Conditions that one ruleset may name."""

MESSAGE_ID = {"sid": "moment"}
"""All messages have one session: each new one would be kept for good, and the 1025th is refused."""


@dataclass(frozen=True)
class Shard:
    """One ruleset: the conditions that its messages carry, by index, and its rules. `ranks` are the rules' places in
    the order of priority; a rule with a long `any` has several parts of the same rank."""

    fields: tuple[int, ...]
    ranks: tuple[int, ...]
    patterns: tuple[dict[str, Any], ...]

    def definition(self) -> dict[str, Any]:
        """The ruleset as durable_rules takes it, without what to run; rule r0 has `ranks[0]`, and so on."""
        return {f"r{n}": {"all": [{"m": pattern}], "pri": n} for n, pattern in enumerate(self.patterns)}


@dataclass(frozen=True)
class Program:
    """Rules ready for the child process. `names` has the rules by rank, highest priority first."""

    conditions: tuple[str, ...]
    names: tuple[str, ...]
    shards: tuple[Shard, ...]

    def holding(self, facts: Facts) -> list[int]:
        """The indices of the conditions that hold. Raises KeyError where a condition is missing."""
        return [index for index, name in enumerate(self.conditions) if facts[name]]


@dataclass
class _Filling:
    """A shard that is being filled."""

    fields: set[int] = field(default_factory=set)
    ranks: list[int] = field(default_factory=list)
    patterns: list[dict[str, Any]] = field(default_factory=list)
    paths: int = 0

    def takes(self, fields: set[int], paths: int) -> bool:
        return self.paths + paths <= MAX_PATHS and len(self.fields | fields) <= MAX_FIELDS


def compile_rules(rules: Sequence[RuleShape]) -> Program:
    """Spread rules over rulesets. Raises ConfigError for a rule that no ruleset can hold.

    >>> compile_rules([RuleShape(name="slow", priority=1, all=("hot",), none=("held",))]).shards[0].patterns
    ({'$and': [{'c0': True}, {'c1': False}]},)
    """
    ranked = sorted(rules, key=lambda rule: -rule.priority)
    conditions = tuple(dict.fromkeys(name for rule in ranked for name in (*rule.all, *rule.any, *rule.none)))
    index = {name: n for n, name in enumerate(conditions)}
    shards = [_Filling()]
    for rank, rule in enumerate(ranked):
        for part in _parts(rule):
            fields = {index[name] for name in (*part.all, *part.any, *part.none)}
            paths = max(1, len(part.any))
            if not shards[-1].takes(fields, paths):
                shards.append(_Filling())
            shard = shards[-1]
            shard.fields |= fields
            shard.ranks.append(rank)
            shard.patterns.append(_pattern(part, index))
            shard.paths += paths
    return Program(
        conditions=conditions,
        names=tuple(rule.name for rule in ranked),
        shards=tuple(
            Shard(tuple(sorted(shard.fields)), tuple(shard.ranks), tuple(shard.patterns))
            for shard in shards
            if shard.ranks
        ),
    )


def _parts(rule: RuleShape) -> list[RuleShape]:
    """The rule with every condition once in each list, cut where its `any` is longer than one ruleset takes."""
    every, some, none = (tuple(dict.fromkeys(names)) for names in (rule.all, rule.any, rule.none))
    if not every and not some:
        raise ConfigError(
            "a rule needs a condition that holds",
            where=rule.name,
            fix="Name one in `all` or in `any`; `none` may stay.",
        )
    cuts = [some[at : at + MAX_PATHS] for at in range(0, len(some), MAX_PATHS)] or [()]
    if len({*every, *none}) + len(cuts[0]) > MAX_FIELDS:
        raise ConfigError(
            f"{len({*every, *none, *some})} conditions are too many for one rule",
            where=rule.name,
            fix=f"Name at most {MAX_FIELDS - MAX_PATHS} in `all` and `none` together.",
        )
    return [RuleShape(rule.name, rule.priority, every, cut, none) for cut in cuts]


def _pattern(rule: RuleShape, index: dict[str, int]) -> dict[str, Any]:
    terms: list[dict[str, Any]] = [{f"c{index[name]}": True} for name in rule.all]
    terms += [{f"c{index[name]}": False} for name in rule.none]
    some = [{f"c{index[name]}": True} for name in rule.any]
    # An `$or` of one is that one; an `$or` fires once for each member that holds, which whoever collects must heed.
    terms += [{"$or": some}] if len(some) > 1 else some
    return {"$and": terms}
