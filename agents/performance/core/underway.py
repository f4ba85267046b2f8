"""Replicas that were ordered and are not there yet, or drain and still answer: what no scrape tells.

The count starts from the replicas that answer when something is ordered, and follows what is said to be done, until
the last of it has ended: then those that answer are the count again.
"""

from __future__ import annotations

from math import ceil

from pydantic import BaseModel, ConfigDict

from agents.core.allowed import allowed_s
from contracts.events import Action, ActionKind, EndState, Outcome

TAKEN_BACK = (EndState.UNDONE, EndState.FAILED, EndState.REFUSED)
IDS_LIMIT = 50
STARTUPS_LIMIT = 20
LOST_S = 900.0
"""An action of which nothing is heard so long after its time is no longer counted."""


class Flight(BaseModel):
    """An action that has not ended: replicas it adds (below 0: takes), how many answer once it is done, when they
    first did, and until when it is waited for. One that was left unverified ends only when its replicas answer;
    `began_ms` is when they were ordered. One that `restarts` replicas does so one at a time."""

    model_config = ConfigDict(frozen=True)

    action_id: str
    change: int
    goal: int | None
    reached_ms: int | None = None
    began_ms: int | None = None
    restarts: bool = False
    until_ms: int


class Underway(BaseModel):
    """`ordered`: replicas there are to be once every flight has ended (None: not known). `ended`: actions that have,
    newest last. `startups_s`: from the first step of an order until all of it answered, newest last."""

    model_config = ConfigDict(frozen=True)

    ordered: int | None = None
    flights: tuple[Flight, ...] = ()
    ended: tuple[str, ...] = ()
    startups_s: tuple[float, ...] = ()

    def counts(self, up: int) -> tuple[int, int]:
        """Replicas that serve and are to stay, and those ordered that do not serve yet, where `up` answer.

        No more are to come than the flights add, and the one that restarts: what is missing beyond that was lost
        meanwhile.
        """
        if not self.flights or self.ordered is None:
            return up, 0
        coming = sum(max(0, flight.change) for flight in self.flights)
        coming += any(flight.restarts for flight in self.flights)
        return min(up, self.ordered), min(coming, max(0, self.ordered - up))

    def startup_s(self, supposed_s: float) -> tuple[float, str]:
        """The start-up to reckon with, p90 of those seen, and what that rests on."""
        if not self.startups_s:
            return supposed_s, f"a start-up of {supposed_s:.0f} s is supposed, none was seen yet"
        ordered = sorted(self.startups_s)
        p90_s = ordered[ceil(0.9 * len(ordered)) - 1]
        seen = f"p90 of {len(ordered)} seen, {ordered[0]:.0f} to {ordered[-1]:.0f} s"
        return p90_s, f"a start-up of {p90_s:.0f} s ({seen})"


def said(state: Underway, action: Action, up: int | None) -> Underway:
    """An action was approved; one that is known, or that leaves all replicas in service, changes nothing."""
    restarts = action.spec.kind is ActionKind.TUNE
    if not (restarts or action.spec.kind.scales):
        return state
    if action.id in state.ended or any(flight.action_id == action.id for flight in state.flights):
        return state
    adds = action.spec.kind is ActionKind.SCALE_UP
    change = 0 if restarts else action.spec.replicas if adds else -action.spec.replicas
    base = state.ordered if state.flights else up
    if base is not None and up is not None:
        base = sum(state.counts(up))
    ordered = None if base is None else max(0, base + change)
    flight = Flight(
        action_id=action.id,
        change=change,
        goal=ordered if adds else None,
        restarts=restarts,
        until_ms=action.start_by_ms + round((allowed_s(action.spec) + LOST_S) * 1000),
    )
    return state.model_copy(update={"ordered": ordered, "flights": (*state.flights, flight)})


def answered(state: Underway, up: int, at_ms: int) -> Underway:
    """So many replicas answer: orders of which all are there have been reached. Where none was known to answer when
    they were ordered, the count starts now."""
    if state.flights and state.ordered is None:
        state = _counted(state, up)
    if not any(_reached(flight, up) for flight in state.flights):
        return state
    flights: list[Flight] = []
    startups_s = list(state.startups_s)
    for flight in state.flights:
        if not _reached(flight, up):
            flights.append(flight)
        elif flight.began_ms is None:
            flights.append(flight.model_copy(update={"reached_ms": at_ms}))
        else:
            startups_s.append(max(0.0, (at_ms - flight.began_ms) / 1000))
    changes = {"flights": tuple(flights), "startups_s": tuple(startups_s[-STARTUPS_LIMIT:])}
    return state.model_copy(update=changes)


def ended(state: Underway, outcome: Outcome) -> Underway:
    """An action is over. What was taken back is not ordered any more; a start-up that was seen whole is remembered.
    An order that nobody saw done, and that was left as it is, is waited for a while yet."""
    ident = outcome.action.id
    if ident in state.ended:
        return state
    state = state.model_copy(update={"ended": (*state.ended, ident)[-IDS_LIMIT:]})
    flight = next((flight for flight in state.flights if flight.action_id == ident), None)
    if flight is None:
        return state
    others = tuple(each for each in state.flights if each.action_id != ident)
    if outcome.end_state in TAKEN_BACK:
        return _never(state, flight)
    began_ms = outcome.began_ms
    if began_ms is None or flight.goal is None:
        return state.model_copy(update={"flights": others})
    if flight.reached_ms is not None:
        took_s = max(0.0, (flight.reached_ms - began_ms) / 1000)
        startups_s = (*state.startups_s, took_s)[-STARTUPS_LIMIT:]
        return state.model_copy(update={"flights": others, "startups_s": startups_s})
    if outcome.end_state is EndState.HELD_UNVERIFIED:
        until_ms = outcome.at_ms + round(LOST_S * 1000)
        held = flight.model_copy(update={"began_ms": began_ms, "until_ms": until_ms})
        flights = tuple(held if each is flight else each for each in state.flights)
        return state.model_copy(update={"flights": flights})
    return state.model_copy(update={"flights": others})


def _counted(state: Underway, up: int) -> Underway:
    """As if so many had answered when the flights were ordered."""
    ordered, flights = up, list[Flight]()
    for flight in state.flights:
        ordered = max(0, ordered + flight.change)
        flights.append(flight.model_copy(update={"goal": ordered}) if flight.change > 0 else flight)
    return state.model_copy(update={"ordered": ordered, "flights": tuple(flights)})


def overdue(state: Underway, now_ms: int) -> Underway:
    """Without the actions of which nobody will say any more how they ended, and what they were to add."""
    while (flight := next((each for each in state.flights if now_ms > each.until_ms), None)) is not None:
        if flight.change > 0 and flight.reached_ms is None:
            state = _never(state, flight)
        else:
            state = state.model_copy(update={"flights": tuple(each for each in state.flights if each is not flight)})
    return state


def _never(state: Underway, flight: Flight) -> Underway:
    """Without an action of which nothing is left: those ordered after it had counted on it."""
    place = state.flights.index(flight)
    later = [
        each if each.goal is None else each.model_copy(update={"goal": max(0, each.goal - flight.change)})
        for each in state.flights[place + 1 :]
    ]
    ordered = None if state.ordered is None else max(0, state.ordered - flight.change)
    return state.model_copy(update={"flights": (*state.flights[:place], *later), "ordered": ordered})


def _reached(flight: Flight, up: int) -> bool:
    return flight.goal is not None and flight.reached_ms is None and up >= flight.goal
