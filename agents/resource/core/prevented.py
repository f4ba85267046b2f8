"""Counts what the rules against running out of memory prevented: honestly, and beside what came of doing nothing.

A forecast that memory fills within ten minutes opens a case. If one of the rules acts while it is open, the case is
theirs; if other rules add capacity, or some ordered before was still on its way, it is nobody's; else it is unanswered.
When the ten minutes are over, or memory ran out, the case is closed: theirs, verified by then and not filled is one
`prevented`. The unanswered ones say what forecasts are worth: how many of them came true with nobody acting. An action
without a case is counted apart when it has ended, and prevents nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from agents.resource.core.allowed import until_ms
from agents.resource.core.readings import SPAN_S, Reading
from contracts.events import Action, ActionKind, EndState, Outcome

RULES = frozenset(
    {"scale-up-on-kv-pressure", "queue-at-gateway", "cut-context-on-kv-pressure", "break-circuit-on-restarts"}
)
"""The rules that act against running out of memory (`rules/packs/resource.yaml`)."""
HORIZON_S = 600
SEEN_LEAST = 0.5
"""Of a case that was observed for less than this share of its time, nothing is counted."""
NOTHING = (EndState.REFUSED, EndState.FAILED, EndState.UNDONE)
"""How an action ends that was not done, or was taken back."""
_KNOWN = 20


class Case(BaseModel):
    """An open forecast: when it was made and when memory was to be full, the actions of ours that answered it, whether
    one was verified in its time, and whether capacity came of others or of before."""

    model_config = ConfigDict(frozen=True)

    begin_ms: int
    full_ms: int
    actions: tuple[str, ...] = ()
    verified: bool = False
    others: bool = False

    @property
    def until_ms(self) -> int:
        return self.begin_ms + HORIZON_S * 1000


class Account(BaseModel):
    """Cases closed so far. `prevented`, `failed`: answered by our rules and not filled, or filled all the same.
    `false_alarms`, `came_true`: unanswered. `unforeseen`: actions of our rules without a case that were done; `loose`:
    such as have not ended. `adding`: until when what anyone ordered may still be what eases memory. `known`:
    the newest actions that were heard of."""

    model_config = ConfigDict(frozen=True)

    case: Case | None = None
    prevented: int = 0
    failed: int = 0
    false_alarms: int = 0
    came_true: int = 0
    unforeseen: int = 0
    loose: tuple[str, ...] = ()
    adding: dict[str, int] = {}
    known: tuple[str, ...] = ()

    def acted(self, action: Action) -> Account:
        """After an approved action."""
        if action.id in self.known:
            return self
        changes: dict[str, Any] = {"known": (*self.known, action.id)[-_KNOWN:]}
        ours, case, kind = action.rule in RULES, self.case, action.spec.kind
        if kind is not ActionKind.SCALE_UP and not (ours and kind.gateway_setting):
            return self.model_copy(update=changes)
        adding = {ident: ms for ident, ms in self.adding.items() if ms > action.at_ms}
        changes["adding"] = adding | {action.id: until_ms(action)}
        if case is not None and case.begin_ms <= action.at_ms < case.until_ms:
            answer = {"actions": (*case.actions, action.id)} if ours else {"others": True}
            changes["case"] = case.model_copy(update=answer)
        elif ours:
            changes["loose"] = (*self.loose, action.id)[-_KNOWN:]
        return self.model_copy(update=changes)

    def ended(self, outcome: Outcome) -> Account:
        """After an action ended: one that was not done, or was taken back, answered nothing. What came eases memory
        for as long as trends are judged by."""
        ident, case, done = outcome.action.id, self.case, outcome.end_state not in NOTHING
        changes: dict[str, Any] = {}
        if ident in self.adding:
            rest = {other: ms for other, ms in self.adding.items() if other != ident}
            changes["adding"] = rest | ({ident: outcome.at_ms + SPAN_S * 1000} if done else {})
        if ident in self.loose:
            changes["loose"] = tuple(other for other in self.loose if other != ident)
            changes["unforeseen"] = self.unforeseen + done
        if case is not None and ident in case.actions:
            if not done:
                left = tuple(other for other in case.actions if other != ident)
                changes["case"] = case.model_copy(update={"actions": left})
            elif outcome.end_state is EndState.VERIFIED and outcome.at_ms <= case.until_ms:
                changes["case"] = case.model_copy(update={"verified": True})
        return self.model_copy(update=changes) if changes else self

    def looked(
        self, at_ms: int, readings: Sequence[Reading], full_in_s: float | None, *, held: bool = False
    ) -> Account:
        """After a look: the open case is closed where its time is over or memory ran out, and a new forecast opens one.
        `readings`: those of the last minutes, as long as a case lasts at least; `held`: a gateway keeps requests from
        the replicas by our doing already, so that what a forecast comes to is nobody's."""
        account = self._closed(at_ms, readings)
        newest = readings[-1] if readings else None
        if account.case is not None or newest is None or full_in_s is None or full_in_s > HORIZON_S or newest.filled:
            return account
        others = held or any(ms > at_ms for ms in self.adding.values())
        case = Case(begin_ms=at_ms, full_ms=newest.end_ms + round(full_in_s * 1000), others=others)
        return account.model_copy(update={"case": case})

    def _closed(self, at_ms: int, readings: Sequence[Reading]) -> Account:
        case = self.case
        if case is None:
            return self
        own = [each for each in readings if case.begin_ms < each.end_ms <= case.until_ms]
        filled = any(each.filled for each in own)
        if not filled and at_ms < case.until_ms:
            return self
        observed_s = sum(each.size_s for each in own)
        counted = filled or observed_s >= SEEN_LEAST * HORIZON_S
        name = ("failed" if filled else "prevented") if case.actions else ("came_true" if filled else "false_alarms")
        if not counted or case.others or (name == "prevented" and not case.verified):
            return self.model_copy(update={"case": None})
        return self.model_copy(update={"case": None, name: getattr(self, name) + 1})

    def values(self) -> dict[str, float]:
        """Numbers of a finding."""
        return {
            "oom_prevented": float(self.prevented),
            "oom_not_prevented": float(self.failed),
            "oom_forecasts_false": float(self.false_alarms),
            "oom_forecasts_true": float(self.came_true),
            "oom_actions_unforeseen": float(self.unforeseen),
        }

    def explain(self) -> str:
        """One line with every count; empty where nothing was counted."""
        if not any(self.values().values()):
            return ""
        return (
            f"rules against it prevented {self.prevented} of {self.prevented + self.failed} times that memory was "
            f"forecast to fill and they acted; of {self.false_alarms + self.came_true} that nobody answered, "
            f"{self.came_true} came true; {self.unforeseen} acts without a forecast"
        )
