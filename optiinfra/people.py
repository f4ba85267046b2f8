"""What people say to a running platform: approve, reject, set a mode, stop all action; and the answer they get."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, OptiInfraError, Unavailable
from contracts.events import Approval, Control, ControlKind, Decision, Mode
from contracts.ports import Ledger, Publisher
from contracts.topics import APPROVALS, CANDIDATES, CONTROLS, DECISIONS, SLIS
from streams.brokers import admin

ANSWER_WITHIN_S = 15.0
_POLL_S = 0.25


def actor_name(given: str | None) -> str:
    """Who speaks: the name given, else the user of this process."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


@dataclass(frozen=True)
class Said:
    """What was said, and where it arrived: in the ledger, on the topic, in both."""

    workloads: tuple[str, ...]
    ledger: bool
    topic: bool
    trouble: tuple[str, ...] = ()


def decisions(bootstrap: str) -> list[Decision]:
    """Every decision that the broker still holds, in log order of each workload."""
    found = admin.tail(bootstrap, DECISIONS.name, from_beginning=True, follow=False)
    return [seen.message for seen in found if isinstance(seen.message, Decision)]


def known_workloads(bootstrap: str) -> list[str]:
    """Workloads that SLIs, decisions or controls speak of."""
    names: set[str] = set()
    for topic in (SLIS, CANDIDATES, CONTROLS):
        for seen in admin.tail(bootstrap, topic.name, from_beginning=True, follow=False):
            if seen.message is not None:
                names.add(seen.message.key)
    return sorted(names)


def find_case(told: Sequence[Decision], ident: str) -> Decision:
    """The newest revision of the case whose decision or action id begins with `ident`. Raises ConfigError."""
    cases = {d.decision_id: d for d in told if d.decision_id.startswith(ident) or d.action_id.startswith(ident or "-")}
    if len(ident) < 6 or not cases:
        raise ConfigError(
            f"no decision {ident!r}",
            where="approvals",
            fix="`optiinfra decisions` lists them; six characters are enough.",
        )
    if len(cases) > 1:
        raise ConfigError(f"{ident!r} begins {len(cases)} ids", where="approvals", fix="Give more characters of it.")
    return next(iter(cases.values()))


async def answer(
    bootstrap: str, publisher: Publisher, anchor: ClockAnchor, ident: str, *, approve: bool, actor: str, reason: str
) -> Decision:
    """Say yes or no to a decision, and wait for what the arbiter makes of it.

    Raises ConfigError for an id that is none, Unavailable when no answer comes in time.
    """
    case = find_case(await asyncio.to_thread(decisions, bootstrap), ident)
    wall_ms = int(time.time() * 1000)
    approval = Approval(
        workload=case.workload,
        decision_id=case.decision_id,
        approve=approve,
        actor=actor,
        reason=reason,
        at_wall_ms=wall_ms,
        at_ms=anchor.event_ms(wall_ms),
    )
    await publisher.publish(approval)
    deadline_s = time.monotonic() + ANSWER_WITHIN_S
    while time.monotonic() < deadline_s:
        for decision in await asyncio.to_thread(decisions, bootstrap):
            if decision.answers == approval.id:
                return decision
        await asyncio.sleep(_POLL_S)
    raise Unavailable(
        f"the arbiter has not answered within {ANSWER_WITHIN_S:.0f} s",
        where=APPROVALS.name,
        fix="What you said stands on the topic and will be answered; `optiinfra status` shows what is not up.",
    )


def control(
    workload: str, kind: ControlKind, anchor: ClockAnchor, *, actor: str, reason: str, mode: Mode | None
) -> Control:
    """What a person sets for one workload, now."""
    wall_ms = int(time.time() * 1000)
    return Control(
        workload=workload,
        kind=kind,
        mode=mode,
        actor=actor,
        reason=reason,
        at_wall_ms=wall_ms,
        at_ms=anchor.event_ms(wall_ms),
    )


async def say(
    controls: Sequence[Control], *, fleet: Control | None, ledger: Ledger | None, publisher: Publisher | None
) -> Said:
    """Set switches: in the ledger, which the executor asks before every step, and on the topic, for the arbiter.

    Either alone has effect; raises Unavailable when neither took it.
    """
    trouble: list[str] = []
    in_ledger = on_topic = False
    if ledger is not None:
        try:
            if fleet is not None:
                await ledger.switch(fleet, fleet=True)
            for each in controls:
                await ledger.switch(each)
            in_ledger = True
        except OptiInfraError as error:
            trouble.append(str(error))
    if publisher is not None:
        try:
            for each in controls:
                await publisher.publish(each)
            on_topic = True
        except OptiInfraError as error:
            trouble.append(str(error))
    if not in_ledger and not on_topic:
        why = "; ".join(trouble) or "neither ledger nor broker is known"
        raise Unavailable(f"nobody heard it: {why}", where="controls", fix="Is `optiinfra up` running here?")
    return Said(tuple(each.workload for each in controls), in_ledger, on_topic, tuple(trouble))


@asynccontextmanager
async def ledger_at(url: str) -> AsyncIterator[Ledger | None]:
    """The ledger at a Redis URL; None for an empty one."""
    if not url:
        yield None
        return
    from agents.ledger import RedisLedger

    async with RedisLedger(url) as ledger:
        yield ledger


@asynccontextmanager
async def publisher_at(bootstrap: str, source: str) -> AsyncIterator[Publisher | None]:
    """A publisher; None where no broker is known or it does not answer."""
    from optiinfra.wiring import open_publisher

    found = None
    if bootstrap:
        with suppress(OptiInfraError):
            found = await open_publisher(bootstrap, source)
    try:
        yield found
    finally:
        if found is not None:
            await found.stop()
