"""One good scenario for stage `arbiter`, of which each test changes one thing, and the desk that takes its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agents.core.arbiter_settings import ArbiterSettings, Limits
from agents.stages import stages
from contracts.clock import ClockAnchor
from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Alert,
    Answer,
    Approval,
    Candidate,
    CandidateSet,
    Control,
    ControlKind,
    Decision,
    Effect,
    EndState,
    Fact,
    FleetEvent,
    Judgement,
    Message,
    Mode,
    Outcome,
    Review,
    Risk,
    Tick,
    Verdict,
)
from contracts.laws.bounds import Bound, Comparator

AT_MS = 1_700_000_000_000
WALL_MS = 1_800_000_000_000
"""Event time and wall time of the scenario's beginning; they are far apart, so that mixing them up shows."""

SETTINGS = ArbiterSettings(
    anchor=ClockAnchor(wall_anchor_ms=WALL_MS, event_anchor_ms=AT_MS, speed=20.0),
    default_mode=Mode.AUTONOMOUS,
    has_controller=True,
    default_limits=Limits(min_replicas=2, max_replicas=8),
)


def settings(**change: Any) -> ArbiterSettings:
    return replace(SETTINGS, **change)


def limited(**change: Any) -> ArbiterSettings:
    return settings(default_limits=replace(SETTINGS.default_limits, **change))


def up(*, asks: int = 1, seen: int = 4, **change: Any) -> Candidate:
    """Add one replica to the four there are, since the budget burns."""
    burning = Bound(sli="ttft_burn_rate", size_s=10, comparator=Comparator.GT, value=2.0)
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=seen + asks)
    fields: dict[str, Any] = {
        "rule": "scale-up-on-burn",
        "rule_version": 1,
        "pack": "performance",
        "priority": 900,
        "cooldown_s": 60.0,
        "spec": ActionSpec(kind=ActionKind.SCALE_UP, replicas=asks, effect=Effect(expect=expect, by_s=120.0)),
        "facts": (Fact(condition="burning", bound=burning, value=6.0, holds=True, held_s=20.0, end_ms=AT_MS),),
    }
    return Candidate(**fields | change)


def down(*, asks: int = 1, seen: int = 4, value: float | None = 1.5, **change: Any) -> Candidate:
    """Take one replica of the four away, since there is little to do."""
    slack = Bound(sli="load_per_replica", size_s=60, comparator=Comparator.LT, value=6.0)
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.LE, value=seen - asks)
    effect = Effect(expect=expect, by_s=240.0, settle_s=30.0)
    fields: dict[str, Any] = {
        "rule": "scale-down-on-slack",
        "rule_version": 1,
        "pack": "performance",
        "priority": 100,
        "cooldown_s": 120.0,
        "spec": ActionSpec(kind=ActionKind.SCALE_DOWN, replicas=asks, effect=effect),
        "facts": (Fact(condition="slack", bound=slack, value=value, holds=True, held_s=180.0, end_ms=AT_MS),),
    }
    return Candidate(**fields | change)


def found(*candidates: Candidate, at_s: float = 0.0, **change: Any) -> CandidateSet:
    at_ms = AT_MS + round(at_s * 1000)
    fields: dict[str, Any] = {
        "workload": "chat",
        "at_ms": at_ms,
        "cause_ms": at_ms - 500,
        "candidates": candidates or (up(),),
        "evidence": {10: {"ttft_burn_rate": 6.0}},
        "replicas": 4,
        "coverage_ratio": 1.0,
    }
    return CandidateSet(**fields | change)


def judged(candidates: CandidateSet, *, only: Sequence[str] | None = None, **change: Any) -> Review:
    """The review that approves all of it with high confidence; a change of `verdict`, `confidence` or `risk` goes to
    every judgement, the rest to the review."""
    judgement: dict[str, Any] = {"verdict": Verdict.APPROVE, "confidence": 0.95, "risk": Risk.LOW}
    judgement["reasons"] = ("looks right",)
    judgement |= {name: change.pop(name) for name in tuple(change) if name in judgement}
    rules = {each.rule for each in candidates.candidates} if only is None else set(only)
    judgements = tuple(Judgement(rule=rule, **judgement) for rule in sorted(rules))
    review: dict[str, Any] = {"candidates": candidates, "reviewer": "deterministic", "judgements": judgements}
    return Review(**review | change)


