"""What was decided and is being done, as lines of the live view."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from contracts.events import Answer, Decision, EndState, Outcome
from optiinfra.deeds import END_WORDS, Deed, Deeds

SHOWN_DECISIONS, SHOWN_OUTCOMES, SHOWN_CASES, SHOWN_DEEDS = 3, 3, 3, 6
ID_LENGTH = 10
"""Characters of an id that people type: enough to tell cases apart, and taken by every command."""

_ANSWER_STYLE = {
    Answer.APPROVED: "green",
    Answer.NEEDS_APPROVAL: "yellow",
    Answer.RECOMMENDED: "cyan",
    Answer.REFUSED: "dim",
}
_END_STYLE = {
    EndState.VERIFIED: "green",
    EndState.UNDONE: "yellow",
    EndState.HELD_UNVERIFIED: "bold red",
    EndState.REFUSED: "dim",
    EndState.FAILED: "red",
}


def short(ident: str) -> str:
    """An id as people see it."""
    return ident[:ID_LENGTH]


def clock(at_ms: int) -> str:
    """Time of day of an event time, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def change(kind: str, replicas: int) -> str:
    """What an action does, in two words.

    >>> change("scale_up", 2), change("scale_down", 1), change("tune", 1)
    ('scale_up +2', 'scale_down −1', 'tune 1')
    """
    return f"{kind} {_SIGNS.get(kind, '')}{replicas}"


_SIGNS = {"scale_up": "+", "scale_down": "−"}


def deeds_lines(deeds: Deeds, now_ms: int) -> list[Text]:
    """Actions under way, cases that wait for a person, and the newest decisions and outcomes. Each is one line of the
    screen: what can be cut stands last, an id never does."""
    lines = [_deed(deed, now_ms) for deed in list(deeds.under_way.values())[-SHOWN_DEEDS:]]
    lines += [_case(case) for case in list(deeds.open_cases.values())[-SHOWN_CASES:]]
    newest: list[Outcome | Decision] = [*list(deeds.outcomes)[-SHOWN_OUTCOMES:], *list(deeds.recent)[-SHOWN_DECISIONS:]]
    newest.sort(key=lambda each: each.at)
    lines += [outcome_line(each) if isinstance(each, Outcome) else decision_line(each) for each in newest]
    return [one_line(each) for each in lines]


def one_line(text: Text) -> Text:
    """The text, cut where the terminal ends: lines that wrap push the others off the screen."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _deed(deed: Deed, now_ms: int) -> Text:
    action = deed.action
    for_s = max(0, now_ms - deed.since_ms) / 1000
    what = change(action.spec.kind.value, action.spec.replicas)
    return Text(
        f"▶ {short(action.id)} {action.workload} {what}: {deed.phase.replace('_', ' ')} for {for_s:.0f} s · "
        f"{action.rule}",
        style="bold",
    )


def _case(case: Decision) -> Text:
    what = change(case.candidate.spec.kind.value, case.replicas or case.candidate.spec.replicas)
    return Text(
        f"{clock(case.at_ms)} ? optiinfra approve {short(case.decision_id)}: {case.workload} {what}, "
        f"{case.answer.value.replace('_', ' ')} · {case.candidate.rule}",
        style="yellow" if case.answer is Answer.NEEDS_APPROVAL else "cyan",
    )


def decision_line(decision: Decision) -> Text:
    """A decision in one line."""
    why = ", ".join(reason.value for reason in decision.reasons)
    what = change(decision.candidate.spec.kind.value, decision.replicas or decision.candidate.spec.replicas)
    answer = decision.answer.value.replace("_", " ")
    told = f"{clock(decision.at_ms)} {short(decision.decision_id)} {decision.workload} {what}: {answer}"
    by = f" by {decision.actor}" if decision.actor else ""
    return Text(
        f"{told}{by}{f' ({why})' if why else ''} · {decision.candidate.rule}", style=_ANSWER_STYLE[decision.answer]
    )


def outcome_line(outcome: Outcome) -> Text:
    """An outcome in one line."""
    action = outcome.action
    what = change(action.spec.kind.value, action.spec.replicas)
    why = f" ({outcome.reasons[0]})" if outcome.reasons else ""
    return Text(
        f"{clock(outcome.at_ms)} {short(action.id)} {action.workload} {what}: {END_WORDS[outcome.end_state]}{why}",
        style=_END_STYLE[outcome.end_state],
    )
