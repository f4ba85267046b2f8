"""Stage `steering`: SLIs of single replicas become findings on their engine settings and on their shares of requests.

It keeps who answers and what each replica did minute by minute. Ticks that pass a multiple of 30 s of event time are
looks: the balance is told then, the tuning when it asks for something else than before, or two minutes after it spoke
last. Nothing is asked for where replicas that are listed do not answer.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agents.performance.core import balancing
from agents.performance.core.minutes import WINDOW_S, minute_of
from agents.performance.core.steering_state import Heard, SteeringSettings, SteeringState, Whole
from agents.performance.core.trialling import Tuning
from contracts.catalog.findings import KINDS
from contracts.events import Action, Finding, Message, Outcome, Sli, Tick

LOOK_MS = KINDS["balance"] * 1000
TUNING_MS = KINDS["tuning"] * 1000
WORDS_LIMIT = 2000


class Steering:
    """The fold, with its settings."""

    def __init__(self, settings: SteeringSettings) -> None:
        self._settings, self._tuning = settings, Tuning(settings)

    def advance(self, state: BaseModel | None, message: Message) -> tuple[BaseModel | None, list[Message]]:
        """Fold one message. A workload is known from its first SLI on."""
        assert state is None or isinstance(state, SteeringState)  # noqa: S101 — narrows the driver's untyped state
        match message:
            case Sli():
                return self._sli(state, message), []
            case Tick() if state is not None:
                return self._tick(state, message)
            case Action() if state is not None:
                return _changed(state, tuning=self._tuning.said(state.tuning, message)), []
            case Outcome() if state is not None:
                tuning, balance = self._tuning.ended(state.tuning, message), balancing.ended(state.balance, message)
                return _changed(state, tuning=tuning, balance=balance), []
            case _:
                return state, []

    def _sli(self, state: SteeringState | None, sli: Sli) -> SteeringState | None:
        tick_ms = state.tick_ms if state is not None else None
        if sli.revision or sli.size_s not in (0, WINDOW_S):
            return state
        if tick_ms is not None and not -self._settings.gone_s <= (sli.end_ms - tick_ms) / 1000 <= self._settings.park_s:
            return state
        state = state or SteeringState(workload=sli.workload, heard_ms=sli.end_ms)
        state = _changed(state, heard_ms=max(state.heard_ms, sli.end_ms))
        if sli.size_s == 0:
            return _latest(state, sli)
        minute = minute_of(sli, self._target(sli.workload))
        if minute is None or sli.instance_id is None:
            return state
        canary = state.tuning.trial is not None and state.tuning.trial.canary == sli.instance_id
        return _changed(state, minutes=state.minutes.heard(sli.instance_id, sli.end_ms, minute, needed=canary))

    def _target(self, workload: str) -> float:
        return max(0.5, self._settings.objectives_of(workload).attainment_target_ratio)

    def _tick(self, state: SteeringState, tick: Tick) -> tuple[SteeringState | None, list[Message]]:
        settings, last_ms, at_ms = self._settings, state.tick_ms, tick.at_ms
        if last_ms is not None and at_ms <= last_ms:
            return state, []
        if at_ms - state.heard_ms > settings.forget_s * 1000:
            if state.tuning.trial is None and state.tuning.present is None:
                return None, []
            # Replicas may have another setting than they were launched with, whether somebody looks or not.
            kept = SteeringState(workload=state.workload, heard_ms=state.heard_ms, tick_ms=at_ms, tuning=state.tuning)
            return kept, []
        if last_ms is None:
            if state.heard_ms > at_ms + settings.ahead_s * 1000:
                # The clock of the scraper that spoke first is wrong: nothing it told counts.
                state = SteeringState(workload=state.workload, heard_ms=at_ms)
            return _changed(state, tick_ms=at_ms), []
        state = _changed(state, tick_ms=at_ms)
        return self._look(state, at_ms) if at_ms // LOOK_MS > last_ms // LOOK_MS else (state, [])

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
        facts["freshness_s"] = max(0, at_ms - min(each.end_ms for each in up.values())) / 1000
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
        )
        if asked.mark != tuning.told or at_ms - tuning.told_ms >= TUNING_MS:
            tuning = tuning.model_copy(update={"told": asked.mark, "told_ms": at_ms})
            values, shares = dict(asked.values), dict.fromkeys(asked.replicas, 1.0)
            aside = f"; not waited for, silent for more than {for_s:g} s: {', '.join(hanging)}" if hanging else ""
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