def tick(at_s: float) -> Tick:
    return Tick(at_ms=AT_MS + round(at_s * 1000), partition=0)


def wall_ms(at_s: float) -> int:
    return int(SETTINGS.anchor.wall_ms(AT_MS + round(at_s * 1000)))


def answer(
    decision: Decision, actor: str = "ann", *, approve: bool = True, at_s: float = 0.0, **change: Any
) -> Approval:
    """A person's yes, or no, at event second `at_s` after the beginning."""
    fields: dict[str, Any] = {"workload": "chat", "decision_id": decision.decision_id, "approve": approve}
    fields |= {"actor": actor, "at_ms": AT_MS + round(at_s * 1000), "at_wall_ms": wall_ms(at_s)}
    return Approval(**fields | change)


def control(kind: ControlKind, *, mode: Mode | None = None, at_s: float = 0.0, **change: Any) -> Control:
    fields: dict[str, Any] = {"workload": "chat", "kind": kind, "mode": mode, "actor": "ann", "reason": "launch day"}
    fields |= {"at_ms": AT_MS + round(at_s * 1000), "at_wall_ms": wall_ms(at_s)}
    return Control(**fields | change)


def by_hand(at_s: float, number: int = 1) -> FleetEvent:
    at_ms = AT_MS + round(at_s * 1000)
    return FleetEvent(workload="chat", name="manual_change", number=number, at_ms=at_ms, summary="a replica was added")


def ended(action: Action, state: EndState = EndState.VERIFIED, *, at_s: float = 0.0, **change: Any) -> Outcome:
    fields: dict[str, Any] = {"action": action, "end_state": state, "at_ms": AT_MS + round(at_s * 1000)}
    return Outcome(**fields | change)


def revision(messages: list[Message]) -> Decision:
    (decision,) = (each for each in messages if isinstance(each, Decision))
    return decision


class Desk:
    """A running arbiter. Between any two messages its state goes through JSON, as it does between batches."""

    def __init__(self, with_settings: ArbiterSettings = SETTINGS) -> None:
        (self.stage,) = stages(with_settings)
        self.state: Any = None
        self.told: list[Message] = []

    def send(self, *messages: Message) -> list[Message]:
        """What these messages bring about."""
        made: list[Message] = []
        for message in messages:
            self.state, outputs = self.stage.step(self.state, [message])
            if self.state is not None:
                self.state = self.stage.state.model_validate_json(self.state.model_dump_json())
            made += outputs
        self.told += made
        return made

    def decide(self, *messages: Message) -> Decision:
        """The one decision that these messages bring about."""
        (decision,) = (each for each in self.send(*messages) if isinstance(each, Decision))
        return decision

    @property
    def decisions(self) -> list[Decision]:
        return [each for each in self.told if isinstance(each, Decision)]

    @property
    def actions(self) -> list[Action]:
        return [each for each in self.told if isinstance(each, Action)]

    @property
    def alerts(self) -> list[Alert]:
        return [each for each in self.told if isinstance(each, Alert)]

    def begin(self, candidate: Candidate, at_s: float = 0.0, replicas: int = 4) -> Action:
        """Have a candidate approved alone, so that its action is under way."""
        asked = found(candidate, at_s=at_s, replicas=replicas)
        decision = self.decide(asked, judged(asked))
        assert decision.answer is Answer.APPROVED, decision.reasons
        return self.actions[-1]

    def ask(self, candidate: Candidate, at_s: float = 0.0) -> Decision:
        """Have a candidate put to people."""
        asked = found(candidate, at_s=at_s)
        decision = next(each for each in self.send(asked, judged(asked, verdict=Verdict.DEMOTE)) if each.key == "chat")
        assert isinstance(decision, Decision)
        assert decision.expires_wall_ms is not None
        return decision
