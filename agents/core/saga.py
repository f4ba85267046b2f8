"""The life of an action as a pure function: the record as it stands and one look at the world give the next move.

    recorded ─► planned ─► applying ─► trial ─► finishing ─► verifying ─► ended
                              └──────────┴─────────┴─────────────┴─► undoing ─┘

Nothing here waits, calls or reads a clock. Whoever drives it writes the record of a `Save` or `Call` before anything
else, so that after a crash the next look continues from what was written.
"""

from __future__ import annotations

from agents.core.moves import (
    Call,
    Move,
    Save,
    View,
    Wait,
    Why,
    changed,
    effect_values,
    ended,
    halted,
    held,
    marked,
    newer,
    refused,
    told,
)
from agents.core.plans import beyond, counted, eased, flaw, hanging
from agents.core.steps import carry, clear, deadline_ms, finals, forgotten, ordered, undoing, way_back
from agents.core.undo import take_back
from contracts.events import ActionKind, EndState, Refusal
from contracts.laws.bounds import all_hold, held_long_enough, held_since, holds
from contracts.ledger import ActionRecord, Mark, Phase

FOR_GOOD = frozenset({Refusal.KILL_SWITCH, Refusal.LEDGER_LOST, Refusal.ADVISORY_MODE})
"""Refusals of a claim that waiting does not change."""


def next_move(record: ActionRecord, view: View) -> Move:
    """What to do now. Every record in a move has the next version; an ended record only waits."""
    if record.phase in (Phase.APPLYING, Phase.TRIAL, Phase.VERIFYING) and (words := forgotten(record, view)):
        halt = halted(record, view)
        hand = halt is not None and halt[0] is Refusal.MANUAL_CHANGE
        return held(record, view, Refusal.MANUAL_CHANGE if hand else Why.FORGOTTEN, detail=words)
    match record.phase:
        case Phase.RECORDED:
            return _recorded(record, view)
        case Phase.PLANNED:
            return _planned(record, view)
        case Phase.APPLYING:
            return _applying(record, view)
        case Phase.TRIAL:
            return _trial(record, view)
        case Phase.FINISHING:
            return _finishing(record, view)
        case Phase.VERIFYING:
            return _verifying(record, view)
        case Phase.UNDOING:
            return take_back(record, view)
        case Phase.ENDED:
            return Wait("it has ended")


def after_call(call: Call, view: View, refusal: str = "") -> ActionRecord:
    """The record once the controller has answered an order: it was taken, or refused in these words (never done)."""
    record = call.record
    if call.undo:
        if refusal:
            return held(record, view, Why.UNDO_FAILED, detail=refusal).record
        return changed(record, view, marks=marked(record, {call.step: Mark.UNDO_APPLIED}), applied_ms=view.at_ms)
    if not refusal:
        return changed(record, view, marks=marked(record, {call.step: Mark.APPLIED}), applied_ms=view.at_ms)
    free = record.model_copy(update={"marks": marked(record, {call.step: Mark.UNTOUCHED})})
    if call.step in finals(record) and not way_back(free, view):
        return held(free, view, Why.STEP_FAILED, detail=refusal).record
    return undoing(free, view, Why.STEP_FAILED, detail=refusal).record


def lost(record: ActionRecord, view: View) -> ActionRecord:
    """End an action of which the ledger has forgotten how far it came: it is left as it is."""
    words = "the ledger that knew how far it had come is gone"
    return held(record, view, Refusal.LEDGER_LOST, detail=words).record


def _late(record: ActionRecord, view: View) -> bool:
    # By the clock: the time of the data stands still while nothing is read, and the order would go out now.
    return view.at_ms > record.action.start_by_ms


def _recorded(record: ActionRecord, view: View) -> Move:
    claim = view.claim
    if claim.refusal in FOR_GOOD:
        return refused(record, view, claim.refusal, detail=claim.detail)
    if halt := halted(record, view):
        return refused(record, view, halt[0], detail=halt[1])
    if _late(record, view):
        words = claim.detail or f"not begun {(view.at_ms - record.action.at_ms) / 1000:g} s after the decision"
        away = () if claim.refusal or view.draft or view.behind else (Why.CONTROLLER_AWAY,)
        return refused(record, view, claim.refusal or Refusal.STALE_EVIDENCE, *away, detail=words)
    if view.behind:
        return Wait(f"action {view.behind} is still being stopped")
    if claim.refusal:
        return Wait(f"{claim.refusal}: {claim.detail}")
    if view.draft is None:
        return Wait("the controller is away")
    plan = view.draft.plan
    doubt = view.draft.doubt or ("no plan" if plan is None else flaw(plan, record.action))
    if doubt or plan is None:
        return refused(record, view, Refusal.DRY_RUN_FAILED, detail=doubt)
    if view.draft.seen is not None and (limit := beyond(plan, record.action, view.draft.seen)):
        return refused(record, view, limit[0], detail=limit[1])
    marks = tuple(Mark.UNTOUCHED for _ in plan.steps)
    before = effect_values(record, view)
    action, detail = record.action, record.detail
    if (seen := view.draft.seen) is not None:
        action = counted(plan, action, seen)
        detail = hanging(action, seen)[:2000] if action.spec.kind is ActionKind.TUNE else detail
    planned = {"action": action, "phase": Phase.PLANNED, "plan": plan, "marks": marks, "before": before}
    return Save(changed(record, view, **planned, detail=detail))


