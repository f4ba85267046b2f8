"""A workload in front of a stage that watches it: SLIs, ticks, actions and outcomes, of which each test changes one
thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Effect,
    EndState,
    Finding,
    Message,
    Outcome,
    Sli,
    SliValue,
    Tick,
)
from contracts.laws.bounds import Bound, Comparator
from contracts.stage import Stage
from tests.agents import saga_help

START_MS = 1_700_000_000_000 // 3_600_000 * 3_600_000
State = TypeVar("State", bound=BaseModel)


def ms(at_s: float) -> int:
    return START_MS + round(at_s * 1000)


def tick(at_s: float) -> Tick:
    return Tick(at_ms=ms(at_s), partition=0)


def told(end_s: float, size_s: int, values: Mapping[str, SliValue], *, many: int, **fields: Any) -> Sli:
    """What a workload of so many replicas tells, or one of them (`instance_id`)."""
    base: dict[str, Any] = {"coverage_ratio": 1.0, "freshness_s": 0.0, "instances": many, "instances_up": many}
    start_ms = ms(end_s - size_s)
    return Sli(
        workload="chat", size_s=size_s, start_ms=start_ms, cause_ms=ms(end_s), values=dict(values), **(base | fields)
    )


def ordered(
    at_s: float, kind: ActionKind, name: str, *, replicas: int = 1, by_s: float = 600, **changes: Any
) -> Action:
    """An action that is approved; `changes` are of its spec."""
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=1)
    spec = ActionSpec(kind=kind, replicas=replicas, effect=Effect(expect=expect, by_s=by_s), **changes)
    times = {"at_ms": ms(at_s), "cause_ms": ms(at_s), "start_by_ms": ms(at_s + 30)}
    return saga_help.action(spec, candidate_id=name, decision_id=name, **times)


def outcome(
    of: Action,
    at_s: float,
    state: EndState = EndState.VERIFIED,
    began_s: float | None = None,
    reasons: tuple[str, ...] = (),
) -> Outcome:
    """All its steps were applied, unless it was refused."""
    began_ms = None if state is EndState.REFUSED else of.at_ms if began_s is None else ms(began_s)
    steps = 0 if state is EndState.REFUSED else of.spec.replicas
    return Outcome(action=of, end_state=state, at_ms=ms(at_s), began_ms=began_ms, reasons=reasons, steps_applied=steps)


class Desk(Generic[State]):
    """The running stage. Between any two messages its state goes through JSON, as it does between batches."""

    def __init__(self, stage: Stage, kind: type[State]) -> None:
        self.stage, self._kind = stage, kind
        self.state: State | None = None
        self.at_s = 0.0
        self.found: list[Finding] = []

    def send(self, *messages: Message) -> list[Finding]:
        """What these make it find."""
        known = len(self.found)
        for message in messages:
            state, outputs = self.stage.step(self.state, [message])
            self.state = self._kind.model_validate_json(state.model_dump_json()) if state is not None else None
            self.found += [each for each in outputs if isinstance(each, Finding)]
        return self.found[known:]
