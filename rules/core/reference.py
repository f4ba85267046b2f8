"""The reference evaluator: which rules fire, in three lines of Python. Every other engine must agree with it."""

from __future__ import annotations

from collections.abc import Sequence

from rules.core.shapes import Facts, RuleShape


def fire(rules: Sequence[RuleShape], facts: Facts) -> tuple[str, ...]:
    """The names of the rules that fire on these facts, highest priority first.

    >>> slow = RuleShape(name="slow", priority=1, all=("hot",), none=("held",))
    >>> fire([slow, RuleShape(name="fast", priority=2, any=("hot", "held"))], {"hot": True, "held": False})
    ('fast', 'slow')
    """
    firing = [rule for rule in rules if _fires(rule, facts)]
    return tuple(rule.name for rule in sorted(firing, key=lambda rule: -rule.priority))


def _fires(rule: RuleShape, facts: Facts) -> bool:
    held = facts.__getitem__
    some = not rule.any or any(map(held, rule.any))
    return some and all(map(held, rule.all)) and not any(map(held, rule.none))


class PythonEngine:
    """The reference evaluator as an engine: what runs where durable_rules is not installed, or fails."""

    name = "python"

    def __init__(self, rules: Sequence[RuleShape]) -> None:
        self._rules = tuple(rules)

    def fire(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]:
        return [fire(self._rules, facts) for facts in moments]

    def close(self) -> None:
        """Nothing to end."""
