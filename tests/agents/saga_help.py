"""One good action of each kind, its records and looks at it, for tests that change one thing."""

from __future__ import annotations

from typing import Any

from agents.core.moves import Call, Move, Save, View, Wait
from agents.core.saga import next_move
from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Effect,
    Mode,
    Plan,
    PlanStep,
    Sli,
    SliValue,
    StepKind,
    target_of,
)
from contracts.laws.bounds import Bound, Comparator
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import Observation, StepReport, StepState

NOW = 1_000_000_000
MAX_AGE_S = 30.0
WORKLOAD = "chat"

QUIET = Bound(sli="load_per_replica", size_s=0, comparator=Comparator.LE, value=6)
NO_BURN = Bound(sli="ttft_burn_rate", size_s=10, comparator=Comparator.LE, value=1)


def replicas_up(comparator: Comparator, value: float) -> Bound:
    return Bound(sli="replicas_up", size_s=0, comparator=comparator, value=value)


UP = ActionSpec(
    kind=ActionKind.SCALE_UP,
    replicas=1,
    effect=Effect(expect=replicas_up(Comparator.GE, 4), by_s=120, goal=NO_BURN),
    undo_guards=(QUIET,),
)
DOWN = ActionSpec(
    kind=ActionKind.SCALE_DOWN,
    replicas=1,
    effect=Effect(expect=replicas_up(Comparator.LE, 2), by_s=240, guards=(QUIET,), settle_s=30),
)
TUNE = ActionSpec(
    kind=ActionKind.TUNE,
    replicas=2,
    effect=Effect(expect=replicas_up(Comparator.GE, 3), by_s=240, guards=(QUIET,), settle_s=30),
    settings={"max_num_seqs": 64.0},
    by_replica={"chat-0": 1.0, "chat-1": 1.0},
)
ROUTE = ActionSpec(
    kind=ActionKind.ROUTE,
    replicas=3,
    effect=Effect(expect=replicas_up(Comparator.GE, 3), by_s=120, guards=(QUIET,), settle_s=30),
    by_replica={"chat-0": 0.5, "chat-1": 0.25, "chat-2": 0.25},
)


def action(spec: ActionSpec = UP, **changes: Any) -> Action:
    values: dict[str, Any] = {
        "workload": WORKLOAD,
        "target": target_of(WORKLOAD, spec.kind),
        "candidate_id": f"candidate-{spec.kind}",
        "decision_id": "decision-1",
        "rule": "a-rule",
        "priority": 900,
        "spec": spec,
        "mode": Mode.AUTONOMOUS,
        "approved_by": "mode:autonomous",
        "at_ms": NOW,
        "cause_ms": NOW - 100,
        "start_by_ms": NOW + 60_000,
    }
    return Action(**(values | changes))


def plan_for(spec: ActionSpec) -> Plan:
    if spec.kind is ActionKind.SCALE_UP:
        steps = [PlanStep(kind=StepKind.ADD)] * spec.replicas
    elif spec.kind is ActionKind.TUNE:
        steps = [PlanStep(kind=StepKind.RETUNE, subject=name, settings=spec.settings) for name in spec.by_replica]
    elif spec.kind is ActionKind.ROUTE:
        steps = [PlanStep(kind=StepKind.WEIGH, by_replica=spec.by_replica)]
    else:
        names = [f"chat-{n}" for n in range(spec.replicas)]
        steps = [PlanStep(kind=StepKind.DRAIN, subject=name) for name in names]
        steps += [PlanStep(kind=StepKind.REMOVE, subject=name, final=True) for name in names]
    return Plan(steps=tuple(steps), replicas_before=3, manual_changes=0)


def record(spec: ActionSpec = UP, phase: Phase = Phase.RECORDED, *marks: Mark, **changes: Any) -> ActionRecord:
    """A record in `phase`; those beyond `recorded` have a plan, those beyond `planned` have begun."""
    values: dict[str, Any] = {"recorded_ms": NOW, "phase_since_ms": NOW, "phase": phase, "version": 5}
    if phase is not Phase.RECORDED:
        plan = plan_for(spec)
        rest = (Mark.UNTOUCHED,) * (len(plan.steps) - len(marks))
        values |= {"plan": plan, "marks": (*marks, *rest)}
        if phase is not Phase.PLANNED:
            values |= {"began_ms": NOW, "applied_ms": NOW}
    return ActionRecord(**(values | {"action": action(spec)} | changes))


def sli(at_ms: int, size_s: int = 0, **values: float | None) -> Sli:
    return Sli(
        workload=WORKLOAD,
        size_s=size_s,
        start_ms=at_ms - size_s * 1000,
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=at_ms,
        instances=3,
        instances_up=3,
        values={name: SliValue(value=value, samples=1) for name, value in values.items()},
    )


def evidence(
    at_ms: int, replicas: float | None = 3, load: float | None = 2, burn: float | None = 0.5
) -> dict[int, Sli]:
    return {
        0: sli(at_ms, replicas_up=replicas, load_per_replica=load),
        10: sli(at_ms, 10, ttft_burn_rate=burn),
    }


SEEN = Observation(at_ms=NOW, serving=("chat-0", "chat-1", "chat-2"))


def view(now_ms: int = NOW + 1000, **changes: Any) -> View:
    """A look in which everything is well: fresh evidence, a controller that answers."""
    values: dict[str, Any] = {
        "now_ms": now_ms,
        "stamp_ms": now_ms,
        "max_age_s": MAX_AGE_S,
        "evidence": evidence(now_ms),
        "seen": SEEN,
    }
    return View(**(values | changes))


def reports(of: ActionRecord, *states: StepState | None, undo: bool = False) -> dict[str, StepReport]:
    """What `inspect` says of the record's steps, in order; None where nothing is known."""
    return {
        of.token(number, undo=undo): StepReport(state, detail="as told")
        for number, state in enumerate(states)
        if state is not None
    }


def told(move: Move) -> str:
    """A move in one line: `wait`, `call 1`, `undo 0`, a phase, or an end state with its reasons."""
    if isinstance(move, Wait):
        return "wait"
    if isinstance(move, Call):
        return f"{'undo' if move.undo else 'call'} {move.step}"
    if move.record.end_state is not None:
        return " ".join((move.record.end_state, *move.record.reasons))
    if move.record.phase is Phase.UNDOING:
        return " ".join(("undoing", *move.record.reasons))
    return f"{move.record.phase} {' '.join(mark[0] if mark is not Mark.UNDONE else '-' for mark in move.record.marks)}"


def look(changes: dict[str, Any]) -> View:
    return view(**({"now_ms": NOW + 1000} | changes))


def check(before: ActionRecord, sight: View, expected: str) -> Move:
    move = next_move(before, sight)
    assert told(move) == expected
    if isinstance(move, Save | Call):
        assert move.record.version == before.version + 1
        assert ActionRecord.model_validate(move.record.model_dump()) == move.record
    return move
