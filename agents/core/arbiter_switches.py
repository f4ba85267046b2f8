"""What people do beside deciding: they set the mode, stop and resume all action, and change the fleet by hand."""

from __future__ import annotations

from agents.core.arbiter_state import ArbiterState
from contracts.events import GATEWAY_CHANGE, MANUAL_CHANGE, Alert, Control, ControlKind, FleetEvent, Message, Severity


def on_control(state: ArbiterState, control: Control) -> tuple[ArbiterState, list[Message]]:
    """Set what a person wants, for everything that comes after it in the log.

    Wall time orders controls: one that is older than what is set changes nothing, and people are told. Of a kill and a
    resume in the same millisecond the kill holds.
    """
    if control.id in state.heard.ids:
        return state, []
    state = state.model_copy(update={"heard": state.heard.add([control.id], state.now_ms, state.now_ms)})
    at_ms = control.at_wall_ms
    before_ms = state.mode_at_wall_ms if control.kind is ControlKind.MODE else state.killed_at_wall_ms
    ties_lose = control.kind is ControlKind.RESUME and state.killed is not None
    if before_ms is not None and (at_ms < before_ms or (at_ms == before_ms and ties_lose)):
        return state, [_ignored(state, control, before_ms)]
    if control.kind is ControlKind.MODE:
        return state.model_copy(update={"mode": control.mode, "mode_at_wall_ms": at_ms}), []
    why = f": {control.reason}" if control.reason else ""
    killed = f"by {control.actor}{why}" if control.kind is ControlKind.KILL else None
    return state.model_copy(update={"killed": killed, "killed_at_wall_ms": at_ms}), []


def on_event(state: ArbiterState, event: FleetEvent) -> ArbiterState:
    """Note a change by hand; the newest one counts. Older ones are not even remembered: whoever follows a fleet tells
    anew, when it starts, of all that the fleet remembers."""
    if event.name == GATEWAY_CHANGE:
        return _on_gateway(state, event)
    if event.name != MANUAL_CHANGE or event.id in state.events.ids:
        return state
    at_ms = min(event.at_ms, state.now_ms)
    if state.manual_ms is not None and at_ms < state.manual_ms:
        return state
    events = state.events.add([event.id], at_ms, state.now_ms)
    summary = event.summary or f"change {event.number}"
    return state.model_copy(update={"events": events, "manual_ms": at_ms, "manual": summary})


def _on_gateway(state: ArbiterState, event: FleetEvent) -> ArbiterState:
    """Note what a gateway lets through; what no action of ours accounts for was set by hand."""
    at_ms = min(event.at_ms, state.now_ms)
    if state.gateway_ms is not None and at_ms < state.gateway_ms:
        return state
    known = state.gateway
    strange = [
        f"{name} {value}"
        for name, value in sorted(event.limits.items())
        if value != known.get(name, 0) and value not in state.gateway_own.get(name, ())
    ]
    if known == event.limits and not strange:
        return state
    state = state.model_copy(update={"gateway": dict(event.limits), "gateway_ms": at_ms})
    if not strange:
        return state
    return state.model_copy(
        update={"gateway_hand_ms": at_ms, "gateway_hand": f"at the gateway, {', '.join(strange)}"[:2000]}
    )


def _ignored(state: ArbiterState, control: Control, before_ms: int) -> Alert:
    return Alert(
        workload=state.workload,
        name="control_ignored",
        severity=Severity.WARNING,
        subject=control.id,
        at_ms=state.now_ms,
        summary=f"`{control.kind}` by {control.actor} is {(before_ms - control.at_wall_ms) / 1000:g} s older than what "
        f"is set for {state.workload}; it changed nothing",
        fix="Set it again, from a machine whose clock is right.",
    )
