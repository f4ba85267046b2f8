"""The story of one case, from the SLIs that moved a rule to the verified end, told as a colleague would tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Answer,
    Approval,
    AuditEntry,
    CandidateSet,
    Control,
    Decision,
    Fact,
    Finding,
    FleetEvent,
    Message,
    Outcome,
    Review,
)
from optiinfra.deeds import END_WORDS
from optiinfra.view_deeds import change, clock, decision_line, outcome_line, short


@dataclass
class Case:
    """The records of one case, each kind in order of event time; repeats are gone."""

    findings: list[Finding] = field(default_factory=list)
    candidates: CandidateSet | None = None
    review: Review | None = None
    decisions: list[Decision] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    action: Action | None = None
    outcome: Outcome | None = None
    audit: list[AuditEntry] = field(default_factory=list)


def case_of(messages: Sequence[Message]) -> Case:
    """Put the records of a case in their places."""
    case, seen = Case(), set[str]()
    for message in sorted(messages, key=lambda each: each.at):
        if message.id in seen:
            continue
        seen.add(message.id)
        match message:
            case Finding():
                case.findings.append(message)
            case CandidateSet():
                case.candidates = message
            case Review():
                case.review = message
            case Decision():
                case.decisions.append(message)
            case Approval():
                case.approvals.append(message)
            case Action():
                case.action = message
            case Outcome():
                case.outcome = message
            case AuditEntry():
                case.audit.append(message)
    case.decisions.sort(key=lambda each: each.revision)
    case.audit.sort(key=lambda each: each.number)
    return case


def tell(case: Case) -> list[str]:
    """The case in sentences, in the order in which it happened; a part of which nothing is known says so."""
    if not case.decisions:
        return ["No decision is known by this id."]
    first = case.decisions[0]
    lines = [*_proposal(first, case.candidates, case.findings), *_judgement(first, case.review)]
    for decision in case.decisions:
        lines += _decision(decision, case.approvals)
    if case.action is not None:
        lines += _deed(case.action, case.audit)
        lines += _end(case.outcome)
    return lines


def _proposal(decision: Decision, told: CandidateSet | None, findings: Sequence[Finding]) -> list[str]:
    candidate = decision.candidate
    spec = candidate.spec
    lines = [
        f"{clock(told.at_ms if told else decision.at_ms)}  Rule {candidate.rule} (version {candidate.rule_version}, "
        f"priority {candidate.priority}, pack {candidate.pack}) proposed to {_asked(spec, told)} of "
        f"{decision.workload}, because"
    ]
    lines += [f"            {fact_line(fact)}" for fact in candidate.facts]
    lines += [
        f"          The {each.kind} found at {clock(each.at_ms)}: {each.words}" for each in findings if each.words
    ]
    if candidate.doc:
        lines.append(f"          The rule says of itself: {' '.join(candidate.doc.split())}")
    return lines


def fact_line(fact: Fact) -> str:
    """One condition with its numbers.

    >>> from contracts.laws.bounds import Comparator
    >>> bound = Bound(sli="ttft_burn_rate", size_s=10, comparator=Comparator.GT, value=2)
    >>> fact_line(Fact(condition="burning", bound=bound, value=3.5, holds=True, held_s=12))
    'burning holds: ttft_burn_rate over 10 s was 3.5, the bound is > 2, for 12 s'
    """
    value = "missing" if fact.value is None else f"{fact.value:.4g}"
    held = f", for {fact.held_s:.0f} s" if fact.holds and fact.held_s else ""
    return (
        f"{fact.condition} {'holds' if fact.holds else 'does not hold'}: {fact.bound.subject} was {value}, "
        f"the bound is {fact.bound.comparator.sign} {fact.bound.value:g}{held}"
    )


def _judgement(decision: Decision, review: Review | None) -> list[str]:
    who = decision.reviewer or (review.reviewer if review else "")
    if review is not None and review.failure:
        return [f"          The {who} reviewer failed, and a failed review approves nothing: {review.failure}"]
    found = decision.judgement
    if found is None:
        return [
            "          No review of it came in time." if not who else f"          The {who} reviewer did not judge it."
        ]
    lines = [
        f"          The {who} reviewer says {found.verdict.value}, confidence {found.confidence:.2f}, "
        f"risk {found.risk.value}" + (":" if found.reasons else ".")
    ]
    return lines + [f"            {reason}" for reason in found.reasons]


def _decision(decision: Decision, approvals: Sequence[Approval]) -> list[str]:
    what = {
        Answer.APPROVED: "approved it",
        Answer.NEEDS_APPROVAL: "asked for a person's approval",
        Answer.RECOMMENDED: "recommended it, and left it to people",
        Answer.REFUSED: "refused it",
    }[decision.answer]
    why = f" ({', '.join(reason.value for reason in decision.reasons)})" if decision.reasons else ""
    asked = [each for each in approvals if each.id == decision.answers]
    lines = [
        f"{clock(each.at_ms)}  {each.actor} said {'yes' if each.approve else 'no'}"
        f"{f': {each.reason}' if each.reason else '.'}"
        for each in asked
    ]
    granted = f", {change(decision.candidate.spec.kind.value, decision.replicas)}" if decision.replicas else ""
    lines.append(f"{clock(decision.at_ms)}  The arbiter, in mode {decision.mode.value}, {what}{granted}{why}.")
    return lines + [f"            {line}" for line in decision.detail]


def _deed(action: Action, audit: Sequence[AuditEntry]) -> list[str]:
    others = f"; it stops {short(action.preempts)} first" if action.preempts else ""
    if action.beside:
        others = f"; it goes beside {', '.join(map(short, action.beside))}"
    went = f"Action {short(action.id)} went to the executor, approved by {action.approved_by}{others}."
    lines = [f"{clock(action.at_ms)}  {went}"]
    for before, entry in zip([None, *audit], audit, strict=False):
        if before is not None and (before.what, before.detail) == (entry.what, entry.detail):
            continue  # every save of a hold is a line of the log, and nothing new
        lines.append(f"{clock(entry.at_ms)}    {entry.what}{f': {entry.detail}' if entry.detail else ''}")
    return lines


def _end(outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return ["          It has not ended yet."]
    action, effect = outcome.action, outcome.action.spec.effect
    why = f" ({', '.join(outcome.reasons)})" if outcome.reasons else ""
    lines = [f"{clock(outcome.at_ms)}  It ended: {END_WORDS[outcome.end_state]}{why}. {outcome.detail}".rstrip()]
    lines.append(f"            expected: {effect.expect}: {_met(outcome.expect_met)}")
    if effect.goal is not None:
        lines.append(f"            for the sake of: {effect.goal}: {_met(outcome.goal_met)}")
    for name in sorted(outcome.before.keys() | outcome.after.keys()):
        before, after = outcome.before.get(name), outcome.after.get(name)
        lines.append(f"            {name}: {_number(before)} before, {_number(after)} after")
    if outcome.began_ms is not None:
        took_s = (outcome.began_ms - action.cause_ms) / 1000
        lines.append(f"            first step {took_s:.2f} event seconds after the scrape that caused it")
    return lines


def _met(answer: bool | None) -> str:
    return "not to be seen" if answer is None else "met" if answer else "not met"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _asked(spec: ActionSpec, told: CandidateSet | None) -> str:
    """What a rule proposed to do, with its numbers."""
    match spec.kind:
        case ActionKind.SCALE_UP:
            standing = f" to the {told.replicas} that answered" if told and told.replicas is not None else ""
            return f"add {_replicas(spec.replicas)}{standing}"
        case ActionKind.SCALE_DOWN:
            return f"take away {_replicas(spec.replicas)}"
        case ActionKind.TUNE:
            settings = ", ".join(f"{flag} {value:g}" for flag, value in spec.settings.items())
            return f"set {settings} on {_replicas(spec.replicas)} ({', '.join(spec.by_replica)})"
        case ActionKind.ROUTE:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in spec.by_replica.items())
            return f"set the shares of requests ({shares}) for {_replicas(spec.replicas)}"
        case ActionKind.QUEUE | ActionKind.CONTEXT | ActionKind.BREAKER:
            return ", ".join(f"set {name} {value:g} at the gateway" for name, value in spec.settings.items())


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"


def clock_line(message: Message) -> str:
    """A decision, an outcome, or what people did, in one line."""
    match message:
        case Decision():
            return decision_line(message).plain
        case Outcome():
            return outcome_line(message).plain
        case Control():
            what = f"mode {message.mode.value}" if message.mode else message.kind.value
            why = f": {message.reason}" if message.reason else ""
            return f"{clock(message.at_ms)} {message.actor} set {what}{why}"
        case FleetEvent():
            return f"{clock(message.at_ms)} {message.name}: {message.summary}"
        case _:
            return f"{clock(message.at)} {message.TYPE}"
