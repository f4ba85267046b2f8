"""How many moments a second the rules are decided for: durable_rules in its child, in this process, and in Python."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from bench.report import Row, report
from rules.core.reference import PythonEngine
from rules.core.shapes import Facts, RuleShape
from rules.engines.child import Rulesets
from rules.engines.compiler import compile_rules
from rules.engines.durable import DurableEngine, available

ROUNDS = 5
MOMENTS = 1000
CONDITIONS = tuple(f"condition-{n}" for n in range(30))
HOLDING_RATIO = 0.2
"""Most conditions do not hold at most moments."""

Answers = Sequence[tuple[str, ...]]
Work = Callable[[Sequence[Facts]], Answers]


def rules_of(count: int, rng: random.Random) -> list[RuleShape]:
    """Rules with two to four conditions, as packs have them."""
    return [
        RuleShape(
            f"rule-{n}",
            n,
            all=tuple(rng.sample(CONDITIONS[:20], 2)),
            any=tuple(rng.sample(CONDITIONS[:20], rng.choice((0, 0, 2)))),
            none=tuple(rng.sample(CONDITIONS[20:], rng.choice((0, 1)))),
        )
        for n in range(count)
    ]


def in_process(rules: Sequence[RuleShape]) -> Work:
    """durable_rules without pipe and child: what a crash or a hang of it would take along."""
    program = compile_rules(rules)
    rulesets = Rulesets(
        [{"fields": shard.fields, "ranks": shard.ranks, "rules": shard.definition()} for shard in program.shards]
    )

    def fire(moments: Sequence[Facts]) -> Answers:
        return [tuple(program.names[rank] for rank in rulesets.fire(program.holding(facts))) for facts in moments]

    return fire


def medians_per_s(work: dict[str, Work], moments: Sequence[Facts]) -> dict[str, float]:
    """Median moments a wall second of each, taken in turns so that a busy machine slows all alike."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, fire in work.items():
            began_s = time.perf_counter()
            fire(moments)
            rates[name].append(len(moments) / (time.perf_counter() - began_s))
    return {name: statistics.median(seen) for name, seen in rates.items()}


def rows_of(count: int) -> list[Row]:
    """The four ways with `count` rules, against durable_rules in this process."""
    rng = random.Random(count)
    rules = rules_of(count, rng)
    moments: list[Facts] = [{name: rng.random() < HOLDING_RATIO for name in CONDITIONS} for _ in range(MOMENTS)]

    def told(name: str, detail: str) -> None:
        raise SystemExit(f"{name}: {detail}: no figures")

    def engine(check_every: int) -> DurableEngine:
        return DurableEngine(rules, on_trouble=told, clock_s=time.monotonic, check_every=check_every)

    plain, checked, python = engine(0), engine(1), PythonEngine(rules)
    peer = "durable_rules in this process"
    work: dict[str, Work] = {
        peer: in_process(rules),
        "durable_rules in its child": plain.fire,
        "durable_rules in its child, every answer compared": checked.fire,
        "reference evaluator": python.fire,
    }
    try:
        wanted = python.fire(moments)
        if any(list(fire(moments)) != wanted for fire in work.values()):
            raise SystemExit("the engines disagree: no figures")
        per_s = medians_per_s(work, moments)
    finally:
        plain.close()
        checked.close()
    return [
        {
            "name": f"{count} rules, {name}",
            "value": round(per_s[name], 1),
            "unit": "moments/s",
            "peer": peer,
            "peer_value": round(per_s[peer], 1),
            "ratio": round(per_s[name] / per_s[peer], 2),
        }
        for name in work
        if name != peer
    ]


def main() -> None:
    """Ten rules and a hundred."""
    why = available()
    if why:
        raise SystemExit(why)
    report("rules", [row for count in (10, 100) for row in rows_of(count)])


if __name__ == "__main__":
    main()
