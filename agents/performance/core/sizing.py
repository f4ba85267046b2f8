"""Stage `sizing`: the SLIs of a workload become a finding, every 15 s, of how many replicas there should be.

SLIs, actions and outcomes are folded into what is known; a tick that reaches a multiple of 15 s of event time is a
look, for then all that was told until then is in. A look asks the scaler (`scaler.py`), which is told what arrived,
what waits, and which replicas serve or were ordered; of the replicas themselves it is told what was learnt so far.
Where evidence is old, or too few instances told theirs, nothing is called spare. Nor is it while a breaker of ours at
the gateway refuses all requests: what engines truly tell then is no demand.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from agents.core.watcher import Watcher, age_s, due
from agents.performance.core import demand, evidence, holding, underway
from agents.performance.core.capacity import Capacity, CapacityModel
from agents.performance.core.scaler import Decision, PredictiveScaler
from agents.performance.core.sizing_state import Mind, Newest, Served, SizingSettings, SizingState
from contracts.catalog.findings import KINDS
from contracts.events import Action, ActionKind, Finding, Message, Outcome, Sli
from contracts.events.findings import WORDS_LIMIT
from contracts.scaling import FleetFacts, LoadSeen

KIND = "sizing"
LOOK_MS = KINDS[KIND] * 1000
COVERAGE_FLOOR = 0.5
REOPENS_MS = 2 * LOOK_MS
"""So long after a breaker has closed no arrivals are taken in: users come back within seconds, not at once."""
_LEAST_RPS = 1e-6
NOTED_CHANGE = 0.05
"""The scaler is told of capacity and start-up anew when either has changed by more than this share."""


class Sizing(Watcher[SizingState]):
    """The fold, with its settings."""

    def __init__(self, settings: SizingSettings) -> None:
        super().__init__(SizingState, settings)
        self._settings = settings
        self._estimates: dict[str, tuple[CapacityModel, Capacity]] = {}

    def hears(self, state: SizingState | None, sli: Sli) -> bool:
        """What the workload did as a whole."""
        return evidence.hears(state, sli)

    def heard(self, state: SizingState, sli: Sli) -> SizingState:
        """The newest scrapes tell the load, windows what came of it."""
        if sli.size_s > 0:
            return evidence.window(state, sli, self._settings.target_of(sli.workload))
        ahead_ms = round(self._settings.ahead_s * 1000)
        return evidence.latest(
            state, sli, sli.end_ms if state.tick_ms is None else min(sli.end_ms, state.tick_ms + ahead_ms)
        )

    def acted(self, state: SizingState, action: Action) -> SizingState:
        """Replicas that are ordered are under way; a breaker refuses all requests until its time."""
        if action.spec.kind is ActionKind.BREAKER:
            return state.model_copy(update={"breaker_until_ms": round(action.gateway_limits["breaker_until_ms"])})
        return _moved(state, underway.said(state.underway, action, _up(state)))

    def ended(self, state: SizingState, outcome: Outcome) -> SizingState:
        """Replicas are there, or will not come; and what one bears may be less than was thought. A breaker that was
        taken back, or never opened, refuses nobody."""
        until_ms, limits = state.breaker_until_ms, outcome.action.gateway_limits
        if until_ms == limits.get("breaker_until_ms", -1) and outcome.end_state in underway.TAKEN_BACK:
            return state.model_copy(update={"breaker_until_ms": min(until_ms, outcome.at_ms)})
        return _moved(evidence.tried(state, outcome), underway.ended(state.underway, outcome))

    def began(self, state: SizingState) -> SizingState:
        """Looks are counted from the first tick on."""
        return state.model_copy(update={"looked_ms": state.tick_ms})

    def look(self, state: SizingState, last_ms: int, at_ms: int) -> tuple[SizingState, list[Message]]:
        """How many replicas there should be, where there is anything new to say of it."""
        ordered = underway.overdue(state.underway, at_ms)
        looked_ms = state.looked_ms if state.looked_ms is not None else last_ms
        if not due(LOOK_MS, looked_ms, at_ms):
            return _moved(state, ordered), []
        fresh = self._fresh(state, at_ms)
        if fresh and not demand.has_news(state.demand):
            return _moved(state, ordered), []  # scrapes are rarer than looks: the next one is waited for
        changes, found = self._look(state, ordered, at_ms, fresh)
        return state.model_copy(update={"underway": ordered} | changes), [found]

    def left(self, state: SizingState, at_ms: int) -> SizingState | None:
        """Nothing, nor what was worked out of it."""
        self._estimates.pop(state.workload, None)
        return None

    def _fresh(self, state: SizingState, at_ms: int) -> bool:
        newest = state.newest
        return (
            newest is not None
            and newest.up is not None
            and newest.coverage_ratio >= COVERAGE_FLOOR
            and _age_s(newest, at_ms) <= self._settings.max_age_s
        )

    def _look(
        self, state: SizingState, ordered: underway.Underway, at_ms: int, fresh: bool
    ) -> tuple[dict[str, Any], Finding]:
        """What a look changes in the state, and what it finds; `ordered` is what is under way by now."""
        rest, arrived, partial = demand.taken(state.demand, at_ms)
        broken = state.breaker_until_ms is not None and at_ms < state.breaker_until_ms + REOPENS_MS
        if not fresh or broken:
            rest, arrived = demand.Demand(until_ms=at_ms), None
        newest, served = state.newest, state.served
        capacity = self._capacity(state)
        startup_s, startup_words = ordered.startup_s(self._settings.startup_s)
        values, mind = {"startup_s": startup_s}, state.mind
        words = "how many replicas there should be is not known yet"
        up = newest.up if fresh and newest is not None else state.up
        if up is not None:
            ready, starting = ordered.counts(up)
            values["replicas_ordered"] = float(ready + starting)
            planned_rps = capacity.planned_rps
            if planned_rps is not None:
                seen = LoadSeen(
                    now_s=at_ms // 1000,
                    arrived=arrived,
                    waiting=newest.waiting if newest is not None and arrived is not None else None,
                    running=newest.running if newest is not None and arrived is not None else None,
                    ready=ready,
                    starting=starting,
                    done=float(served.done) if served is not None else 0.0,
                    late=float(served.late) if served is not None else 0.0,
                )
                mind, scaler = self._mind(state, planned_rps, startup_s)
                may_lower = arrived is not None and not partial
                bounds = self._settings.bounds_of(state.workload)
                values |= _sized(scaler, seen, capacity, bounds, may_lower=may_lower)
                values |= {} if capacity.rps is None else {"capacity_rps": capacity.rps}
                values["capacity_error_ratio"] = capacity.error_ratio
                words = f"{scaler.last.explain()}; at {planned_rps:.4g} req/s a replica"
            if fresh and newest is not None:
                usage_ratio = _usage_ratio(newest, served, at_ms)
                values, bound = holding.held(values, usage_ratio, up)
                words = f"{words}; {bound}" if bound else words
        words = f"every request is refused at the gateway, or was until just now; {words}" if broken else words
        found = Finding(
            workload=state.workload,
            kind=KIND,
            at_ms=at_ms,
            cause_ms=newest.cause_ms if newest is not None else state.heard_ms,
            freshness_s=_age_s(newest, at_ms) if newest is not None else age_s(state.heard_ms, at_ms),
            values=values,
            words=f"{words}; capacity: {capacity.words}; {startup_words}"[:WORDS_LIMIT],
            by_replica={},
        )
        changes = {
            "looked_ms": at_ms,
            "demand": rest,
            "mind": mind,
            # A look that sees nothing takes nothing in: the next one that sees is told of it.
            "served": served if served is None or arrived is None else served.told(),
        }
        return changes, found

    def _capacity(self, state: SizingState) -> Capacity:
        """What the model of its replicas comes to: worked out once for the several looks between two windows."""
        known = self._estimates.get(state.workload)
        if known is None or known[0] is not state.capacity:
            known = self._estimates[state.workload] = (state.capacity, state.capacity.estimate())
        return known[1]

    def _mind(self, state: SizingState, capacity_rps: float, startup_s: float) -> tuple[Mind, PredictiveScaler]:
        """A scaler to be asked, that of before or a new one, told of the replicas as they are known now."""
        target, turns = self._settings.target_of(state.workload), self._settings.turns_of(state.workload)
        least, most = self._settings.bounds_of(state.workload)
        service_s = state.served.service_s if state.served is not None else None
        facts = FleetFacts(capacity_rps, service_s or 1.0, startup_s, KINDS[KIND], least, most)
        scaler = state.mind.awake(target, turns) if state.mind is not None else None
        if scaler is None or state.mind is None:
            scaler = PredictiveScaler(facts, target=target, turns_a_day=turns)
            return Mind(facts=facts, scaler=scaler), scaler
        known = state.mind.facts
        if not _differs(known, facts):
            return Mind(facts=known, scaler=scaler), scaler
        scaler.relearn(facts)
        return Mind(facts=facts, scaler=scaler), scaler


def _sized(
    scaler: PredictiveScaler, seen: LoadSeen, capacity: Capacity, bounds: tuple[int, int], *, may_lower: bool
) -> dict[str, float]:
    """The scaler's answer in numbers. What is not wholly known lowers nothing and makes nothing spare."""
    ordered = seen.ready + seen.starting
    wanted, last = scaler.decide(seen), scaler.last
    if capacity.hoped_rps is not None:
        return _explored(ordered, last, capacity, bounds, may_lower=may_lower)
    values = {
        "replicas_wanted": float(wanted if may_lower else max(wanted, ordered)),
        "replicas_short": float(max(0, wanted - ordered)),
    }
    if may_lower:
        values["replicas_spare"] = float(max(0, ordered - wanted))
    if not last.blind:
        values["expected_rps"] = last.expected_rps
    return values


