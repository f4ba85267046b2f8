"""What stage `arbiter` remembers of one workload: switches, what is under way, open cases, and what it has dealt with.

All of it is bounded: ids are dropped after an hour of event time or when there are too many, closed cases after a day
or when there are too many. An id that is dropped can do no harm: a set as old as one that was forgotten counts as
answered, an approval of a case that was forgotten gets an alert, and an outcome frees its target only once.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from contracts.events import Action, ActionKind, CandidateSet, Decision, Message, Mode, Tick

REMEMBER_MS = 3_600_000
CLOSED_MS = 86_400_000
IDS_LIMIT = 200
OPEN_LIMIT = 8
CLOSED_LIMIT = 16
PENDING_LIMIT = 16
FLIGHTS_LIMIT = 20
"""Actions of one workload that may be under way at once: a scale-up every half minute of a start-up of ten."""

AWAITED_MS = 900_000
"""For so long the replicas of a scale-up that was left unverified may still come: a start-up of fifteen minutes."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flight(_Part):
    """An action whose outcome has not come. After `overdue_ms` it is said again, once, and that moves `overdue_ms`;
    then people are told, once, and the target stays taken. `found`: the replicas that answered when it was approved."""

    action: Action
    overdue_ms: int
    found: int = 0
    repeated: bool = False
    told: bool = False

    @property
    def action_id(self) -> str:
        """The action's id."""
        return self.action.id

    @property
    def kind(self) -> ActionKind:
        """What is done."""
        return self.action.spec.kind


class Awaited(_Part):
    """A scale-up that ended as it was, and nobody knows whether its `replicas` come. Until `until_ms`, or until all
    that were ordered answer, they count as those of a flight. `found`: as of the flight."""

    replicas: int
    found: int
    until_ms: int


class Case(_Part):
    """A decision that people were or are asked about. `decision` is how it stands, `revision` the newest one told,
    `replicas` what the fleet had when it was proposed. `closed` says how it ended, in words; empty while it is open.
    `successor` is the decision that took its place, where one did."""

    decision: Decision
    proposed_ms: int
    replicas: int
    revision: int = 0
    closed: str = ""
    successor: str = ""


class Seen(_Part):
    """Ids that were dealt with: when, and the event time that each of them spoke of. `forgotten_ms` is the newest event
    time of an id that was dropped."""

    ids: dict[str, tuple[int, int]] = {}
    forgotten_ms: int | None = None

    def add(self, idents: Sequence[str], at_ms: int, now_ms: int) -> Seen:
        """Remember more."""
        ids = self.ids | dict.fromkeys(idents, (now_ms, at_ms))
        return Seen(ids=ids, forgotten_ms=self.forgotten_ms).kept(now_ms)

    def kept(self, now_ms: int) -> Seen:
        """Without what is too old or too much, oldest first."""
        surplus = len(self.ids) - IDS_LIMIT
        oldest_ms, _ = next(iter(self.ids.values()), (now_ms, 0))
        if surplus <= 0 and oldest_ms >= now_ms - REMEMBER_MS:
            return self  # at most ticks, without a look at each id: they stand in the order in which they were seen
        gone = [
            ident
            for place, (ident, (seen_ms, _)) in enumerate(self.ids.items())
            if place < surplus or seen_ms < now_ms - REMEMBER_MS
        ]
        times = [self.ids[ident][1] for ident in gone]
        newest = max(times if self.forgotten_ms is None else [*times, self.forgotten_ms])
        return Seen(ids={k: v for k, v in self.ids.items() if k not in gone}, forgotten_ms=newest)

    def knows(self, ident: str, at_ms: int) -> bool:
        """Whether it was dealt with, or is as old as one that was and is forgotten."""
        return ident in self.ids or (self.forgotten_ms is not None and at_ms <= self.forgotten_ms)


