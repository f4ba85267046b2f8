"""What people answer to a decision, yes or no, and what the arbiter makes of it."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import Alert, Answer, Approval, Decision
from contracts.ports import Publisher
from contracts.topics import ALERTS, APPROVALS, DECISIONS
from optiinfra.controls import sayable
from streams.brokers.following import Follower, following

ANSWER_WITHIN_S = 15.0
_POLL_S = 0.25

LEAST_CHARACTERS = 6
"""Of an id that a person types."""

_LISTED = "`optiinfra decisions` lists ids."

UNKNOWN_CASE = "approval_unknown"
"""The arbiter's alert, its subject the approval's id, where it knows of no such case."""


def actor_name(given: str | None) -> str:
    """Who speaks: the name given, else the user of this process."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def decisions(bootstrap: str, most: int | None = None) -> list[Decision]:
    """Every decision that the broker still holds, or the newest ones: so many of each partition. In log order of each
    workload."""
    with following(bootstrap, {DECISIONS.name: most}) as log:
        return [each for each in log.there() if isinstance(each, Decision)]


def waiting(bootstrap: str) -> list[Decision]:
    """The cases that wait for a person, as they stand, the oldest first."""
    with following(bootstrap, {DECISIONS.name: None}) as log:
        # Defaults are not written: of a case that nobody was asked about neither name stands in the record.
        told = log.there(lambda record: b'"expires_wall_ms"' in record.value or b'"revision"' in record.value)
    newest = {each.decision_id: each for each in told if isinstance(each, Decision)}
    return sorted((each for each in newest.values() if each.expires_wall_ms is not None), key=lambda each: each.at_ms)


def check_length(ident: str) -> None:
    """Raises ConfigError for a beginning of an id that is too short to mean one case."""
    if len(ident) < LEAST_CHARACTERS:
        few = f"{ident!r} is too short: give at least {LEAST_CHARACTERS} characters of the id"
        raise ConfigError(few, where="decisions", fix=_LISTED)


def find_case(told: Sequence[Decision], ident: str) -> list[Decision]:
    """All revisions of the case whose decision or action id begins so, the newest last. Raises ConfigError."""
    check_length(ident)
    cases: dict[str, dict[str, Decision]] = {}
    for each in told:
        cases.setdefault(each.decision_id, {})[each.id] = each
    found = [
        ident_of
        for ident_of, revisions in cases.items()
        if ident_of.startswith(ident) or any(each.action_id.startswith(ident) for each in revisions.values())
    ]
    if not found:
        raise ConfigError(f"no decision or action has an id that begins with {ident!r}", where="decisions", fix=_LISTED)
    if len(found) > 1:
        many = f"{ident!r} begins the ids of {len(found)} decisions: {', '.join(each[:12] for each in found[:5])}"
        raise ConfigError(many, where="decisions", fix="Give more characters of it.")
    return sorted(cases[found[0]].values(), key=lambda each: each.revision)


def check_asked(case: Sequence[Decision]) -> None:
    """Raises Conflict, with what stands, where no person was ever asked about this case."""
    if any(each.expires_wall_ms is not None or each.revision > 0 for each in case):
        return
    stands = case[-1]
    why = f" ({', '.join(reason.value for reason in stands.reasons)})" if stands.reasons else ""
    by = f" in mode {stands.mode.value}" if stands.answer is Answer.APPROVED else ""
    raise Conflict(
        f"nobody was asked: {stands.candidate.rule} on {stands.workload} was {stands.answer.value}{by}{why}, and that "
        "stands",
        where=f"decision {stands.decision_id}",
        fix=f"See `optiinfra explain {stands.decision_id[:10]}`; `optiinfra decisions --waiting` lists what waits.",
    )


async def answer(
    bootstrap: str, publisher: Publisher, anchor: ClockAnchor, ident: str, *, approve: bool, actor: str, reason: str
) -> Decision:
    """Say yes or no to a decision, and wait for what the arbiter makes of it.

    Raises ConfigError for an id that is none, Conflict where nobody was asked or the arbiter knows no such case,
    Unavailable when no answer comes in time.
    """
    check_length(ident)
    # Begun before anything is said: the answer is among what comes, and the log is read once.
    async with _following(bootstrap, {DECISIONS.name: None, ALERTS.name: 0}) as log:
        begin = ident.encode("utf-8", "replace")
        told = await asyncio.to_thread(log.there, lambda record: begin in record.value)
        case = find_case([each for each in told if isinstance(each, Decision)], ident)
        check_asked(case)
        approval = _approval(case[-1], anchor, approve=approve, actor=actor, reason=reason)
        await publisher.publish(approval)
        deadline_s = time.monotonic() + ANSWER_WITHIN_S
        while time.monotonic() < deadline_s:
            for message in await asyncio.to_thread(log.more, _POLL_S):
                if isinstance(message, Decision) and message.answers == approval.id:
                    return message
                if isinstance(message, Alert) and (message.name, message.subject) == (UNKNOWN_CASE, approval.id):
                    raise Conflict(message.summary, where=f"decision {approval.decision_id}", fix=message.fix)
    raise Unavailable(
        f"the arbiter has not answered within {ANSWER_WITHIN_S:.0f} s",
        where=APPROVALS.name,
        fix="What you said stands on the topic and will be answered; `optiinfra status` shows what is not up.",
    )


@asynccontextmanager
async def _following(bootstrap: str, topics: Mapping[str, int | None]) -> AsyncIterator[Follower]:
    """`following` for a coroutine: it is opened and closed in a thread."""
    opened = following(bootstrap, topics)
    log = await asyncio.to_thread(opened.__enter__)
    try:
        yield log
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


def _approval(case: Decision, anchor: ClockAnchor, *, approve: bool, actor: str, reason: str) -> Approval:
    wall_ms = int(time.time() * 1000)
    with sayable():
        return Approval(
            workload=case.workload,
            decision_id=case.decision_id,
            approve=approve,
            actor=actor,
            reason=reason,
            at_wall_ms=wall_ms,
            at_ms=anchor.event_ms(wall_ms),
        )
