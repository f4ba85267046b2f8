"""The reference evaluator: the truth table that every engine must agree with."""

from __future__ import annotations

from itertools import product

from rules.core.reference import PythonEngine, fire
from rules.core.shapes import RuleShape

A, B, C = "a", "b", "c"


def truth(shape: RuleShape) -> set[str]:
    """The facts on which it fires, as the letters that hold."""
    table = product((False, True), repeat=3)
    rows = ({A: a, B: b, C: c} for a, b, c in table)
    return {"".join(name for name, value in row.items() if value) for row in rows if fire([shape], row)}


def test_all_any_and_none() -> None:
    assert truth(RuleShape("r", 1, all=(A, B))) == {"ab", "abc"}
    assert truth(RuleShape("r", 1, any=(A, B))) == {"a", "b", "ab", "ac", "bc", "abc"}
    assert truth(RuleShape("r", 1, all=(A,), any=(B, C))) == {"ab", "ac", "abc"}
    assert truth(RuleShape("r", 1, all=(A,), none=(B,))) == {"a", "ac"}
    assert truth(RuleShape("r", 1, any=(A,), none=(B, C))) == {"a"}


def test_the_higher_priority_is_told_first_and_each_moment_for_itself() -> None:
    engine = PythonEngine([RuleShape("low", 1, all=(A,)), RuleShape("high", 9, any=(A, B))])
    assert engine.fire([{A: True, B: False}, {A: False, B: True}, {A: False, B: False}]) == [
        ("high", "low"),
        ("high",),
        (),
    ]
    assert engine.fire([]) == []
