"""Stage `steering`: SLIs of single replicas become findings on their engine settings and on their shares of requests.

It keeps who answers and what each replica did minute by minute. Ticks that pass a multiple of 30 s of event time are
looks: the balance is told then, the tuning when it asks for something else than before, or two minutes after it spoke
last. Nothing is asked for where replicas that are listed do not answer.
"""

from __future__ import annotations

from typing import Any

from agents.core.watcher import Watcher, age_s, due
from agents.performance.core import balancing
from agents.performance.core.minutes import WINDOW_S, minute_of
from agents.performance.core.steering_state import Heard, SteeringSettings, SteeringState, Whole
from agents.performance.core.trialling import Tuning
from contracts.catalog.findings import KINDS
from contracts.events import Action, Finding, Message, Outcome, Sli
from contracts.events.findings import WORDS_LIMIT

LOOK_MS = KINDS["balance"] * 1000
TUNING_MS = KINDS["tuning"] * 1000


class Steering(Watcher[SteeringState]):
    """The fold, with its settings."""

    def __init__(self, settings: SteeringSettings) -> None:
        super().__init__(SteeringState, settings, reach_s=settings.gone_s)
        self._settings, self._tuning = settings, Tuning(settings)

    def hears(self, state: SteeringState | None, sli: Sli) -> bool:
        """Who answers, and minutes."""
        return sli.size_s in (0, WINDOW_S)

    def heard(self, state: SteeringState, sli: Sli) -> SteeringState:
        """Scrapes tell who answers, minutes what each replica did."""
        if sli.size_s == 0:
            return _latest(state, sli)
        minute = minute_of(sli, self._target(sli.workload))
        if minute is None or sli.instance_id is None:
            return state
        canary = state.tuning.trial is not None and state.tuning.trial.canary == sli.instance_id
        return _changed(state, minutes=state.minutes.heard(sli.instance_id, sli.end_ms, minute, needed=canary))

    def acted(self, state: SteeringState, action: Action) -> SteeringState:
        """Settings that are given are waited for."""
        return _changed(state, tuning=self._tuning.said(state.tuning, action))

    def ended(self, state: SteeringState, outcome: Outcome) -> SteeringState:
        """Settings were given, or shares set; or not."""
        tuning, balance = self._tuning.ended(state.tuning, outcome), balancing.ended(state.balance, outcome)
        return _changed(state, tuning=tuning, balance=balance)

    def left(self, state: SteeringState, at_ms: int) -> SteeringState | None:
        """Replicas may have another setting than they were launched with, whether somebody looks or not."""
        tuning = state.tuning
        if tuning.trial is None and tuning.present is None and tuning.parked is None:
            return None
        return SteeringState(workload=state.workload, heard_ms=state.heard_ms, tick_ms=at_ms, tuning=state.tuning)

    def look(self, state: SteeringState, last_ms: int, at_ms: int) -> tuple[SteeringState, list[Message]]:
        """Shares and settings, at their time."""
        return self._look(state, at_ms) if due(LOOK_MS, last_ms, at_ms) else (state, [])

    def _target(self, workload: str) -> float:
        return max(0.5, self._settings.objectives_of(workload).attainment_target_ratio)

    def _look(self, state: SteeringState, at_ms: int) -> tuple[SteeringState, list[Message]]:
        settings = self._settings
        known = {n: each for n, each in state.replicas.items() if at_ms - each.end_ms <= settings.gone_s * 1000}
        state = self._minutes(_changed(state, replicas=known), at_ms)
        balance = balancing.without(state.balance, known)
        up = {n: e for n, e in sorted(known.items()) if e.up and at_ms - e.end_ms <= settings.max_age_s * 1000}
        whole = state.whole is not None and state.whole.listed == state.whole.up == len(up)
        told: list[Message] = []
        if state.whole is None or not up:
            return _changed(state, balance=balance), told
        facts: dict[str, Any] = {"workload": state.workload, "at_ms": at_ms, "cause_ms": state.whole.cause_ms}
        facts["freshness_s"] = age_s(min(each.end_ms for each in up.values()), at_ms)
        # While a canary is compared with the rest, its share stays as it is.
        found = balancing.look(balance, up) if whole and state.tuning.trial is None else None
        if found is not None:
            result, rests = found
            words = f"{result.explain()}; {rests}"[:WORDS_LIMIT]
            told.append(
                Finding(kind="balance", values=result.values(), words=words, by_replica=dict(result.weights), **facts)
            )
        for_s = state.tuning.restart_s or settings.hang_s
        hanging = [name for name, each in sorted(known.items()) if each.hangs(for_s)]
        heard = sum(at_ms - each.end_ms <= settings.max_age_s * 1000 for each in known.values())
        listed = state.whole.listed if at_ms - state.whole.end_ms <= settings.max_age_s * 1000 else heard + 1
        tuning, asked = self._tuning.look(
            self._tuning.gone(state.tuning, tuple(known)) if listed <= heard else state.tuning,
            state.workload,
            at_ms,
            {name: up[name].now for name in sorted(up, key=lambda name: (up[name].now, name))},
            whole=whole or state.whole.listed == state.whole.up + len(hanging) == len(up) + len(hanging),
            silent=known.keys() - up.keys(),
            hanging=hanging,
        )
        if asked.mark != tuning.told or at_ms - tuning.told_ms >= TUNING_MS:
            tuning = tuning.model_copy(update={"told": asked.mark, "told_ms": at_ms})
            values, shares = dict(asked.values), dict.fromkeys(asked.replicas, 1.0)
            aside = f"; not waited for, silent for more than {for_s:g} s: {', '.join(hanging)}" if hanging else ""
            if (parked := tuning.parked) is not None:
                aside += f"; to be set back when they answer: {', '.join((parked.canary, *parked.reached))}"
            words = f"{asked.words}{aside}"[:WORDS_LIMIT]
            told.append(Finding(kind="tuning", values=values, words=words, by_replica=shares, **facts))
        rested = {n: each.model_copy(update={"load": 0.0, "waiting": 0.0, "scrapes": 0}) for n, each in known.items()}
        return _changed(state, replicas=rested, balance=balance, tuning=tuning), told

    def _minutes(self, state: SteeringState, at_ms: int) -> SteeringState:
        """With all minutes handed on that are closed by now."""
        minutes, closed = state.minutes.closed(at_ms)
        tuning, balance = state.tuning, state.balance
        for end_ms, parts in closed:
            tuning = self._tuning.minute(tuning, state.workload, end_ms, parts)
            balance = balancing.minute(balance, end_ms, parts, self._target(state.workload))
        return _changed(state, minutes=minutes, tuning=tuning, balance=balance)


