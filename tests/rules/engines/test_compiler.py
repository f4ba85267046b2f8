"""Rules become rulesets of the one shape that durable_rules gets right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from contracts.errors import ConfigError
from rules.core.shapes import RuleShape
from rules.engines.compiler import MAX_FIELDS, MAX_PATHS, compile_rules
from tests.rules.engines.helpers import rule_sets


def operators(value: Any) -> Iterator[str]:
    """Every key in a definition, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from operators(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from operators(inner)


def test_a_rule_is_one_pattern_over_one_flat_message() -> None:
    program = compile_rules([RuleShape("slow", 1, all=("hot",), any=("late", "queue"), none=("held", "new"))])
    assert program.conditions == ("hot", "late", "queue", "held", "new")
    assert program.shards[0].definition() == {
        "r0": {
            "all": [
                {
                    "m": {
                        "$and": [
                            {"c0": True},
                            {"c3": False},
                            {"c4": False},
                            {"$or": [{"c1": True}, {"c2": True}]},
                        ]
                    }
                }
            ],
            "pri": 0,
        }
    }


def test_an_any_of_one_is_no_or() -> None:
    program = compile_rules([RuleShape("slow", 1, any=("hot", "hot"))])
    assert program.shards[0].patterns == ({"$and": [{"c0": True}]},)


def test_ranks_go_from_the_highest_priority_down() -> None:
    rules = [RuleShape("low", 1, all=("a",)), RuleShape("high", 9, all=("a",)), RuleShape("middle", 5, all=("a",))]
    program = compile_rules(rules)
    assert program.names == ("high", "middle", "low")
    assert program.shards[0].ranks == (0, 1, 2)


def test_a_name_that_means_something_to_durable_rules_stays_outside() -> None:
    names = ("sid", "$and", "$m", "id", "a.b", "größe", '"', "")
    program = compile_rules([RuleShape("$state", 1, all=names)])
    written = json.dumps(program.shards[0].definition())
    assert set(operators(program.shards[0].definition())) == {
        "r0",
        "all",
        "m",
        "pri",
        "$and",
        *(f"c{n}" for n in range(8)),
    }
    assert "größe" not in written
    assert "$state" not in written


@given(rule_sets())
def test_only_harmless_operators_are_written_and_no_and_is_empty(rules: list[RuleShape]) -> None:
    program = compile_rules(rules)
    for shard in program.shards:
        known = {"all", "m", "pri", "$and", "$or", *(f"c{n}" for n in shard.fields), *shard.definition()}
        assert set(operators(shard.definition())) <= known
        assert all(pattern["$and"] for pattern in shard.patterns)
        assert all(len(body["all"]) == 1 for body in shard.definition().values())


@given(rule_sets(most=200))
def test_no_ruleset_has_more_paths_or_fields_than_durable_rules_bears(rules: list[RuleShape]) -> None:
    program = compile_rules(rules)
    for shard in program.shards:
        paths = sum(len(term["$or"]) if "$or" in term else 0 for p in shard.patterns for term in p["$and"])
        assert paths + sum("$or" not in str(p) for p in shard.patterns) <= MAX_PATHS
        assert len(shard.fields) <= MAX_FIELDS
    assert sorted({rank for shard in program.shards for rank in shard.ranks}) == list(range(len(rules)))


def test_a_long_any_is_cut_into_parts_of_one_rank() -> None:
    program = compile_rules([RuleShape("wide", 1, any=tuple(f"n{n}" for n in range(150)))])
    assert [shard.ranks for shard in program.shards] == [(0,), (0,), (0,)]


def test_many_conditions_are_spread_over_rulesets() -> None:
    rules = [RuleShape(f"r{n}", n, all=tuple(f"n{n}-{m}" for m in range(50))) for n in range(10)]
    assert [len(shard.fields) for shard in compile_rules(rules).shards] == [200, 200, 100]


def test_a_rule_without_a_condition_that_holds_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a condition that holds") as refused:
        compile_rules([RuleShape("empty", 1, none=("held",))])
    assert refused.value.where == "empty"


def test_a_rule_that_no_ruleset_can_hold_is_refused() -> None:
    names = tuple(f"n{n}" for n in range(MAX_FIELDS + 1))
    with pytest.raises(ConfigError, match="too many for one rule"):
        compile_rules([RuleShape("wide", 1, all=names)])


def test_a_condition_that_is_not_told_is_an_error_and_not_false() -> None:
    program = compile_rules([RuleShape("slow", 1, all=("hot",), none=("held",))])
    assert program.holding({"hot": True, "held": False}) == [0]
    with pytest.raises(KeyError, match="held"):
        program.holding({"hot": True})


def test_no_rules_are_no_rulesets() -> None:
    assert compile_rules([]).shards == ()
