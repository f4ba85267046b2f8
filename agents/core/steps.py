"""How the steps of a plan are carried out: intent, order, inspection, and what is done when one of them fails.

Steps are ordered one after the other and then waited for together; those of a tune are ordered one at a time, the next
when the one before is done and the guards hold on evidence from after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.core.moves import (
    Call,
    Code,
    Move,
    Save,
    View,
    Wait,
    Why,
    changed,
    halted,
    held,
    marked,
    newer,
    told,
    worded,
)
from contracts.events import ActionKind, Refusal, StepKind
from contracts.laws.bounds import Evidence, all_hold, holds, value_of
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import StepState


def ordered(record: ActionRecord) -> tuple[int, ...]:
    """The numbers of the steps that can be taken back."""
    return tuple(n for n, step in enumerate(record.plan.steps) if not step.final) if record.plan else ()


def finals(record: ActionRecord) -> tuple[int, ...]:
    """The numbers of the steps that cannot be taken back."""
    return tuple(n for n, step in enumerate(record.plan.steps) if step.final) if record.plan else ()


def open_tokens(record: ActionRecord) -> tuple[str, ...]:
    """The tokens whose outcome must be inspected before the next move."""
    found: list[str] = []
    asked = {Mark.INTENDED, Mark.APPLIED, *((Mark.DONE, Mark.UNDO_INTENDED) if record.phase is Phase.UNDOING else ())}
    if record.action.spec.kind.gateway_setting:
        asked.add(Mark.DONE)  # one that restarts may forget what it was told
    for number, mark in enumerate(record.marks):
        if mark in (Mark.UNDO_INTENDED, Mark.UNDO_APPLIED):
            found.append(record.token(number, undo=True))
        if mark in asked:
            found.append(record.token(number))
    return tuple(found)


def deadline_ms(record: ActionRecord) -> int:
    """When what was applied must show. Steps are given `by_s` from the newest one on, verification no more than that;
    a trial `by_s` from its own beginning, and so the verification of what was tried as a whole; an undo gets twice as
    long, from its newest order on."""
    by_ms = int(record.action.spec.effect.by_s * 1000)
    if record.phase is Phase.UNDOING:
        return max(record.applied_ms or 0, record.phase_since_ms) + 2 * by_ms
    since_ms = record.applied_ms or record.phase_since_ms
    if record.phase in (Phase.APPLYING, Phase.TRIAL, Phase.FINISHING) or not record.action.spec.kind.scales:
        since_ms = max(since_ms, record.phase_since_ms)
    return since_ms + by_ms


def clear(record: ActionRecord, view: View, evidence: Evidence | None = None) -> bool | None:
    """Whether capacity may be taken now: every guard holds on fresh evidence, and the expected SLI is seen at all."""
    evidence = view.evidence if evidence is None else evidence
    effect = record.action.spec.effect
    answer = all_hold(evidence, effect.guards, view.now_ms, view.max_age_s)
    if answer and value_of(evidence, effect.expect, view.now_ms, view.max_age_s) is None:
        return None
    return answer


def undoing(record: ActionRecord, view: View, *codes: Code, detail: str = "", **values: Any) -> Save:
    """Begin to take back what was applied, for these reasons; the words come after those in the record."""
    reasons = tuple(dict.fromkeys((*record.reasons, *(code.value for code in codes))))
    values |= {"phase": Phase.UNDOING, "reasons": reasons, "detail": worded(record, detail)}
    return Save(changed(record, view, **values))


def carry(record: ActionRecord, view: View, steps: Sequence[int]) -> Move | None:
    """Carry out `steps`: order one after the other, then wait until all are done. None: they are."""
    for number in steps:
        if (move := _answered(record, view, number)) is not None:
            return move
    if all(record.marks[number] is Mark.DONE for number in steps):
        return None
    finished = {
        n: Mark.DONE for n in steps if record.marks[n] is Mark.APPLIED and _state(record, view, n) is StepState.DONE
    }
    if finished:
        # What is seen of a replica that restarts says nothing of its settings: evidence counts from when it serves.
        since = {"applied_ms": view.at_ms} if _one_by_one(record) else {}
        return Save(changed(record, view, marks=marked(record, finished), **since))
    if halt := halted(record, view):
        return _stopped(record, view, halt[0], halt[1])
    if view.now_ms >= deadline_ms(record):
        return _overdue(record, view)
    for number in steps:
        if record.marks[number] in (Mark.UNTOUCHED, Mark.INTENDED):
            return _ordering(record, view, number)
        if _one_by_one(record) and record.marks[number] is not Mark.DONE:
            break
    return Wait("its steps are under way")


def forgotten(record: ActionRecord, view: View) -> str:
    """Why a limit that was set no longer stands, in words, where the gateway knows nothing of the order it took: it
    began anew, or others overwrote what was noted there. Empty where nothing says so."""
    for number, step in enumerate(record.plan.steps if record.plan is not None else ()):
        taken = record.marks[number] in (Mark.APPLIED, Mark.DONE)
        if step.kind is StepKind.LIMIT and taken and _state(record, view, number) is StepState.UNKNOWN:
            limits = ", ".join(f"{name} {value:.0f}" for name, value in step.settings.items())
            return f"the gateway has forgotten that it was given {limits}: did it restart?"
    return ""


def _one_by_one(record: ActionRecord) -> bool:
    return record.action.spec.kind is ActionKind.TUNE


def too_few(record: ActionRecord, view: View, number: int) -> str:
    """Why the replica of a retune must not be taken out of service now, in words; empty when it may. What sets those
    to be launched takes none out."""
    step = record.plan.steps[number] if record.plan else None
    if step is None or step.kind is not StepKind.RETUNE or not step.subject or view.seen is None:
        return ""
    others = len(set(view.seen.serving) - {step.subject})
    least = max(1, record.action.least_replicas)
    return f"without {step.subject} {others} replicas serve, and {least} must" if others < least else ""


def _state(record: ActionRecord, view: View, number: int) -> StepState | None:
    report = view.reports.get(record.token(number))
    return None if report is None else report.state


def _answered(record: ActionRecord, view: View, number: int) -> Move | None:
    """What the controller says of an order that was given, where that changes something."""
    mark, state = record.marks[number], _state(record, view, number)
    if mark not in (Mark.INTENDED, Mark.APPLIED):
        return None
    if state is StepState.FAILED:
        words = f"step {number + 1} failed: {view.reports[record.token(number)].detail}"
        applied = record.model_copy(update={"marks": marked(record, {number: Mark.APPLIED})})
        if number in finals(record) and not way_back(applied, view):
            return held(applied, view, Why.STEP_FAILED, detail=words)
        return undoing(applied, view, Why.STEP_FAILED, detail=words)
    if mark is Mark.INTENDED and state in (StepState.RUNNING, StepState.DONE):
        came_to = Mark.DONE if state is StepState.DONE else Mark.APPLIED
        return Save(changed(record, view, marks=marked(record, {number: came_to}), applied_ms=view.at_ms))
    if mark is Mark.INTENDED and state is StepState.UNKNOWN and not view.honours_tokens:
        words = f"nobody knows whether the order for step {number + 1} arrived, and its controller keeps no tokens"
        return held(record, view, Why.UNVERIFIED, detail=words)
    return None


def _ordering(record: ActionRecord, view: View, number: int) -> Move:
    """Give the order for a step that was never taken, if it may be given now."""
    if view.seen is None or (record.marks[number] is Mark.INTENDED and _state(record, view, number) is None):
        return Wait("the controller is away")
    if record.action.spec.kind.takes_capacity:
        since = _one_by_one(record) and record.applied_ms is not None
        answer = clear(record, view, newer(view.evidence, record.applied_ms or 0) if since else None)
        guards = record.action.spec.effect.guards
        if answer is False and way_back(record, view):
            return undoing(record, view, Why.GUARD_BROKEN, detail=told(view, guards))
        if not answer:
            return Wait(f"its guards do not hold, or are not known yet: {told(view, guards)}")
    if few := too_few(record, view, number):
        return Wait(few)
    return Call(changed(record, view, marks=marked(record, {number: Mark.INTENDED})), number)


def way_back(record: ActionRecord, view: View) -> bool:
    """Whether something of what it took can be given back: a replica that is drained, and surely not to be removed."""
    if record.plan is None:
        return False
    steps = record.plan.steps
    gone = {steps[number].subject for number in finals(record) if not _never_came(record, view, number)}
    taken = (number for number in ordered(record) if record.marks[number] not in (Mark.UNTOUCHED, Mark.UNDONE))
    return any(steps[number].subject not in gone for number in taken)


def _never_came(record: ActionRecord, view: View, number: int) -> bool:
    mark = record.marks[number]
    unknown = _state(record, view, number) is StepState.UNKNOWN and view.honours_tokens
    return mark is Mark.UNTOUCHED or (mark is Mark.INTENDED and unknown)


def _stopped(record: ActionRecord, view: View, code: Code, words: str) -> Move:
    """Somebody wants it stopped. Capacity that it took is given back; none is taken away for that. Where people act
    themselves from now on, no further replica is touched, not even to set it back."""
    if code is Refusal.ADVISORY_MODE:
        return held(record, view, code, detail=words)
    if record.action.spec.kind is not ActionKind.SCALE_UP and way_back(record, view):
        return undoing(record, view, code, detail=words)
    return held(record, view, code, detail=words)


def _overdue(record: ActionRecord, view: View) -> Move:
    """Its steps are not done in time."""
    spec = record.action.spec
    away = view.seen is None or any(token not in view.reports for token in open_tokens(record))
    words = f"not done {spec.effect.by_s:g} s after the last order; {told(view, (spec.effect.expect,))}"
    why = Why.CONTROLLER_AWAY if away else Why.UNVERIFIED
    if spec.kind is not ActionKind.SCALE_UP:
        if way_back(record, view):
            return undoing(record, view, why, detail=words)
        return held(record, view, why, detail=words)
    # That enough replicas answer does not say that its own are among them: others may start beside it.
    expect = holds(newer(view.evidence, record.applied_ms or 0), spec.effect.expect, view.now_ms, view.max_age_s)
    if expect is None:
        return held(record, view, why, Why.NO_EVIDENCE, detail=words)
    guards = spec.undo_guards
    if not expect and guards and all_hold(view.evidence, guards, view.now_ms, view.max_age_s):
        return undoing(record, view, why, detail=words, expect_met=expect)
    return held(record, view, why, detail=f"{words}; not undone: {told(view, guards)}", expect_met=expect)