def _latest(state: SteeringState, sli: Sli) -> SteeringState:
    """A latest SLI, unless one as new is known."""
    if sli.instance_id is None:
        if state.whole is not None and sli.end_ms < state.whole.end_ms:
            return state
        whole = Whole(end_ms=sli.end_ms, listed=sli.instances, up=sli.instances_up, cause_ms=sli.cause_ms)
        return _changed(state, whole=whole)
    before = state.replicas.get(sli.instance_id)
    if before is not None and sli.end_ms <= before.end_ms:
        return state
    running, waiting = sli.value("requests_running"), sli.value("requests_waiting")
    heard = before or Heard(end_ms=sli.end_ms, up=False)
    silent_ms = None if sli.instances_up else sli.end_ms if heard.silent_ms is None else heard.silent_ms
    changes: dict[str, Any] = {"end_ms": sli.end_ms, "up": sli.instances_up > 0, "silent_ms": silent_ms}
    if running is not None and waiting is not None:
        changes |= {
            "now": running + waiting,
            "load": heard.load + running + waiting,
            "waiting": heard.waiting + waiting,
            "scrapes": heard.scrapes + 1,
        }
    return _changed(state, replicas=state.replicas | {sli.instance_id: heard.model_copy(update=changes)})


def _changed(state: SteeringState, **parts: object) -> SteeringState:
    """The state with other parts; the very same where none is another."""
    changes = {name: part for name, part in parts.items() if part is not getattr(state, name)}
    return state.model_copy(update=changes) if changes else state
