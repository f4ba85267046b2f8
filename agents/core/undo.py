"""How an action is taken back: its steps in reverse order, one at a time; capacity is taken on fresh evidence only.

A replica that serves with other settings has to restart to get its old ones back. It does so however the guards stand,
since they broke under the new ones; but never as the last in service, nor while people have stopped all action. A limit
of a gateway is not loosened but on fresh evidence that it does not do what it is for.
"""

from __future__ import annotations

from agents.core.moves import Call, Move, Save, View, Wait, Why, changed, ended, halted, held, marked, newer, told
from agents.core.steps import deadline_ms, finals, too_few
from contracts.events import EndState, PlanStep, Refusal, StepKind
from contracts.laws.bounds import all_hold, holds
from contracts.laws.gateway_limits import looser
from contracts.ledger import ActionRecord, Mark
from contracts.ports import Observation, StepState

BY_PEOPLE = (Refusal.KILL_SWITCH, Refusal.LEDGER_LOST, Refusal.ADVISORY_MODE, Refusal.MANUAL_CHANGE)
"""Reasons to stop after which no limit is loosened, even if the reason is gone by the time of the undo."""


def take_back(record: ActionRecord, view: View) -> Move:
    """The next move of an action in phase `undoing`."""
    left, gone = _left(record)
    if not left:
        if gone:
            restored = sum(mark is Mark.UNDONE for mark in record.marks)
            words = f"{restored} drained replicas serve again, the removal of {len(gone)} had been ordered"
            return held(record, view, detail=words)
        failed = Why.STEP_FAILED.value in record.reasons
        return ended(record, view, EndState.FAILED if failed else EndState.UNDONE)
    number = left[0]
    if record.marks[number] in (Mark.UNDO_INTENDED, Mark.UNDO_APPLIED):
        return _ordered(record, view, number)
    report = view.reports.get(record.token(number))
    if report is None:
        return _late(record, view, Why.CONTROLLER_AWAY) or Wait("the controller is away")
    if number in finals(record):
        # One that never came is not given again, and a replica that serves is not removed: it can do no more.
        came = report.state is not StepState.UNKNOWN or not view.honours_tokens
        return Save(changed(record, view, marks=marked(record, {number: Mark.APPLIED if came else Mark.UNTOUCHED})))
    if record.marks[number] is Mark.INTENDED and report.state is not StepState.FAILED:
        if report.state is not StepState.UNKNOWN:
            return Save(changed(record, view, marks=marked(record, {number: Mark.APPLIED})))
        if not view.honours_tokens:
            return Save(changed(record, view, marks=marked(record, {number: Mark.UNTOUCHED})))
        # The order may still be on its way: its undo calls it off.
    return _order(record, view, number)


def taken_back(record: ActionRecord) -> int:
    """How many of the replicas that an action added were taken away again, or may be by now."""
    adds = () if record.plan is None else zip(record.plan.steps, record.marks, strict=True)
    back = (Mark.UNDO_INTENDED, Mark.UNDO_APPLIED, Mark.UNDONE)
    return sum(step.kind is StepKind.ADD and mark in back for step, mark in adds)


def _left(record: ActionRecord) -> tuple[list[int], set[str]]:
    """The steps that are still to be taken back, the last first, and the replicas whose removal was ordered: a removal
    is not taken back, and its drain neither."""
    if record.plan is None:
        return [], set()
    steps, last = record.plan.steps, finals(record)
    gone = {steps[n].subject for n in last if record.marks[n] in (Mark.APPLIED, Mark.DONE)}
    touched = (n for n, mark in enumerate(record.marks) if mark not in (Mark.UNTOUCHED, Mark.UNDONE))
    left = [n for n in touched if record.marks[n] is Mark.INTENDED or (n not in last and steps[n].subject not in gone)]
    return left[::-1], gone


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
    if not intended:
        return _late(record, view, Why.UNDO_FAILED) or Wait(f"step {number + 1} is being undone")
    if view.honours_tokens:
        return _order(record, view, number)
    words = f"nobody knows whether the undo of step {number + 1} arrived, and its controller keeps no tokens"
    return held(record, view, Why.UNDO_FAILED, detail=words)


def _late(record: ActionRecord, view: View, why: Why, words: str = "") -> Move | None:
    if view.now_ms < deadline_ms(record):
        return None
    words = words or f"not taken back in {2 * record.action.spec.effect.by_s:g} s"
    return held(record, view, why, detail=words)


