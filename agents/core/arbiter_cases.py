"""Open cases: decisions that wait for a person, and what becomes of them by a yes, a no, time, or a newer proposal.

Every approval is answered by exactly one message: a new revision of the decision, or an alert where no case is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.core.arbiter_actions import acted
from agents.core.arbiter_limits import grant, granted_spec
from agents.core.arbiter_reasons import Reason, of_count, of_gateway, of_grant, of_switch, of_target, ranked
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import OPEN_LIMIT, ArbiterState, Case
from contracts.events import Alert, Answer, Approval, CandidateSet, Decision, Message, Mode, Refusal, Severity


def opened(state: ArbiterState, decision: Decision, found: CandidateSet) -> tuple[ArbiterState, list[Message]]:
    """With a case for people to answer. Of too many the oldest is closed: a pile helps nobody."""
    state = state.with_case(Case(decision=decision, proposed_ms=found.at_ms, replicas=found.replicas or 0))
    surplus = [case for case in state.cases if not case.closed][:-OPEN_LIMIT]
    words = f"expired: more than {OPEN_LIMIT} cases of {state.workload} were open"
    return _close(state, surplus, words, Refusal.EXPIRED)


def superseded(state: ArbiterState, newer: Decision) -> tuple[ArbiterState, list[Message]]:
    """Without older open cases of the rule whose need a newer decision speaks of."""
    old = [
        case
        for case in state.cases
        if not case.closed
        and case.decision.candidate.rule == newer.candidate.rule
        and case.decision.decision_id != newer.decision_id
    ]
    words = f"superseded by {newer.decision_id}"
    return _close(state, old, words, Refusal.SUPERSEDED, successor=newer.decision_id)


def expired(state: ArbiterState, settings: ArbiterSettings) -> tuple[ArbiterState, list[Message]]:
    """Without the open cases that nobody has answered in time."""
    now_ms = settings.wall_ms(state.now_ms)
    late = [case for case in state.cases if not case.closed and _expires(case) <= now_ms]
    return _close(state, late, "expired: nobody answered in time", Refusal.EXPIRED)


def on_approval(
    state: ArbiterState, approval: Approval, settings: ArbiterSettings
) -> tuple[ArbiterState, list[Message]]:
    """A person's yes or no, answered."""
    if approval.id in state.heard.ids:
        return state, []
    state = state.model_copy(update={"heard": state.heard.add([approval.id], state.now_ms, state.now_ms)})
    case = state.case(approval.decision_id)
    if case is None:
        return state, [_unknown(state, approval)]
    why = f": {approval.reason}" if approval.reason else ""
    newest = _newest(state, case)
    if approval.approve and not newest.closed and newest is not case and _asks_the_same(case, newest):
        case, why = newest, f"{why} (said of {approval.decision_id}, in whose place this one is)"
    if case.closed:
        standing = case.decision
        detail = (f"already {case.closed}", *_instead(case, newest, approval))
        codes, actor = standing.reasons, standing.actor
        return _answer(state, case, standing.answer, codes, detail, approval=approval, actor=actor)
    if approval.at_wall_ms >= _expires(case):
        words = f"expired before {approval.actor} answered"
        return _answer(state, case, Answer.REFUSED, (Refusal.EXPIRED,), (words,), closed="expired", approval=approval)
    if not approval.approve:
        closed = f"rejected by {approval.actor}"
        codes, actor = (Refusal.REJECTED,), approval.actor
        return _answer(
            state, case, Answer.REFUSED, codes, (closed + why,), closed=closed, approval=approval, actor=actor
        )
    if stopped := list(of_switch(state)):
        reasons = (*_codes(stopped), *case.decision.reasons)
        detail = (*_words(stopped), "the case stays open")
        return _answer(state, case, case.decision.answer, reasons, detail, approval=approval)
    if lacks := settings.lacks(case.decision.candidate.spec.kind, state.workload):
        closed = f"accepted by {approval.actor}"
        detail = (closed + why, f"{lacks}: it has to be done by hand")
        codes, actor = (Refusal.NO_CONTROLLER,), approval.actor
        return _answer(state, case, Answer.RECOMMENDED, codes, detail, closed=closed, approval=approval, actor=actor)
    return _approve(state, case, approval, why, settings)


def _newest(state: ArbiterState, case: Case) -> Case:
    """The last of the cases of which each took the place of the one before it."""
    while (after := state.case(case.successor)) is not None:
        case = after
    return case


def _asks_the_same(case: Case, other: Case) -> bool:
    """Whether a yes to one means the other too; it is of the same rule anyway."""
    one, two = case.decision.candidate.spec, other.decision.candidate.spec
    return (one.kind, one.replicas, one.settings, one.by_replica) == (
        two.kind,
        two.replicas,
        two.settings,
        two.by_replica,
    )


