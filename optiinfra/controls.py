"""What people set on a running platform: its mode, and a stop to all action; told to the ledger and to the arbiter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from pydantic import ValidationError

from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, OptiInfraError, Unavailable
from contracts.events import Control, ControlKind, Mode
from contracts.ports import Ledger, Publisher
from contracts.topics import CONTROLS, DECISIONS, SLIS
from streams.brokers.following import following

RECENT = 2000
"""Records of each partition in which a workload that is alive is looked for."""


@dataclass(frozen=True)
class Said:
    """What was said, and where it arrived: in the ledger, on the topic, in both. Of `unseen` workloads nothing else was
    ever heard, of those in `known` it was: a name can be mistyped."""

    workloads: tuple[str, ...]
    ledger: bool
    topic: bool
    trouble: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def named_workloads(bootstrap: str) -> tuple[list[str], list[str]]:
    """Workloads that the newest SLIs or decisions speak of, and those together with what people named, by their keys
    alone: who stops all action must not wait until every window was read. A name that only people said may be mistyped.
    """
    topics = dict.fromkeys((topic.name for topic in (SLIS, DECISIONS, CONTROLS)), RECENT)
    with following(bootstrap, topics) as log:
        found = {(record.topic == CONTROLS.name, record.key.decode("utf-8", "replace")) for record in log.records()}
    # Keys of other lengths are no names, whoever wrote them.
    seen = {name for said, name in found if not said and 0 < len(name) <= 200}
    return sorted(seen), sorted(seen | {name for _, name in found if 0 < len(name) <= 200})


@contextmanager
def sayable() -> Iterator[None]:
    """What does not fit a message is told as a mistake of whoever said it."""
    try:
        yield
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        raise ConfigError(what, where="what was said", fix="Names have up to 200 characters, reasons 1,000.") from None


def control(
    workload: str, kind: ControlKind, anchor: ClockAnchor, *, actor: str, reason: str, mode: Mode | None
) -> Control:
    """What a person sets for one workload, now."""
    wall_ms = int(time.time() * 1000)
    with sayable():
        return Control(
            workload=workload,
            kind=kind,
            mode=mode,
            actor=actor,
            reason=reason,
            at_wall_ms=wall_ms,
            at_ms=anchor.event_ms(wall_ms),
        )


FLEET = "*"
"""Stands for every workload where the kill switch of the whole fleet is thrown."""

Made = Callable[[str], Control]
"""Makes what a person sets, for a workload."""


async def say(made: Made, names: Sequence[str] | None, *, redis_url: str, bootstrap: str, source: str = "cli") -> Said:
    """Set a switch for these workloads, or for all that are known (None): in the ledger, which the executor asks before
    every step, and on the topic, for the arbiter. `made` gives the message for a workload.

    Either alone has effect. The ledger goes first, with the fleet's own switch: that stops all action even where the
    broker is away. For the whole fleet each known workload's own switch is set as well: a resume of the fleet lifts
    what stood for single workloads. What the ledger does not heed, since something newer stands, is told as trouble.
    Raises Unavailable when neither took it, ConfigError for what cannot be said.
    """
    fleet, chosen = made(FLEET), [made(name) for name in names or ()]
    whole = names is None and fleet.kind is not ControlKind.MODE
    in_ledger = on_topic = False
    unseen: list[str] = []
    known: list[str] = []
    trouble: list[str] = []
    async with ledger_at(redis_url) as ledger:
        if ledger is not None and (whole or chosen):
            with _told(trouble):
                heeded = [await ledger.switch(fleet, fleet=True)] if whole else []
                heeded += [await _set(ledger, each, trouble) for each in chosen]
                if whole and not heeded[0]:
                    trouble.append(_newer("the fleet", fleet))
                in_ledger = any(heeded)
        async with publisher_at(bootstrap, source) as publisher:
            if publisher is not None:
                with _told(trouble):
                    known, named = await asyncio.to_thread(named_workloads, bootstrap)
                    unseen = [each.workload for each in chosen if each.workload not in known]
                    chosen = [made(name) for name in named] if names is None else chosen
                    for each in chosen:
                        await publisher.publish(each)
                    on_topic = bool(chosen)
        if ledger is not None and names is None and chosen:
            with _told(trouble):
                heeded = [await _set(ledger, each, trouble) for each in chosen]
                in_ledger = in_ledger or any(heeded)
    if not in_ledger and not on_topic:
        nothing = "no workload is known yet" if publisher is not None else "neither ledger nor broker answers"
        why = "; ".join(trouble) or nothing
        raise Unavailable(f"nobody heard it: {why}", where="controls", fix="Is `optiinfra up` running here?")
    return Said(
        tuple(each.workload for each in chosen), in_ledger, on_topic, tuple(trouble), tuple(unseen), tuple(known)
    )


async def _set(ledger: Ledger, control: Control, trouble: list[str]) -> bool:
    """Whether the ledger heeds it; what it does not heed is told."""
    heeded = await ledger.switch(control)
    if not heeded:
        trouble.append(_newer(control.workload, control))
    return heeded


def _newer(whom: str, control: Control) -> str:
    fix = "Is the clock of this machine right? Say it again where it is."
    return f"ledger: for {whom} something newer stands, {control.kind.value} changed nothing there. {fix}"


@contextmanager
def _told(trouble: list[str]) -> Iterator[None]:
    """Trouble with one that listens is told, and keeps nobody else from hearing it."""
    try:
        yield
    except OptiInfraError as error:
        trouble.append(str(error))


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