def _order(record: ActionRecord, view: View, number: int) -> Move:
    """Order the undo of a step, if it gives capacity back or may take it."""
    if (stays := _stays(record, view, number) or _stands(record, view, number)) is not None:
        return stays
    if record.plan is not None and record.plan.steps[number].kind is StepKind.ADD:
        if view.seen is None:
            return _late(record, view, Why.CONTROLLER_AWAY) or Wait("the controller is away")
        if halt := halted(record, view):
            return held(record, view, halt[0], detail=f"not undone: {halt[1]}")
        if not _serves_nobody(record, view, number):
            guards = record.action.spec.undo_guards
            answer = all_hold(view.evidence, guards, view.now_ms, view.max_age_s) if guards else False
            if answer is None:
                words = f"not undone: {told(view, guards)}"
                return _late(record, view, Why.NO_EVIDENCE, words) or Wait("no fresh evidence on its undo guards")
            if not answer:
                words = told(view, guards) or "it has no undo guards"
                return held(record, view, Why.GUARD_BROKEN, detail=f"not undone: {words}")
    # What was never ordered is ordered however late it is: whoever should have done it may have been down.
    if record.marks[number] is Mark.UNDO_INTENDED and (late := _late(record, view, Why.UNDO_FAILED)):
        return late
    marks = marked(record, {number: Mark.UNDO_INTENDED})
    return Call(changed(record, view, marks=marks), number, undo=True)


def _stays(record: ActionRecord, view: View, number: int) -> Move | None:
    """Why the replica of a retune is not restarted now; None where it may be, and for any other step."""
    step = record.plan.steps[number] if record.plan is not None else None
    if step is None or step.kind is not StepKind.RETUNE:
        return None
    if view.seen is None:
        return _late(record, view, Why.CONTROLLER_AWAY) or Wait("the controller is away")
    report = view.reports.get(record.token(number))
    if step.subject not in view.seen.serving or (report is not None and report.state is not StepState.DONE):
        return None  # it serves nobody, or is not restarted yet: what it comes back with takes nothing away
    if (halt := halted(record, view)) and halt[0] is not Refusal.PREEMPTED:
        return held(record, view, halt[0], detail=f"{step.subject} keeps its new settings: {halt[1]}")
    if few := too_few(record, view, number):
        return _late(record, view, Why.UNDO_FAILED, f"not undone: {few}") or Wait(few)
    return None


def _stands(record: ActionRecord, view: View, number: int) -> Move | None:
    """Why a limit at a gateway is left as it is; None where it is set back, and for any other step. One that others
    have changed, or that never came, is not set back but called off: that changes nothing. What people have a hand in
    is left to them; beyond that, only what keeps requests from the replicas needs a reason to be set back."""
    step = record.plan.steps[number] if record.plan is not None else None
    if step is None or step.kind is not StepKind.LIMIT:
        return None
    if _serves_nobody(record, view, number) or (view.seen is not None and not _seen_set(step, view.seen)):
        return None
    halt = halted(record, view)
    by_hand = Refusal.MANUAL_CHANGE.value in record.reasons or (halt and halt[0] is Refusal.MANUAL_CHANGE)
    loosens = any(looser(name, value, step.settings[name]) for name, value in step.before.items())
    if not loosens and not by_hand:
        return None
    if halt and halt[0] is not Refusal.PREEMPTED:
        return held(record, view, halt[0], detail=f"not set back: {halt[1]}")
    if any(code.value in record.reasons for code in BY_PEOPLE):
        return held(record, view, detail="not set back")
    if record.marks[number] is Mark.UNDO_INTENDED:
        return None  # it was ordered on evidence, and is only given again
    bound = record.action.spec.effect.expect
    since = newer(view.evidence, record.applied_ms or record.phase_since_ms)
    met = holds(since, bound, view.now_ms, view.max_age_s)
    if met is False:
        return None
    codes = (Why.NO_EVIDENCE,) if met is None else ()
    return held(record, view, *codes, detail=f"not set back: {told(view, (bound,))}", expect_met=met)


def _seen_set(step: PlanStep, seen: Observation) -> bool:
    """Whether some limit still is what the step has set."""
    each = [limits for limits in seen.settings.values() if step.settings.keys() <= limits.keys()]
    return not each or any(limits[name] == value for limits in each for name, value in step.settings.items())


def _serves_nobody(record: ActionRecord, view: View, number: int) -> bool:
    """Whether the replica of a step surely takes no requests: it failed, or the order for it never came. A controller
    that once said more and now knows nothing has forgotten, which says nothing of the replica."""
    report = view.reports.get(record.token(number))
    if report is None:
        return False
    never_told = record.marks[number] in (Mark.INTENDED, Mark.UNDO_INTENDED)
    return report.state is StepState.FAILED or (report.state is StepState.UNKNOWN and never_told)
