"""What was proposed, decided and done so far: a fold over those topics, from which view and report read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from contracts.events import (
    Action,
    Answer,
    AuditEntry,
    CandidateSet,
    Decision,
    EndState,
    Finding,
    Message,
    Outcome,
)
from contracts.laws.histogram import Histogram, observe

PHASES_AT_MOST = 1000
KEPT = 50
SCORE = "pressure_score"


@dataclass(frozen=True)
class Deed:
    """An action that is under way, with the phase it was last heard in and since when, event ms."""

    action: Action
    phase: str
    since_ms: int


class Deeds:
    """Folds candidates, decisions, actions, outcomes and audit lines, each id once (the caller sees to that).

    `pressure` is the newest finding on memory by workload, with the account of what was prevented.
    `begun` is scrape → first step applied, in wall seconds, of actions that began.
    """

    def __init__(self, *, speed: float, latency: Histogram) -> None:
        self.speed = speed
        self.begun = latency
        self.candidates = 0
        self.decisions: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.recent: deque[Decision] = deque(maxlen=KEPT)
        self.open_cases: dict[str, Decision] = {}
        self.outcomes: deque[Outcome] = deque(maxlen=KEPT)
        self.under_way: dict[str, Deed] = {}
        self.pressure: dict[str, Finding] = {}
        self._phases: dict[str, tuple[str, int]] = {}
        self._over: set[str] = set()

    def apply(self, message: Message) -> None:
        """Fold one message in; those of other kinds change nothing."""
        match message:
            case CandidateSet():
                self.candidates += len(message.candidates)
            case Decision():
                self._decision(message)
            case Action():
                if message.id not in self._over:
                    phase, since_ms = self._phases.get(message.id, ("sent", message.at_ms))
                    self.under_way[message.id] = Deed(message, phase, since_ms)
            case AuditEntry():
                self._audit(message)
            case Outcome():
                self._outcome(message)
            case Finding(kind="pressure"):
                self._pressure(message)

    def _pressure(self, finding: Finding) -> None:
        known = self.pressure.get(finding.workload)
        if known is None or known.at_ms <= finding.at_ms:
            self.pressure[finding.workload] = finding

    def memory(self, from_ms: float) -> dict[str, dict[str, float]]:
        """Numbers of the newest findings on memory, by workload; those from before then have no score any longer."""
        return {
            name: {number: told for number, told in each.values.items() if each.at_ms >= from_ms or number != SCORE}
            for name, each in self.pressure.items()
        }

    def _decision(self, decision: Decision) -> None:
        self.decisions[decision.code] = self.decisions.get(decision.code, 0) + 1
        self.recent.append(decision)
        if decision.answer in (Answer.NEEDS_APPROVAL, Answer.RECOMMENDED):
            self.open_cases[decision.decision_id] = decision
        else:
            self.open_cases.pop(decision.decision_id, None)
        while len(self.open_cases) > KEPT:
            self.open_cases.pop(next(iter(self.open_cases)))

    def _audit(self, entry: AuditEntry) -> None:
        if entry.subject in self._over:
            return
        self._phases[entry.subject] = (entry.what, entry.at_ms)
        while len(self._phases) > PHASES_AT_MOST:
            self._phases.pop(next(iter(self._phases)))
        deed = self.under_way.get(entry.subject)
        if deed is not None:
            self.under_way[entry.subject] = Deed(deed.action, entry.what, entry.at_ms)

    def _outcome(self, outcome: Outcome) -> None:
        action_id = outcome.action.id
        self._over.add(action_id)
        self.under_way.pop(action_id, None)
        self._phases.pop(action_id, None)
        self.ended[outcome.end_state.value] = self.ended.get(outcome.end_state.value, 0) + 1
        self.outcomes.append(outcome)
        if outcome.began_ms is not None:
            took_s = (outcome.began_ms - outcome.action.cause_ms) / self.speed / 1000
            self.begun = observe(self.begun, (max(0.0, took_s),))

    @property
    def unsettled(self) -> int:
        """Actions that were told and have no end yet."""
        return len(self.under_way)


END_WORDS: dict[EndState, str] = {
    EndState.VERIFIED: "verified",
    EndState.UNDONE: "undone",
    EndState.HELD_UNVERIFIED: "held, not verified",
    EndState.REFUSED: "refused",
    EndState.FAILED: "failed",
}
