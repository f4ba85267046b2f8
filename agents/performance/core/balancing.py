"""The balance part of stage `steering`: which share of the requests each replica should get, twice a minute.

Load is what scrapes saw since the look before; capacity is learnt of each replica from its own minutes, and taken to be
equal where what was learnt cannot be told apart. It speaks only where all replicas that are listed answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.performance.core.balance import Balance, Replica, balance
from agents.performance.core.capacity import CapacityModel
from agents.performance.core.minutes import Minute, replica_seen
from agents.performance.core.steering_state import BalanceState, Heard
from contracts.events import Action, ActionKind, EndState, Outcome

LEAST_SCRAPES = 2
LEAST_LOAD = 4.0
"""Requests a replica, on average, below which chance decides who has more."""
KNOWN_RATIO = 0.5
"""Standard error of a learnt capacity, above which it is not used, unless the limit was seen."""
APART = 1.2
"""Capacities differ where the largest is so many times the least. What is not known of one engine, as where its batch
ends, is mostly not known of the others either, so the ratio is known better than each of the two."""
IDS_LIMIT = 50
LEARNT_LIMIT = 100
"""Replicas of which the capacity is learnt, 3 kB each: a state has 1 MB at most. A fleet of more counts as equal."""


def minute(state: BalanceState, end_ms: int, parts: Mapping[str, Minute], target: float) -> BalanceState:
    """A minute of the replicas is closed."""
    new = sorted(name for name in parts if name not in state.capacity)
    learnt = {*state.capacity, *new[: max(0, LEARNT_LIMIT - len(state.capacity))]}
    seen = {
        name: state.capacity.get(name, CapacityModel()).seen(replica_seen({name: each}), target)
        for name, each in parts.items()
        if name in learnt
    }
    return state.model_copy(update={"capacity": state.capacity | seen})


def ended(state: BalanceState, outcome: Outcome) -> BalanceState:
    """An action is over: shares that were set, and hold, are those to go on from."""
    action: Action = outcome.action
    if action.spec.kind is not ActionKind.ROUTE or action.id in state.ended:
        return state
    ids = (*state.ended, action.id)[-IDS_LIMIT:]
    held = outcome.end_state in (EndState.VERIFIED, EndState.HELD_UNVERIFIED)
    return state.model_copy(update={"ended": ids} | ({"shares": dict(action.spec.by_replica)} if held else {}))


def without(state: BalanceState, known: Mapping[str, Heard]) -> BalanceState:
    """Without what was learnt of replicas that are no longer there."""
    if state.capacity.keys() <= known.keys():
        return state
    kept = {name: each for name, each in state.capacity.items() if name in known}
    return state.model_copy(update={"capacity": kept})


def look(state: BalanceState, answering: Mapping[str, Heard]) -> tuple[Balance, str] | None:
    """The finding and what capacities rest on; None where there is nothing to balance or too little was seen."""
    if len(answering) < 2 or any(each.scrapes < LEAST_SCRAPES for each in answering.values()):
        return None
    if sum(each.load / each.scrapes for each in answering.values()) < LEAST_LOAD * len(answering):
        return None
    capacity, words = capacities(state, tuple(answering))
    replicas = [
        Replica(name, each.load / each.scrapes, capacity[name], each.waiting / each.scrapes)
        for name, each in answering.items()
    ]
    return balance(replicas, {name: state.shares[name] for name in answering if name in state.shares}), words


def capacities(state: BalanceState, names: tuple[str, ...]) -> tuple[dict[str, float], str]:
    """The throughput limit of each replica in requests a second, or 1 for each, and in words which of the two."""
    told = {name: state.capacity[name].estimate() for name in names if name in state.capacity}
    known = {
        name: each.limit_rps
        for name, each in told.items()
        if each.limit_rps is not None and (each.saturated or each.error_ratio <= KNOWN_RATIO)
    }
    if len(known) < len(names):
        most = f", {LEARNT_LIMIT} at most" if len(names) > LEARNT_LIMIT else ""
        return dict.fromkeys(names, 1.0), f"capacities taken as equal: {len(known)} of {len(names)} are known{most}"
    ratio = max(known.values()) / min(known.values())
    if ratio <= APART:
        return dict.fromkeys(names, 1.0), f"capacities taken as equal: {ratio:.2f} apart, {APART:g} is told from chance"
    return known, f"capacities learnt: {', '.join(f'{name} {rps:.3g} req/s' for name, rps in known.items())}"
