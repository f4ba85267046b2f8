"""The numbers of an action, worked out from the evidence of the moment: how many replicas, and what to expect of it."""

from __future__ import annotations

from math import ceil, floor

from contracts.catalog.findings import span_s
from contracts.events import ActionSpec, Effect
from contracts.laws.bounds import Bound
from rules.core.asking import Amount, Span, Target
from rules.core.conditions import Evidence
from rules.core.language import window_name
from rules.core.pack import Rule
from rules.core.ruleset import REPLICAS


class Lacking(Exception):
    """A value that a number rests on is missing. `str()` says which: the rule fires, and has nothing to propose."""


def _value(sli: str, size_s: int, evidence: Evidence) -> float:
    reading = evidence.get(size_s)
    value = None if reading is None else reading.value(sli)
    if value is None:
        raise Lacking(f"{sli} ({window_name(size_s)}) is missing, and a number of the action rests on it")
    return value


def replicas(amount: Amount, evidence: Evidence) -> int:
    """How many replicas, by fresh `evidence`. Raises Lacking."""
    if amount.exactly is not None:
        return amount.exactly
    assert amount.most is not None  # noqa: S101 — the schema asks for it
    # Ten times 0.3 shall be three: what floating point adds in the last digits must not cost a replica.
    exact = round(_value(amount.name, amount.size_s, evidence) * amount.times / amount.over + amount.plus, 9)
    whole = ceil(exact) if amount.round == "up" else floor(exact)
    most = amount.most
    if amount.share is not None:
        most = min(most, max(1, floor(round(_value(REPLICAS, 0, evidence) * amount.share, 9))))
    return min(max(whole, amount.least), most)


def seconds(span: Span, evidence: Evidence) -> float:
    """How long, by fresh `evidence`; where the finding is missing, what the span says of that."""
    if span.exactly is not None:
        return span.exactly
    assert span.finding and span.least and span.most  # noqa: S101, PT018 — the schema asks for all three
    reading = evidence.get(span_s(span.finding))
    value = None if reading is None else reading.value(span.finding)
    if value is None:
        return span.most if span.on_missing is None else span.on_missing
    return min(max(value * span.times + span.plus, span.least), span.most)


def bound(target: Target, added: int, evidence: Evidence) -> Bound:
    """A target with its number; `added` is what `replicas` stands for. Raises Lacking."""
    comparator, level = target.comparison
    value = level.value
    if level.now is not None:
        now = _value(level.now, target.window, evidence)
        step = level.plus if level.plus is not None else level.minus
        size = float(added) if isinstance(step, str) else step or 0.0
        value = now + size if level.plus is not None else now - size
    assert value is not None  # noqa: S101 — the schema asks for one of the two
    return Bound(sli=target.sli, size_s=target.window, comparator=comparator, value=value)


def spec(rule: Rule, evidence: Evidence) -> ActionSpec:
    """The rule's action with all its numbers, by fresh `evidence`. Raises Lacking."""
    count = replicas(rule.amount, evidence)
    effect = rule.effect
    return ActionSpec(
        kind=rule.action.kind,
        replicas=count,
        effect=Effect(
            expect=bound(effect.expect, count, evidence),
            by_s=seconds(effect.by, evidence),
            goal=bound(effect.goal, count, evidence) if effect.goal else None,
            guards=tuple(bound(each, count, evidence) for each in effect.guards),
            settle_s=effect.settle,
        ),
        undo_guards=tuple(bound(each, count, evidence) for each in rule.undo.guards) if rule.undo else (),
        stacks=rule.action.stacks,
    )