def _planned(record: ActionRecord, view: View) -> Move:
    if halt := halted(record, view):
        return refused(record, view, halt[0], detail=halt[1])
    if _late(record, view):
        return refused(record, view, Refusal.STALE_EVIDENCE, detail="planned, and not begun in time")
    if view.seen is None:
        return Wait("the controller is away")
    if record.plan is not None and (limit := beyond(record.plan, record.action, view.seen)):
        return refused(record, view, limit[0], detail=limit[1])
    effect = record.action.spec.effect
    if record.action.spec.kind.takes_capacity:
        answer = clear(record, view)
        if answer is False:
            return refused(record, view, Why.GUARD_BROKEN, detail=told(view, effect.guards))
        if answer is None:
            return Wait("no fresh evidence on its guards")
    first = next(iter(ordered(record)), None)
    if first is None:
        return Save(changed(record, view, phase=Phase.TRIAL))
    marks = marked(record, {first: Mark.INTENDED})
    return Call(changed(record, view, phase=Phase.APPLYING, marks=marks, began_ms=view.at_ms), first)


def _applying(record: ActionRecord, view: View) -> Move:
    move = carry(record, view, ordered(record))
    if move is not None:
        return move
    tried = finals(record) or not record.action.spec.kind.scales
    return Save(changed(record, view, phase=Phase.TRIAL if tried else Phase.VERIFYING))


def _trial(record: ActionRecord, view: View) -> Move:
    if halt := halted(record, view):
        return undoing(record, view, halt[0], detail=halt[1])
    effect = record.action.spec.effect
    answer = clear(record, view, newer(view.evidence, record.applied_ms or record.phase_since_ms))
    if answer is False:
        return undoing(record, view, Why.GUARD_BROKEN, detail=told(view, effect.guards))
    since_ms = held_since(record.held_since_ms, answer, view.now_ms)
    if held_long_enough(since_ms, effect.settle_s, view.now_ms) and view.seen is not None:
        if not finals(record):
            return Save(changed(record, view, phase=Phase.VERIFYING))
        first = finals(record)[0]
        marks = marked(record, {first: Mark.INTENDED})
        began_ms = record.began_ms or view.at_ms
        return Call(changed(record, view, phase=Phase.FINISHING, marks=marks, began_ms=began_ms), first)
    if view.now_ms >= deadline_ms(record):
        why = Why.CONTROLLER_AWAY if view.seen is None else Why.NO_EVIDENCE if answer is None else Why.UNVERIFIED
        held_s = 0 if since_ms is None else (view.now_ms - since_ms) / 1000
        words = f"its guards held for {held_s:g} s of {effect.settle_s:g} s when its time was over: "
        words += told(view, effect.guards)
        return undoing(record, view, why, detail=words)
    if since_ms != record.held_since_ms:
        return Save(changed(record, view, held_since_ms=since_ms))
    return Wait("its guards must hold" if answer else "no fresh evidence on its guards")


def _finishing(record: ActionRecord, view: View) -> Move:
    move = carry(record, view, finals(record))
    return Save(changed(record, view, phase=Phase.VERIFYING)) if move is None else move


def _verifying(record: ActionRecord, view: View) -> Move:
    spec = record.action.spec
    effect = spec.effect
    since = newer(view.evidence, record.applied_ms or record.phase_since_ms)
    bound = eased(record.action, view.gone)
    expect = holds(since, bound, view.now_ms, view.max_age_s)
    goal = None if effect.goal is None else holds(since, effect.goal, view.now_ms, view.max_age_s)
    over = view.now_ms >= deadline_ms(record)
    facts = {"expect_met": expect, "goal_met": goal}
    words = told(view, (bound, *(() if effect.goal is None else (effect.goal,))))
    words += f"; {view.gone} replicas beside its own were taken back" if view.gone else ""
    if expect and (effect.goal is None or goal or over):
        missed = (Why.GOAL_NOT_MET,) if effect.goal is not None and not goal else ()
        return ended(record, view, EndState.VERIFIED, Why.EXPECT_MET, *missed, detail=words, **facts)
    if halt := halted(record, view):
        return held(record, view, halt[0], detail=f"{halt[1]}; {words}", **facts)
    if not over:
        return Wait(f"waits for {words}")
    if expect is None:
        return held(record, view, Why.NO_EVIDENCE, detail=words, **facts)
    if not spec.kind.scales:  # what was tried does not do what it is for
        return undoing(record, view, Why.UNVERIFIED, detail=words, **facts)
    # The controller says that every step is done, and what is measured says otherwise.
    words = f"the controller says done; {words}"
    guards = spec.undo_guards
    if spec.kind.takes_capacity or not guards:
        return held(record, view, Why.LIED, detail=words, **facts)
    if all_hold(view.evidence, guards, view.now_ms, view.max_age_s):
        return undoing(record, view, Why.LIED, detail=words, **facts)
    return held(record, view, Why.LIED, detail=f"{words}; not undone: {told(view, guards)}", **facts)
