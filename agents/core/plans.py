"""Whether a plan is what was asked for: no more replicas than granted, in the direction that was granted."""

from __future__ import annotations

from contracts.events import Action, Plan, StepKind


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
