"""How an action is taken back: its steps in reverse order, one at a time; capacity is taken on fresh evidence only."""

from __future__ import annotations

from agents.core.moves import Call, Move, Save, View, Wait, Why, changed, ended, halted, held, marked, told
from agents.core.steps import deadline_ms
from contracts.events import EndState, StepKind
from contracts.laws.bounds import all_hold
from contracts.ledger import ActionRecord, Mark
from contracts.ports import StepState


def take_back(record: ActionRecord, view: View) -> Move:
    """The next move of an action in phase `undoing`."""
    left = [n for n in range(len(record.marks) - 1, -1, -1) if record.marks[n] not in (Mark.UNTOUCHED, Mark.UNDONE)]
    if not left:
        failed = Why.STEP_FAILED.value in record.reasons
        return ended(record, view, EndState.FAILED if failed else EndState.UNDONE)
    number = left[0]
    if record.marks[number] in (Mark.UNDO_INTENDED, Mark.UNDO_APPLIED):
        return _ordered(record, view, number)
    report = view.reports.get(record.token(number))
    if report is None:
        return _late(record, view, Why.CONTROLLER_AWAY) or Wait("the controller is away")
    if record.marks[number] is Mark.INTENDED and report.state is not StepState.FAILED:
        if report.state is not StepState.UNKNOWN:
            return Save(changed(record, view, marks=marked(record, {number: Mark.APPLIED})))
        if not view.honours_tokens:
            return Save(changed(record, view, marks=marked(record, {number: Mark.UNTOUCHED})))
        # The order may still be on its way: its undo calls it off.
    return _late(record, view, Why.UNDO_FAILED) or _order(record, view, number)


def _ordered(record: ActionRecord, view: View, number: int) -> Move:
    """The undo of a step was ordered, or meant to be."""
    report = view.reports.get(record.token(number, undo=True))
    if report is None:
        return _late(record, view, Why.CONTROLLER_AWAY) or Wait("the controller is away")
    if report.state is StepState.DONE:
        return Save(changed(record, view, marks=marked(record, {number: Mark.UNDONE})))
    if report.state is StepState.FAILED:
        return held(record, view, Why.UNDO_FAILED, detail=f"undoing step {number + 1} failed: {report.detail}")
    intended = record.marks[number] is Mark.UNDO_INTENDED
    if intended and report.state is StepState.RUNNING:
        return Save(changed(record, view, marks=marked(record, {number: Mark.UNDO_APPLIED})))
    if (late := _late(record, view, Why.UNDO_FAILED)) is not None:
        return late
    if not intended:
        return Wait(f"step {number + 1} is being undone")
    if view.honours_tokens:
        return _order(record, view, number)
    words = f"nobody knows whether the undo of step {number + 1} arrived, and its controller keeps no tokens"
    return held(record, view, Why.UNDO_FAILED, detail=words)


def _late(record: ActionRecord, view: View, why: Why) -> Move | None:
    if view.now_ms < deadline_ms(record):
        return None
    return held(record, view, why, detail=f"not taken back in {2 * record.action.spec.effect.by_s:g} s")


def _order(record: ActionRecord, view: View, number: int) -> Move:
    """Order the undo of a step, if it gives capacity back or may take it."""
    if record.plan is not None and record.plan.steps[number].kind is StepKind.ADD:
        if view.seen is None:
            return Wait("the controller is away")
        if halt := halted(record, view):
            return held(record, view, halt[0], detail=f"not undone: {halt[1]}")
        did = view.reports.get(record.token(number))
        if did is None or did.state not in (StepState.FAILED, StepState.UNKNOWN):  # those two serve nobody
            guards = record.action.spec.undo_guards
            answer = all_hold(view.evidence, guards, view.now_ms, view.max_age_s) if guards else False
            if answer is not True:
                why = Why.GUARD_BROKEN if answer is False else Why.NO_EVIDENCE
                return held(record, view, why, detail=f"not undone: {told(view, guards) or 'it has no undo guards'}")
    marks = marked(record, {number: Mark.UNDO_INTENDED})
    return Call(changed(record, view, marks=marks), number, undo=True)
