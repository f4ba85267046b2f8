"""The numbers of an action, worked out from the evidence of the moment: how many replicas or which, what they are to
be set to, and what to expect of it."""

from __future__ import annotations

from math import ceil, floor

from contracts.catalog.findings import KINDS, span_s
from contracts.events import ActionKind, ActionSpec, Effect
from contracts.laws.bounds import Bound
from rules.core.actions import ActionClause, Setting
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


def setting(wanted: Setting, evidence: Evidence) -> float:
    """A value of an engine setting, a whole number, by fresh `evidence`. Raises Lacking."""
    if wanted.exactly is not None:
        return float(wanted.exactly)
    least, most = wanted.least, wanted.most
    assert wanted.finding and least is not None and most is not None  # noqa: S101, PT018 — the schema asks for all
    return float(min(max(round(_value(wanted.finding, span_s(wanted.finding), evidence)), least), most))


def named(action: ActionClause, evidence: Evidence) -> dict[str, float]:
    """The replicas that an action names: 1 for each that is to be set anew, or their shares of requests, one in sum.
    Empty where their number is enough. Raises Lacking."""
    kind = action.named_by
    if not kind:
        return {}
    reading = evidence.get(KINDS[kind])
    found = {} if reading is None else reading.by_replica
    if action.kind is ActionKind.TUNE:
        chosen = {replica: 1.0 for replica, value in found.items() if value > 0}
    else:
        total = sum(found.values())
        whole = total > 0 and min(found.values()) >= 0
        chosen = {replica: value / total for replica, value in found.items()} if whole else {}
    if not chosen:
        raise Lacking(f"the finding {kind} names no replicas, and the action is about those that it names")
    return chosen


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
    action, effect = rule.action, rule.effect
    by_replica = named(action, evidence)
    count = 1 if action.kind.gateway_setting else len(by_replica)
    count = count if action.replicas is None else replicas(action.replicas, evidence)
    return ActionSpec(
        kind=action.kind,
        replicas=count,
        settings={flag: setting(wanted, evidence) for flag, wanted in (action.settings or {}).items()},
        by_replica=by_replica,
        effect=Effect(
            expect=bound(effect.expect, count, evidence),
            by_s=seconds(effect.by, evidence),
            goal=bound(effect.goal, count, evidence) if effect.goal else None,
            guards=tuple(bound(each, count, evidence) for each in effect.guards),
            settle_s=effect.settle,
        ),
        undo_guards=tuple(bound(each, count, evidence) for each in rule.undo.guards) if rule.undo else (),
        stacks=rule.action.stacks,
        restores=rule.action.restores,
    )