class ArbiterState(_Part):
    """Per workload; event times in ms. `killed` says who stopped all action and why; None while it goes on.
    `last_ms` is when an action of each kind last did something, but for those that restored a limit of a gateway, which
    have `loosened_ms`; `replicas` how many answered at `replicas_ms`;
    `gateway` is what a gateway let through at `gateway_ms`, `gateway_own` the limits there that our actions account
    for, `gateway_set` values of those that they set and that may stand, `gateway_found` what stood before any of them,
    `gateway_hand` what somebody else set there last;
    `ordered` how many there are to be once the scale-ups under way have ended, None where there are none.

    What people say (`heard`) is remembered apart from what happens to the fleet (`events`): many of these must not push
    out those. Scale-ups that are `awaited` count for `ordered` as those under way do.
    """

    workload: str
    now_ms: int
    tick_ms: int | None = None
    mode: Mode | None = None
    mode_at_wall_ms: int | None = None
    killed: str | None = None
    killed_at_wall_ms: int | None = None
    manual_ms: int | None = None
    manual: str = ""
    gateway: dict[str, int] = {}
    gateway_ms: int | None = None
    gateway_own: dict[str, tuple[int, ...]] = {}
    gateway_set: dict[str, tuple[int, ...]] = {}
    gateway_found: dict[str, int] = {}
    gateway_hand_ms: int | None = None
    gateway_hand: str = ""
    last_ms: dict[ActionKind, int] = {}
    loosened_ms: dict[ActionKind, int] = {}
    replicas: int | None = None
    replicas_ms: int | None = None
    ordered: int | None = None
    pending: tuple[CandidateSet, ...] = ()
    flights: tuple[Flight, ...] = ()
    awaited: tuple[Awaited, ...] = ()
    cases: tuple[Case, ...] = ()
    decided: Seen = Seen()
    heard: Seen = Seen()
    events: Seen = Seen()
    ended: Seen = Seen()

    @property
    def starting(self) -> int:
        """Replicas that scale-ups under way, or left unverified, have still to bring, by what was ordered and what
        answers: no more than they add, since replicas may have been lost meanwhile."""
        if self.ordered is None or self.replicas is None:
            return 0
        added = sum(flight.action.spec.replicas for flight in self.flights if flight.kind is ActionKind.SCALE_UP)
        added += sum(each.replicas for each in self.awaited)
        return min(added, max(0, self.ordered - self.replicas))

    @property
    def standing(self) -> int:
        """The most replicas that a scale-up under way, or awaited, found when it was approved, 0 where none is."""
        found = [flight.found for flight in self.flights if flight.kind is ActionKind.SCALE_UP]
        return max([*found, *(each.found for each in self.awaited)], default=0)

    @property
    def holding_back(self) -> dict[str, int]:
        """The limits that actions of ours set at the gateway and that stand there still, as far as it has told; a
        breaker until its time."""
        stand = {name: self.gateway.get(name, values[-1]) for name, values in sorted(self.gateway_set.items())}
        return {
            name: value
            for name, value in stand.items()
            if value in self.gateway_set[name] and value > (self.now_ms if name == "breaker_until_ms" else 0)
        }

    def case(self, decision_id: str) -> Case | None:
        """The case of a decision, open or closed."""
        return next((case for case in self.cases if case.decision.decision_id == decision_id), None)

    def with_case(self, case: Case) -> ArbiterState:
        """With this case as it is now. Open ones keep their place, a closed one goes last; of too many the oldest of
        them is dropped."""
        cases = {each.decision.decision_id: each for each in self.cases}
        if case.closed:
            cases.pop(case.decision.decision_id, None)
        cases[case.decision.decision_id] = case
        closed = [ident for ident, each in cases.items() if each.closed]
        for ident in closed[: max(0, len(closed) - CLOSED_LIMIT)]:
            del cases[ident]
        return self.model_copy(update={"cases": tuple(cases.values())})

    def with_replicas(self, replicas: int, at_ms: int) -> ArbiterState:
        """With the newest number of replicas that is known."""
        if self.replicas_ms is not None and at_ms < self.replicas_ms:
            return self
        came = self.ordered is not None and replicas >= self.ordered
        newest = self.model_copy(update={"replicas": replicas, "replicas_ms": at_ms})
        return newest.awaiting(()) if came and self.awaited else newest

    def awaiting(self, awaited: tuple[Awaited, ...]) -> ArbiterState:
        """With these left unverified; where nothing is under way either, nothing is ordered."""
        ordered = self.ordered if awaited or self.flights else None
        return self.model_copy(update={"awaited": awaited, "ordered": ordered})


def begun(state: ArbiterState | None, message: Message, ahead_s: float) -> ArbiterState:
    """The state with the time that a message tells; a workload is known from its first message on."""
    if state is None:
        return ArbiterState(workload=message.key, now_ms=message.at)
    at_ms = message.at if state.tick_ms is None else min(message.at, state.tick_ms + round(ahead_s * 1000))
    return state if at_ms <= state.now_ms else state.model_copy(update={"now_ms": at_ms})


def ticked(state: ArbiterState, tick: Tick, ahead_s: float) -> ArbiterState:
    """The state at a tick, which also takes back a time that ran too far ahead before there were ticks."""
    now_ms = max(tick.at_ms, min(state.now_ms, tick.at_ms + round(ahead_s * 1000)))
    cases = tuple(each for each in state.cases if not each.closed or each.decision.at_ms >= now_ms - CLOSED_MS)
    update = {
        "tick_ms": tick.at_ms,
        "now_ms": now_ms,
        "cases": cases,
        "decided": state.decided.kept(now_ms),
        "heard": state.heard.kept(now_ms),
        "events": state.events.kept(now_ms),
        "ended": state.ended.kept(now_ms),
    }
    state = state.model_copy(update=update)
    awaited = tuple(each for each in state.awaited if each.until_ms > now_ms)
    return state if len(awaited) == len(state.awaited) else state.awaiting(awaited)
