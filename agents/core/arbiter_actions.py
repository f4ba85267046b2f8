"""What is under way: an approved action takes its target, its outcome frees it, one that is overdue is said again."""

from __future__ import annotations

from agents.core.allowed import allowed_s
from agents.core.arbiter_reasons import preempted
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import AWAITED_MS, FLIGHTS_LIMIT, ArbiterState, Awaited, Flight
from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Alert,
    Decision,
    EndState,
    Message,
    Outcome,
    Refusal,
    Severity,
    target_of,
)

DID_SOMETHING = (EndState.VERIFIED, EndState.UNDONE, EndState.HELD_UNVERIFIED)
"""How an action ends that has changed the fleet, if only for a while: the target rests after it."""

BROUGHT_NOTHING = (EndState.UNDONE, EndState.FAILED, EndState.REFUSED)
"""How a scale-up ends of which no replica is left."""


def acted(
    state: ArbiterState, decision: Decision, spec: ActionSpec, approved_by: str, settings: ArbiterSettings
) -> tuple[ArbiterState, Action]:
    """The action of an approved decision, with its target taken.

    One whose outcome is known already was approved before a crash, and is only said again: it takes nothing.
    """
    aside = preempted(decision.candidate, state)
    limits = settings.limits_of(state.workload)
    action = Action(
        workload=state.workload,
        target=target_of(state.workload, spec.kind),
        candidate_id=decision.decision_id,
        decision_id=decision.decision_id,
        rule=decision.candidate.rule,
        priority=decision.candidate.priority,
        spec=spec,
        mode=decision.mode,
        approved_by=approved_by,
        preempts=aside.action_id if aside else "",
        beside=() if aside else tuple(flight.action_id for flight in state.flights),
        least_replicas=limits.least_replicas,
        most_replicas=limits.max_replicas,
        at_ms=state.now_ms,
        cause_ms=decision.cause_ms,
        start_by_ms=state.now_ms + round(settings.start_within_s * 1000),
    )
    if action.id in state.ended.ids:
        return state, action
    overdue_ms = action.start_by_ms + round((allowed_s(spec) + settings.overdue_s) * 1000)
    flight = Flight(action=action, overdue_ms=overdue_ms, found=state.replicas or 0)
    adds = spec.kind is ActionKind.SCALE_UP and state.replicas is not None
    ordered = (state.replicas or 0) + state.starting + spec.replicas if adds else state.ordered
    own = {name: (state.gateway.get(name, 0), round(value)) for name, value in action.gateway_limits.items()}
    # What stood before any limit of ours is no limit of ours when it is set back.
    found = {name: value for name, (value, _) in own.items() if name not in state.holding_back}
    update = {"flights": (*state.flights, flight), "ordered": ordered, "gateway_own": state.gateway_own | own}
    return state.model_copy(update=update | {"gateway_found": state.gateway_found | found}), action


def on_outcome(state: ArbiterState, outcome: Outcome) -> ArbiterState:
    """The target is free, and rests if something was done. What a scale-up that is left as it is may still bring is
    awaited; what a scale-down took is ordered no more."""
    action = outcome.action
    if action.id in state.ended.ids:
        return state
    at_ms = min(outcome.at_ms, state.now_ms)
    flights = tuple(flight for flight in state.flights if flight.action_id != action.id)
    ended = state.ended.add([action.id], at_ms, state.now_ms)
    known = next((flight for flight in state.flights if flight.action_id == action.id), None)
    ordered, awaited = state.ordered, state.awaited
    adds, takes = action.spec.kind is ActionKind.SCALE_UP, action.spec.kind is ActionKind.SCALE_DOWN
    gone = (adds and outcome.end_state in BROUGHT_NOTHING) or (takes and outcome.end_state is EndState.VERIFIED)
    if known and gone and ordered is not None:
        ordered = max(0, ordered - action.spec.replicas)
    if known and adds and outcome.end_state is EndState.HELD_UNVERIFIED:
        left = Awaited(replicas=action.spec.replicas, found=known.found, until_ms=state.now_ms + AWAITED_MS)
        awaited = (*awaited, left)[-FLIGHTS_LIMIT:]
    state = state.model_copy(update={"flights": flights, "ended": ended, "ordered": ordered}).awaiting(awaited)
    if Refusal.MANUAL_CHANGE in outcome.reasons and (state.manual_ms is None or at_ms > state.manual_ms):
        # The executor saw a person's hand on the fleet; the event that tells of it may still be on its way.
        state = state.model_copy(update={"manual_ms": at_ms, "manual": "seen by the executor during an action"})
    if outcome.end_state in (EndState.VERIFIED, EndState.HELD_UNVERIFIED):  # it sets back no more what it found
        own = {name: (round(value),) for name, value in action.gateway_limits.items()}
        state = _limited(state, outcome).model_copy(update={"gateway_own": state.gateway_own | own})
    if outcome.end_state not in DID_SOMETHING:
        return state
    kind = action.spec.kind
    loosened = bool(kind.gateway_setting) and action.spec.restores
    times = state.loosened_ms if loosened else state.last_ms
    times = times | {kind: max(at_ms, times.get(kind, at_ms))}
    state = state.model_copy(update={"loosened_ms" if loosened else "last_ms": times})
    seen = outcome.after.get("replicas_up")
    return state if seen is None else state.with_replicas(round(seen), at_ms)


def _limited(state: ArbiterState, outcome: Outcome) -> ArbiterState:
    """With the limits of ours that may stand at the gateway now. One that restores and was left unverified may not have
    loosened anything: the gateway tells which of the two it is."""
    limits, verified = dict(state.gateway_set), outcome.end_state is EndState.VERIFIED
    for name, value in outcome.action.gateway_limits.items():
        restored = outcome.action.spec.restores and round(value) == state.gateway_found.get(name, 0)
        before = limits.pop(name, ()) if outcome.action.spec.restores and not verified else ()
        limits[name] = (*before, *(() if restored else (round(value),)))
    return state.model_copy(update={"gateway_set": {name: values for name, values in limits.items() if values}})


def overdue(state: ArbiterState, settings: ArbiterSettings) -> tuple[ArbiterState, list[Message]]:
    """Actions whose outcome should have come, unchanged and once more: the executor answers a known one again, and
    refuses one that it never saw as stale. Then alerts, where that brought nothing. The target stays taken: nobody
    knows what was done to it."""
    flights: list[Flight] = []
    outputs: list[Message] = []
    for flight in state.flights:
        late = state.now_ms > flight.overdue_ms
        if late and not flight.repeated:
            outputs.append(flight.action)
            again_ms = state.now_ms + round(settings.overdue_s * 1000)
            flights.append(flight.model_copy(update={"repeated": True, "overdue_ms": again_ms}))
        elif late and not flight.told:
            outputs.append(_late(state, flight))
            flights.append(flight.model_copy(update={"told": True}))
        else:
            flights.append(flight)
    return (state.model_copy(update={"flights": tuple(flights)}), outputs) if outputs else (state, [])


def _late(state: ArbiterState, flight: Flight) -> Alert:
    return Alert(
        workload=state.workload,
        name="action_overdue",
        severity=Severity.CRITICAL,
        subject=flight.action_id,
        at_ms=flight.overdue_ms,
        summary=f"nobody has said how the {flight.kind} of {flight.action.rule} ended, though it was said again; "
        f"nothing else is done to {flight.action.target} until then",
        fix="Check that the executor and the ledger run (optiinfra status); "
        f"see how far it came: optiinfra explain {flight.action_id}",
    )
