"""Whether a plan is what was asked for: no more replicas than granted, in that direction, within the fleet's limits."""

from __future__ import annotations

from contracts.events import Action, Plan, Refusal, StepKind
from contracts.laws.bounds import Bound
from contracts.ports import Observation


def flaw(plan: Plan, action: Action) -> str:
    """Why a plan must not be carried out; empty when it may.

    Controllers are not trusted with the size of an action, and a replica is never removed that was not drained first.
    """
    order = [step.final for step in plan.steps]
    if order != sorted(order):
        return "its final steps do not come last"
    if action.spec.kind.takes_capacity:
        drained = [step.subject for step in plan.steps if step.kind is StepKind.DRAIN]
        removed = [step.subject for step in plan.steps if step.kind is StepKind.REMOVE]
        if len(drained) + len(removed) < len(plan.steps) or "" in drained:
            return f"a {action.spec.kind} drains and removes named replicas, and nothing else"
        if any(step.final != (step.kind is StepKind.REMOVE) for step in plan.steps):
            return "a removal is final, and a drain is not"
        if len(set(drained)) != len(drained) or len(set(removed)) != len(removed) or not set(removed) <= set(drained):
            return "each replica is drained once, and only a drained one is removed"
        if len(drained) > action.spec.replicas or len(drained) >= plan.replicas_before:
            return f"drains {len(drained)} of {plan.replicas_before} replicas, granted were {action.spec.replicas}"
        return ""
    if any(step.kind is not StepKind.ADD or step.final for step in plan.steps):
        return f"a {action.spec.kind} adds replicas, and nothing else"
    if len(plan.steps) > action.spec.replicas:
        return f"adds {len(plan.steps)} replicas, granted were {action.spec.replicas}"
    return ""


def counted(plan: Plan, action: Action, seen: Observation) -> Action:
    """An action that stopped another, with its expectation of `replicas_up` counted anew from the fleet as it is seen.

    The rule counted while the other was under way. Whatever became of that, an expectation of the old count would call
    an honest controller a liar, or be met by nothing done. Draining replicas still answer. An action that stopped none
    keeps its count: it came from scrapes, and a controller's word must not make its own test easier.
    """
    expect = action.spec.effect.expect
    if not action.preempts or expect.sli != "replicas_up":
        return action
    if action.spec.kind.takes_capacity:
        removed = sum(step.kind is StepKind.REMOVE for step in plan.steps)
        value = len(seen.serving) + len(seen.draining) - removed
    else:
        value = len(seen.serving) + sum(step.kind is StepKind.ADD for step in plan.steps)
    effect = action.spec.effect.model_copy(update={"expect": expect.model_copy(update={"value": float(value)})})
    return action.model_copy(update={"spec": action.spec.model_copy(update={"effect": effect})})


def eased(action: Action, gone: int) -> Bound:
    """What an action may expect where `gone` replicas of those beside it were taken back: its rule may have counted
    them. Each of its own is still asked after, so that this makes nobody else's replica count for one of them."""
    expect = action.spec.effect.expect
    if not gone or action.spec.kind.takes_capacity or expect.sli != "replicas_up":
        return expect
    return expect.model_copy(update={"value": expect.value - gone})


def beyond(plan: Plan, action: Action, seen: Observation) -> tuple[Refusal, str] | None:
    """Why a plan would leave the limits of the fleet as it is seen: the code, with the numbers in words.

    Who decided counted those that were measured. A draining replica is measured and will not serve; one that starts is
    not measured yet and will.
    """
    drained = sum(step.kind is StepKind.DRAIN for step in plan.steps)
    added = sum(step.kind is StepKind.ADD for step in plan.steps)
    serving, starting = len(seen.serving), len(seen.starting)
    if drained and serving - drained < action.least_replicas:
        words = f"{serving} replicas serve: without {drained} they were fewer than {action.least_replicas}"
        return Refusal.AT_MINIMUM, words
    if added and action.most_replicas is not None and serving + starting + added > action.most_replicas:
        words = f"{serving} replicas serve, {starting} are starting: with {added} they were more than"
        return Refusal.AT_MAXIMUM, f"{words} {action.most_replicas}"
    return None
