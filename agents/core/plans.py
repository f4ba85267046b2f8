"""Whether a plan is what was asked for: no more than was granted, of that kind, within the fleet's limits."""

from __future__ import annotations

from contracts.events import Action, ActionKind, Plan, Refusal, StepKind
from contracts.laws.bounds import Bound
from contracts.ports import Observation


def flaw(plan: Plan, action: Action) -> str:
    """Why a plan must not be carried out; empty when it may.

    Controllers are not trusted with the size of an action, and a replica is never removed that was not drained first.
    """
    order = [step.final for step in plan.steps]
    if order != sorted(order):
        return "its final steps do not come last"
    if action.spec.kind is ActionKind.TUNE:
        return _tune_flaw(plan, action)
    if action.spec.kind is ActionKind.ROUTE:
        shares = [step.by_replica for step in plan.steps if step.kind is StepKind.WEIGH and not step.final]
        same = len(plan.steps) == 1 and shares == [action.spec.by_replica]
        return "" if same else "a route sets the shares that were granted, in one step that can be taken back"
    if action.spec.kind.gateway_setting:
        limits = [step.settings for step in plan.steps if step.kind is StepKind.LIMIT and not step.final]
        same = len(plan.steps) == 1 and limits == [action.gateway_limits]
        return "" if same else f"a {action.spec.kind} sets what was granted, in one step that can be taken back"
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


def _tune_flaw(plan: Plan, action: Action) -> str:
    subjects = [step.subject for step in plan.steps]
    if any(step.kind is not StepKind.RETUNE or step.final for step in plan.steps):
        return "a tune restarts replicas in steps that can be taken back, and does nothing else"
    if any(step.settings != action.spec.settings for step in plan.steps):
        return "its settings are not those that were granted"
    if "" in subjects[:-1]:
        return "those to be launched are set after those that serve"
    if len(set(subjects)) != len(subjects) or not set(subjects) - {""} <= action.spec.by_replica.keys():
        return f"it restarts {', '.join(subjects)}, granted were {', '.join(action.spec.by_replica)}"
    return "" if plan.replicas_before > 1 else "the last replica in service is not restarted"


def hanging(action: Action, seen: Observation) -> str:
    """The replicas that have been starting for longer than this action gives one of its own, in words; empty where none
    has, or where it waits for none that starts. A rule makes that time of the start-ups that were seen: what takes
    longer hangs, and is waited for no more."""
    if action.spec.frees_one:
        return ""
    by_s = action.spec.effect.by_s
    found = [f"{name} for {seen.starting_s[name]:.0f} s" for name in _hanging(action, seen)]
    return f"not waited for, starting longer than {by_s:g} s: {', '.join(found)}" if found else ""


def _hanging(action: Action, seen: Observation) -> tuple[str, ...]:
    by_s = action.spec.effect.by_s
    return tuple(name for name in seen.starting if seen.starting_s.get(name, 0.0) > by_s)


def _restless(action: Action, seen: Observation) -> tuple[Refusal, str] | None:
    """Why no replica can be set anew now: the fleet is about to change, or one less would be too few. Who takes a bad
    setting back does not wait for what starts, and nobody for what hangs."""
    late = _hanging(action, seen)
    starting = () if action.spec.frees_one else tuple(name for name in seen.starting if name not in late)
    least, changing = max(1, action.least_replicas), (*starting, *seen.draining)
    if changing:
        words = f"{', '.join(changing)} start or drain: settings are changed on a fleet that stands still"
        return Refusal.IN_FLIGHT, words
    if len(seen.serving) - 1 < least:
        words = f"{len(seen.serving)} replicas serve: while one restarts they were fewer than {least}"
        return Refusal.AT_MINIMUM, words
    return None


def _widened(plan: Plan, action: Action, seen: Observation) -> tuple[Refusal, str] | None:
    """Why new replicas must not be launched with these settings: some that serve keep others, and what is tried on a
    few is not for all that come. Who gives settings back may free new ones of the bad ones at once."""
    subjects = {step.subject for step in plan.steps}
    if "" not in subjects or action.spec.restores:
        return None
    wanted, has = action.spec.settings, seen.settings
    others = [
        name
        for name in seen.serving
        if name not in subjects and any(has.get(name, {}).get(flag, 0.0) != value for flag, value in wanted.items())
    ]
    words = f"it sets those to be launched, and {', '.join(others)} would serve without these settings"
    return (Refusal.DRY_RUN_FAILED, words) if others else None


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
    if any(step.kind is StepKind.RETUNE for step in plan.steps):
        return _restless(action, seen) or _widened(plan, action, seen)
    if drained and serving - drained < action.least_replicas:
        words = f"{serving} replicas serve: without {drained} they were fewer than {action.least_replicas}"
        return Refusal.AT_MINIMUM, words
    if added and action.most_replicas is not None and serving + starting + added > action.most_replicas:
        words = f"{serving} replicas serve, {starting} are starting: with {added} they were more than"
        return Refusal.AT_MAXIMUM, f"{words} {action.most_replicas}"
    return None
