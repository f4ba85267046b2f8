"""Stage `resource`: SLIs become findings on memory: its pressure every 45 s, KV tiers and context windows now and then.

SLIs, actions and outcomes are folded into what is known; ticks that pass a multiple of a kind's time are looks. Where
pages tell nothing of memory, or nothing of late, nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.core.watcher import Watcher, age_s, due
from agents.resource.core import context, tiers
from agents.resource.core.allowed import until_ms
from agents.resource.core.gate import Gate
from agents.resource.core.loosening import BUSY_MS, loosened
from agents.resource.core.memory_state import ResourceSettings, ResourceState
from agents.resource.core.pressure import Level, Pressure, Signs, pressure_of
from agents.resource.core.readings import (
    HIGH_RATIO,
    KEPT_S,
    SIZES_S,
    SPAN_S,
    Reading,
    above_s,
    full_in_s,
    reading_of,
    rise_per_s,
    signs_of,
)
from agents.resource.core.valves import MANY, SHORT, Valves, of_memory
from contracts.catalog.findings import KINDS
from contracts.events import Action, ActionKind, Alert, Finding, FleetEvent, Message, Outcome, Severity, Sli
from contracts.events.findings import WORDS_LIMIT

LOOK_MS, TIERS_MS, CONTEXT_MS = (KINDS[kind] * 1000 for kind in ("pressure", "tiers", "context"))
MINUTE_S, LENGTHS_S = 60, 300
"""Windows that tell which replicas there are, and those from which lengths and reuse are read."""
REPLICAS_LIMIT = 1000
NEWEST = 20
"""So many of the actions and outcomes that were heard of are remembered: one that is read again changes nothing."""
SETTLED_MS = 60_000
"""So long after a restart of our own an engine that began anew is put down to it."""


class Memory(Watcher[ResourceState]):
    """The fold, with its settings."""

    def __init__(self, settings: ResourceSettings) -> None:
        super().__init__(ResourceState, settings, reach_s=KEPT_S)
        self._settings = settings

    def advance(self, state: ResourceState | None, message: Message) -> tuple[ResourceState | None, list[Message]]:
        """Fold one message. A workload is also known from what is told of its gateway."""
        if not isinstance(message, FleetEvent):
            return super().advance(state, message)
        known = state or ResourceState(workload=message.workload, heard_ms=message.at_ms)
        if message.id in known.events:  # heard again, it would be of a time that a later tick allows
            return known, []
        gate, events = self._by_now(known, known.gate.heard(message)), (*known.events, message.id)[-NEWEST:]
        return known.model_copy(update={"gate": gate, "events": events}), []

    def hears(self, state: ResourceState | None, sli: Sli) -> bool:
        """Windows of the workload, and the minutes of its replicas that are not long gone."""
        if sli.size_s == 0 or sli.instance_id is None:
            return sli.size_s > 0
        tick_ms = state.tick_ms if state is not None else None
        return sli.size_s == MINUTE_S and (tick_ms is None or tick_ms - sli.end_ms <= self._settings.gone_s * 1000)

    def heard(self, state: ResourceState, sli: Sli) -> ResourceState:
        """A minute tells that its replica is there, a window of the workload how its memory is used."""
        changes: dict[str, Any] = {}
        if sli.instance_id is not None:
            if sli.instances_up and (sli.instance_id in state.replicas or len(state.replicas) < REPLICAS_LIMIT):
                newest_ms = max(sli.end_ms, state.replicas.get(sli.instance_id, 0))
                changes["replicas"] = state.replicas | {sli.instance_id: newest_ms}
        elif sli.size_s in SIZES_S:
            reading = reading_of(sli, planned=sli.end_ms <= max(state.planned.values(), default=0))
            if reading is not None:
                changes["readings"] = state.readings.heard(reading)
        elif sli.size_s == LENGTHS_S:
            changes |= {"lengths": state.lengths.heard(sli), "reuse": state.reuse.heard(sli)}
        return state.model_copy(update=changes) if changes else state

    def acted(self, state: ResourceState, action: Action) -> ResourceState:
        """An action that is known changes nothing; one that sets engines anew restarts them."""
        if action.id in state.account.known:
            return state
        planned = state.planned
        if action.spec.kind is ActionKind.TUNE:
            planned = dict([*planned.items(), (action.id, until_ms(action))][-NEWEST:])
        changes = {"account": state.account.acted(action), "gate": state.gate.acted(action), "planned": planned}
        return state.model_copy(update=changes)

    def ended(self, state: ResourceState, outcome: Outcome) -> ResourceState:
        """What was prevented is counted; engines that begin anew from now on are soon no longer our doing."""
        if outcome.id in state.over:
            return state
        planned, ident = state.planned, outcome.action.id
        if ident in planned:
            planned = planned | {ident: min(planned[ident], outcome.at_ms + SETTLED_MS)}
        gate = self._by_now(state, state.gate.ended(outcome))
        changes = {"account": state.account.ended(outcome), "gate": gate, "planned": planned}
        return state.model_copy(update=changes | {"over": (*state.over, outcome.id)[-NEWEST:]})

    def began(self, state: ResourceState) -> ResourceState:
        """What the gateway told before may be of a clock that is ahead."""
        return state.model_copy(update={"gate": self._by_now(state, state.gate)})

    def _by_now(self, state: ResourceState, gate: Gate) -> Gate:
        """What is told of a gateway by a clock that is ahead makes nobody deaf to what is told next."""
        if state.tick_ms is None:
            return gate
        return gate.known_by(state.tick_ms + round(self._settings.ahead_s * 1000))

    def left(self, state: ResourceState, at_ms: int) -> ResourceState | None:
        """Of a workload of which nobody speaks, what was counted, and what stands at its gateway."""
        account, gate = state.account.model_copy(update={"case": None}), state.gate
        if not any(account.values().values()) and not gate.holds:
            return None
        return ResourceState(
            workload=state.workload, heard_ms=state.heard_ms, tick_ms=at_ms, account=account, gate=gate
        )

    def anew(self, state: ResourceState, at_ms: int) -> ResourceState:
        """What the gateway told came by another clock than the SLIs, and stands."""
        gate = state.gate.known_by(at_ms)
        return ResourceState(workload=state.workload, heard_ms=at_ms, gate=gate)

    def look(self, state: ResourceState, last_ms: int, at_ms: int) -> tuple[ResourceState, list[Message]]:
        """Each kind of finding at its own time."""
        told: list[Message] = []
        if due(LOOK_MS, last_ms, at_ms):
            gone_ms = at_ms - self._settings.gone_s * 1000
            known = {name: ms for name, ms in state.replicas.items() if ms >= gone_ms}
            state, told = self._look(state.model_copy(update={"replicas": known}), at_ms)
            if state.gate.stands_long(at_ms):
                told = [*told, _stands(state, at_ms)]
                state = state.model_copy(update={"gate": state.gate.said()})
        if due(TIERS_MS, last_ms, at_ms):
            told += self._tiers(state, at_ms)
        if due(CONTEXT_MS, last_ms, at_ms):
            told += self._context(state, at_ms)
        return state, told

    def _look(self, state: ResourceState, at_ms: int) -> tuple[ResourceState, list[Message]]:
        kept = state.readings.since(at_ms - KEPT_S * 1000, at_ms)
        recent = [each for each in kept if each.end_ms > at_ms - SPAN_S * 1000]
        from_ms = at_ms - self._settings.max_age_s * 1000
        if not recent or recent[-1].end_ms < from_ms:
            account, valves = state.account.looked(at_ms, kept, None), state.valves.lost()
            told = _alerts(state, valves, at_ms, None, self._settings.has_gateway(state.workload))
            return state.model_copy(update={"account": account, "valves": valves}), told
        rise, restarts = rise_per_s(recent), sum(each.restarts for each in recent)
        full_s = full_in_s(rise)
        account = state.account.looked(at_ms, kept, full_s, held=state.gate.holds)
        since_ms = max(recent[0].end_ms - 1, state.valves.tripped_ms)
        anew = sum(each.restarts for each in of_memory(kept) if each.end_ms > since_ms)
        valves = state.valves.looked(at_ms, recent[-1].kv, anew, len(state.replicas))
        if not any(each.kv is not None and each.end_ms >= from_ms for each in recent):
            valves = valves.lost()
        signs = signs_of(recent)
        pressure, context_tokens = pressure_of(signs), self._settings.context_tokens.get(state.workload)
        longest, least = state.gate.present(context_tokens), self._settings.least_tokens(state.workload)
        values = account.values() | valves.values(at_ms, longest, least) | {"restarts_seen": restarts}
        running = recent[-1].running if recent[-1].up >= len(state.replicas) else None
        values |= state.gate.values(recent[-1].kv, running)
        if not anew and at_ms >= BUSY_MS + max(valves.breaker_until_ms, state.gate.breaker_until_ms):
            # A cache that is empty because requests are refused, or engines died, is no relief.
            values |= loosened(state.gate, recent, len(state.replicas))
        values |= pressure.values() if pressure is not None else {}
        values |= _precursors(signs, recent, kept, rise)
        parts = (_words(pressure, recent, full_s), valves.explain(at_ms), state.gate.explain(), account.explain())
        found = self._finding(state, "pressure", at_ms, recent, values, "; ".join(part for part in parts if part))
        told = [found, *_alerts(state, valves, at_ms, recent[-1].kv, self._settings.has_gateway(state.workload))]
        return state.model_copy(update={"account": account, "valves": valves}), told

    def _tiers(self, state: ResourceState, at_ms: int) -> list[Message]:
        if at_ms - state.reuse.end_ms > 2 * LENGTHS_S * 1000:
            return []
        mean, most = state.lengths.mean, self._settings.context_tokens.get(state.workload)
        ratio = None if mean is None or most is None else min(1.0, mean / most)
        found = tiers.verdict(state.reuse, ratio)
        return [self._finding(state, "tiers", at_ms, (), found.values(), found.explain())]

    def _context(self, state: ResourceState, at_ms: int) -> list[Message]:
        if at_ms - state.lengths.end_ms > 2 * LENGTHS_S * 1000:
            return []
        now_tokens = self._settings.context_tokens.get(state.workload)
        if now_tokens is None or state.lengths.beyond:
            why = context.UNKNOWN if now_tokens is None else context.BEYOND
            return [self._finding(state, "context", at_ms, (), {}, why)]
        pressure = pressure_of(signs_of(state.readings.since(at_ms - SPAN_S * 1000, at_ms)))
        pressed = pressure is not None and pressure.level >= Level.MEDIUM
        found = context.proposal(state.lengths, now_tokens, pressed)
        return [] if found is None else [self._finding(state, "context", at_ms, (), found.values(), found.explain())]

    def _finding(
        self,
        state: ResourceState,
        kind: str,
        at_ms: int,
        behind: Sequence[Reading],
        values: dict[str, float],
        words: str,
    ) -> Finding:
        newest_ms = behind[-1].end_ms if behind else state.heard_ms
        return Finding(
            workload=state.workload,
            kind=kind,
            at_ms=at_ms,
            cause_ms=behind[-1].cause_ms if behind else state.heard_ms,
            freshness_s=age_s(newest_ms, at_ms),
            values=values,
            words=words[:WORDS_LIMIT],
            by_replica=dict.fromkeys(sorted(state.replicas), 1.0) if _asks(values) else {},
        )


def _asks(values: dict[str, float]) -> bool:
    """Whether a finding asks for another setting of all replicas, so that it names them."""
    return values.get("context_worth_setting") == 1.0


def _precursors(
    signs: Signs, recent: Sequence[Reading], kept: Sequence[Reading], rise: tuple[float, float] | None
) -> dict[str, float]:
    """Signs that memory will run out, each left out where it is not known."""
    found = {
        "kv_p95_ratio": signs.kv_p95_ratio,
        "kv_above_s": above_s(kept) if recent[-1].kv is not None else None,
        "kv_rise_per_min_ratio": rise[0] * 60 if rise is not None else None,
        "kv_full_in_s": full_in_s(rise),
        "preempted_ratio": signs.preempted_ratio,
    }
    return {name: value for name, value in found.items() if value is not None}


def _words(pressure: Pressure | None, recent: Sequence[Reading], full_s: float | None) -> str:
    if pressure is None:
        return "no score: the use of the KV cache is not told"
    held_s = above_s(recent)
    held = f"; above {HIGH_RATIO:.0%} for {held_s:.0f} s or more" if held_s else ""
    rises = f"; full in {full_s:.0f} s if it goes on rising as it does" if full_s is not None else ""
    kv = recent[-1].kv
    now = "KV use is not told now" if kv is None else f"KV use {kv:.0%} now"
    return f"{pressure.explain()}; {now}{held}{rises}"


def _stands(state: ResourceState, at_ms: int) -> Alert:
    queue = state.gate.ours["max_in_flight"]
    whose, fix = "our queue at the gateway", "Add replicas, or look at prompt lengths: the fleet is too small. "
    if not queue.lifts:
        whose = "a queue at the gateway that an action of ours set, which nobody verified, and no rule lifts,"
        fix = "Set max_in_flight by hand when it is no longer needed (0: no limit). "
    return Alert(
        workload=state.workload,
        name="gateway_queue_stands",
        severity=Severity.WARNING,
        subject=state.workload,
        at_ms=at_ms,
        summary=f"{whose} has stood for {(at_ms - queue.since_ms) // 60_000} min, {queue.value} "
        "requests are let through at once: users wait before the gateway; the SLIs do not count them",
        fix=f"{fix}See the gateway's own metrics.",
    )


def _alerts(state: ResourceState, valves: Valves, at_ms: int, kv: float | None, gateway: bool) -> list[Message]:
    """What a gateway should begin or cease to do, told once; `gateway`: whether rules of ours do it. `kv`: share of KV
    blocks in use, None where it is not told."""
    facts: dict[str, Any] = {"workload": state.workload, "subject": state.workload, "at_ms": at_ms}
    told: list[Message] = []
    use = "KV use is not known any longer" if kv is None else f"KV use is {kv:.0%}"
    if valves.queue and not state.valves.queue:
        summary = f"{use}: let requests queue at the gateway until it is below 75 %"
        fix = "No gateway is named for it (gateways in optiinfra.yaml): set its queue yourself, or add replicas."
        fix = "Rule queue-at-gateway asks for it: see `optiinfra decisions`." if gateway else fix
        told.append(Alert(name="gateway_queue_advised", severity=Severity.WARNING, summary=summary, fix=fix, **facts))
    if state.valves.queue and not valves.queue:
        summary = f"{use}: the gateway need not hold requests on its account"
        told.append(Alert(name="gateway_queue_ended", severity=Severity.INFO, summary=summary, **facts))
    if valves.breaker_until_ms > state.valves.breaker_until_ms:
        summary = f"{MANY} began anew within five minutes {SHORT}: answer 503 for 2 min"
        fix = "See the logs of the engines for out-of-memory errors; lower gpu_memory_utilization or max_num_seqs."
        told.append(Alert(name="breaker_advised", severity=Severity.CRITICAL, summary=summary, fix=fix, **facts))
    return told