def _explored(
    ordered: int, last: Decision, capacity: Capacity, bounds: tuple[int, int], *, may_lower: bool
) -> dict[str, float]:
    """As long as nobody knows what a replica bears and nobody waited: short is what is needed even if each bears all
    that it may; spare is what is not needed if each does a little more than it did, and no margin is taken from what is
    no limit. How many there should be, and what is expected, is not told: rules on queue and slack have their say."""
    least, most = bounds
    tried_rps, hoped_rps = capacity.planned_rps or _LEAST_RPS, capacity.hoped_rps or _LEAST_RPS
    short = min(most, ceil(max(last.quantile_rps, last.floor_rps) / hoped_rps)) - ordered
    values = {"replicas_short": float(max(0, short))}
    if may_lower:
        spare = ordered - max(least, ceil(max(last.peak_rps, last.floor_rps) / tried_rps))
        values["replicas_spare"] = float(max(0, spare) if short <= 0 else 0)
    return values


def _differs(known: FleetFacts, now: FleetFacts) -> bool:
    if (known.least, known.most) != (now.least, now.most):
        return True
    if abs(now.capacity_rps - known.capacity_rps) > NOTED_CHANGE * known.capacity_rps:
        return True
    return abs(now.startup_s - known.startup_s) > NOTED_CHANGE * known.startup_s


def _usage_ratio(newest: Newest, served: Served | None, at_ms: int) -> float | None:
    """The KV cache in use: a moment in which little is held says less than the minute before it. A window that ended
    longer ago than two of its size says nothing of now."""
    known = served is not None and at_ms - served.end_ms <= 2 * served.size_s * 1000
    uses = (newest.kv_usage_ratio, served.kv_usage_ratio if served is not None and known else None)
    return max((use for use in uses if use is not None), default=None)


def _age_s(newest: Newest, at_ms: int) -> float:
    return age_s(newest.end_ms, at_ms) + newest.freshness_s


def _up(state: SizingState) -> int | None:
    """Replicas that answer, by the newest count."""
    return state.newest.up if state.newest is not None and state.newest.up is not None else state.up


def _moved(state: SizingState, moved: underway.Underway) -> SizingState:
    return state if moved is state.underway else state.model_copy(update={"underway": moved})
