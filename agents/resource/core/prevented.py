"""Counts what the rules against running out of memory prevented: honestly, and beside what came of doing nothing.

A forecast that memory fills within ten minutes opens a case. If one of the rules acts while it is open, the case is
theirs; if other rules add capacity, it is nobody's; else it is unanswered. When the ten minutes are over, or memory ran
out, the case is closed: theirs and not filled is one `prevented`. The unanswered ones say what forecasts are worth: how
many of them came true with nobody acting. An action without a case is counted apart, and prevents nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from agents.resource.core.readings import Reading
from contracts.events import Action, ActionKind, EndState, Outcome

RULES = frozenset({"scale-up-on-kv-pressure"})
"""The rules that act against running out of memory (`rules/packs/resource.yaml`)."""
HORIZON_S = 600
SEEN_LEAST = 0.5
"""Of a case that was observed for less than this share of its time, nothing is counted."""
_KNOWN = 20


class Case(BaseModel):
    """An open forecast: when it was made and when memory was to be full, the action that answered it (empty: none), and
    whether others added capacity."""

    model_config = ConfigDict(frozen=True)

    begin_ms: int
    full_ms: int
    action: str = ""
    others: bool = False

    @property
    def until_ms(self) -> int:
        return self.begin_ms + HORIZON_S * 1000


class Account(BaseModel):
    """Cases closed so far. `prevented`, `failed`: answered by our rules and not filled, or filled all the same.
    `false_alarms`, `came_true`: unanswered. `unforeseen`: actions of our rules without a case. `known`: the newest
    actions that were heard of."""

    model_config = ConfigDict(frozen=True)

    case: Case | None = None
    prevented: int = 0
    failed: int = 0
    false_alarms: int = 0
    came_true: int = 0
    unforeseen: int = 0
    known: tuple[str, ...] = ()

    def acted(self, action: Action) -> Account:
        """After an approved action."""
        if action.id in self.known:
            return self
        account = self.model_copy(update={"known": (*self.known, action.id)[-_KNOWN:]})
        if action.spec.kind is not ActionKind.SCALE_UP:
            return account
        ours, case = action.rule in RULES, self.case
        if case is None or not case.begin_ms <= action.at_ms < case.until_ms:
            return account.model_copy(update={"unforeseen": self.unforeseen + ours})
        if not ours:
            return account.model_copy(update={"case": case.model_copy(update={"others": True})})
        return account.model_copy(update={"case": case.model_copy(update={"action": action.id})})

    def ended(self, outcome: Outcome) -> Account:
        """After an action ended: one that was not done, or was taken back, answered nothing."""
        case, undone = self.case, outcome.end_state in (EndState.REFUSED, EndState.FAILED, EndState.UNDONE)
        if case is None or not undone or outcome.action.id != case.action:
            return self
        return self.model_copy(update={"case": case.model_copy(update={"action": ""})})

    def looked(self, at_ms: int, readings: Sequence[Reading], full_in_s: float | None) -> Account:
        """After a look: the open case is closed where its time is over or memory ran out, and a new forecast opens one.
        `readings`: those of the last minutes, as long as a case lasts at least."""
        account = self._closed(at_ms, readings)
        newest = readings[-1] if readings else None
        if account.case is not None or newest is None or full_in_s is None or full_in_s > HORIZON_S or newest.filled:
            return account
        case = Case(begin_ms=at_ms, full_ms=newest.end_ms + round(full_in_s * 1000))
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
        name = ("failed" if filled else "prevented") if case.action else ("came_true" if filled else "false_alarms")
        if not counted or case.others:
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