def _instead(case: Case, newest: Case, approval: Approval) -> Iterable[str]:
    """What became of the case in whose place another one is, and what to say to answer that one."""
    if newest is not case:
        spec, ident = newest.decision.candidate.spec, newest.decision.decision_id
        if newest.closed:
            yield f"and that one is {newest.closed}"
        else:
            command = "approve" if approval.approve else "reject"
            yield f"waiting in its place, {spec.kind} by {spec.replicas}: optiinfra {command} {ident}"
    elif case.successor:
        yield f"nobody is asked about that one: optiinfra explain {case.successor}"


def _approve(
    state: ArbiterState, case: Case, approval: Approval, why: str, settings: ArbiterSettings
) -> tuple[ArbiterState, list[Message]]:
    """A yes to a case that can be acted on. What may have changed since it was proposed is looked at again: the target,
    its rest, its limits, the count of replicas they are held against, and what the gateway holds back. The age of the
    case, mode and a hold for people are not: a person decides now."""
    spec = case.decision.candidate.spec
    replicas = case.replicas if state.replicas is None else state.replicas
    limits = settings.limits_of(state.workload)
    given = grant(spec.kind, spec.replicas, replicas, limits, state.starting, state.standing)
    found = [
        *of_count(state, settings),
        *of_target(case.decision.candidate, state, settings),
        *of_gateway(case.decision.candidate, state, settings),
        *of_grant(spec.kind, given),
    ]
    if reasons := ranked(found):
        codes = _codes(reasons)
        closed = f"refused when {approval.actor} approved: {', '.join(codes)}"
        return _answer(state, case, Answer.REFUSED, codes, _words(reasons), closed=closed, approval=approval)
    spec = granted_spec(spec, given.replicas, replicas - case.replicas)
    mode = state.mode or settings.default_mode
    decision = case.decision.model_copy(update={"mode": mode})
    state, action = acted(state, decision, spec, approval.actor, settings)
    closed = f"approved by {approval.actor}"
    detail = (closed + why, *((given.words,) if given.words else ()))
    state, answers = _answer(
        state,
        case,
        Answer.APPROVED,
        (),
        detail,
        closed=closed,
        approval=approval,
        actor=approval.actor,
        replicas=given.replicas,
        action_id=action.id,
        mode=mode,
    )
    return state, [*answers, action]


def _answer(
    state: ArbiterState,
    case: Case,
    answer: Answer,
    reasons: tuple[Refusal, ...],
    detail: tuple[str, ...],
    *,
    closed: str = "",
    approval: Approval | None = None,
    actor: str = "",
    successor: str = "",
    replicas: int | None = None,
    action_id: str | None = None,
    mode: Mode | None = None,
) -> tuple[ArbiterState, list[Message]]:
    """The next revision of a case's decision; `closed` ends the case and makes the revision how it stands. `actor` is
    the person who made the answer so, nobody where the arbiter did. What is None stays as it stands; a refusal grants
    nothing."""
    before, revision = case.decision, case.revision + 1
    granted = before.replicas if replicas is None else replicas
    decision = before.model_copy(
        update={
            "revision": revision,
            "answer": answer,
            "reasons": reasons,
            "detail": detail,
            "replicas": 0 if answer is Answer.REFUSED else granted,
            "mode": mode or before.mode,
            "at_ms": state.now_ms,
            "expires_wall_ms": None if closed else before.expires_wall_ms,
            "action_id": before.action_id if action_id is None else action_id,
            "actor": actor,
            "answers": approval.id if approval else "",
        }
    )
    update = {"revision": revision} | (
        {"decision": decision, "closed": closed, "successor": successor} if closed else {}
    )
    return state.with_case(case.model_copy(update=update)), [decision]


def _close(
    state: ArbiterState, cases: Iterable[Case], words: str, code: Refusal, successor: str = ""
) -> tuple[ArbiterState, list[Message]]:
    outputs: list[Message] = []
    for case in cases:
        state, answers = _answer(state, case, Answer.REFUSED, (code,), (words,), closed=words, successor=successor)
        outputs += answers
    return state, outputs


def _expires(case: Case) -> int:
    return case.decision.expires_wall_ms or 0


def _codes(reasons: Iterable[Reason]) -> tuple[Refusal, ...]:
    return tuple(reason.code for reason in reasons)


def _words(reasons: Iterable[Reason]) -> tuple[str, ...]:
    return tuple(reason.words for reason in reasons)


def _unknown(state: ArbiterState, approval: Approval) -> Alert:
    said = "approved" if approval.approve else "rejected"
    return Alert(
        workload=state.workload,
        name="approval_unknown",
        severity=Severity.WARNING,
        subject=approval.id,
        at_ms=state.now_ms,
        summary=f"{approval.actor} {said} {approval.decision_id}, which is no case of {state.workload} that people "
        "were asked about, or is one of long ago; nothing was done",
        fix="Approve or reject by the id of a decision that needs approval (optiinfra decisions --waiting).",
    )
