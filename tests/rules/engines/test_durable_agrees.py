"""durable_rules in its child process gives the answers of the reference evaluator, in the same order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from rules.core.shapes import Facts, RuleShape
from rules.engines.durable import AT_ONCE, DurableEngine, available
from tests.rules.engines.helpers import CONDITIONS, RULES, every_moment, facts, moment, right, rule_sets, running


def agrees(engine: DurableEngine, rules: Sequence[RuleShape], moments: Sequence[Facts]) -> None:
    """The child alone said the right thing: nothing stood in for it and nothing corrected it."""
    assert engine.fire(moments) == right(rules, moments)
    assert (engine.restarts, engine.fallbacks, engine.disagreements) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(rule_sets(), st.lists(facts(), min_size=1, max_size=12))
def test_random_rules_on_random_facts(rules: list[RuleShape], moments: list[Facts]) -> None:
    with running(rules, check_every=0) as (engine, _, _):
        agrees(engine, rules, [*moments, *moments])


def test_every_moment_there_can_be() -> None:
    with running(check_every=0) as (engine, _, _):
        agrees(engine, list(RULES), every_moment())


def test_more_rules_than_one_ruleset_holds_are_told_in_one_order() -> None:
    rng = random.Random(7)
    rules = [
        RuleShape(
            f"rule-{n}",
            priority,
            all=tuple(rng.sample(CONDITIONS, rng.randint(1, 3))),
            any=tuple(rng.sample(CONDITIONS, rng.choice((0, 0, 4)))),
            none=tuple(rng.sample(CONDITIONS, rng.randint(0, 2))),
        )
        for n, priority in enumerate(rng.sample(range(65_536), 400))
    ]
    moments = [{name: rng.random() < share for name in CONDITIONS} for share in (0.0, 0.3, 0.6, 0.9, 1.0) * 8]
    assert max(len(names) for names in right(rules, moments)) > 60
    with running(rules, check_every=0) as (engine, _, _):
        agrees(engine, rules, moments)


def test_as_much_as_one_rule_may_name() -> None:
    """Fifty conditions in each list, and an `any` that is longer than a ruleset takes; on everything and one less."""
    names = [f"n{n}" for n in range(250)]
    rules = [
        RuleShape("wide", 1, all=tuple(names[:50]), any=tuple(names[50:100]), none=tuple(names[100:150])),
        RuleShape("wider", 2, any=tuple(names[:100])),
        RuleShape("none", 3, any=("n0",), none=tuple(names[150:250])),
    ]
    moments: list[Facts] = [moment(*names[:last], names=names) for last in (0, 1, 49, 50, 51, 99, 100, 101, 150, 250)]
    moments += [moment(name, names=names) for name in names]
    with running(rules, check_every=0) as (engine, _, _):
        agrees(engine, rules, moments)


def test_sixty_rules_that_all_fire_at_once() -> None:
    rules = [RuleShape(f"rule-{n}", n, all=(f"n{n}",)) for n in range(130)]
    names = [f"n{n}" for n in range(130)]
    with running(rules, check_every=0) as (engine, _, _):
        agrees(engine, rules, [moment(*names, names=names), moment(names=names)])


def test_moments_that_fill_many_questions_come_back_in_their_order() -> None:
    moments = every_moment() * 3
    with running(check_every=0) as (engine, _, _):
        agrees(engine, list(RULES), moments)
        assert engine.questions == -(-len(moments) // AT_ONCE)


def test_no_moments_and_no_rules_are_no_answers() -> None:
    with running() as (engine, _, _):
        assert engine.fire([]) == []
        assert engine.child_pid is None
    with running([]) as (engine, _, _):
        agrees(engine, [], [{}, {"hot": True}])


def test_durable_rules_is_here() -> None:
    assert available() == ""
