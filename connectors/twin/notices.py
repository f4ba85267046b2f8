"""Tells the platform of changes by hand: follows the twin's notices and publishes each as an event."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import structlog
from pydantic import BaseModel, ValidationError

from connectors.twin.orders import Notice
from contracts.clock import Clock
from contracts.errors import Unavailable
from contracts.events import MANUAL_CHANGE, Alert, FleetEvent, Severity
from contracts.ports import Publisher

UNHEARD_S = 60.0
"""Event seconds without an answer after which people are told that changes by hand may go unnoticed."""

_TIMEOUT_WALL_S = 5.0

log = structlog.get_logger(__name__)


class _Page(BaseModel):
    newest: int
    notices: tuple[Notice, ...]


async def follow_notices(
    url: str, publisher: Publisher, clock: Clock, stop: asyncio.Event, poll_wall_s: float = 0.5
) -> None:
    """Publish every change by hand, in order and at least once, until `stop` is set.

    `url` is the twin's control port. What the twin remembers from before is published too: ids derive from the twin's
    own count, so that a repeat is known as one. While the twin or the broker is away the next poll tries again from
    the first notice that is not known to be published; a long silence of the twin is an alert, once.
    """
    after, heard_ms, told = 0, clock.now_ms(), False
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_WALL_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session:
        while not stop.is_set():
            try:
                page = await _page(session, url, after)
                heard_ms, told = clock.now_ms(), False
                if page.newest < after:
                    # A twin that forgot: it was started anew, without a journal.
                    page = await _page(session, url, 0)
                for notice in page.notices:
                    await publisher.publish(event_of(notice))
                    after = notice.number
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
                log.info("notices_unheard", url=url, what=f"{type(error).__name__}: {error}"[:500])
                if not told and clock.now_ms() - heard_ms > UNHEARD_S * 1000:
                    told = await _tell(publisher, url, clock.now_ms(), heard_ms)
            except Unavailable as error:
                log.info("notices_wait", what=str(error)[:500])
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), poll_wall_s)


def event_of(notice: Notice) -> FleetEvent:
    """A notice as the event that stages read; its number counts the changes of its workload."""
    return FleetEvent(
        workload=notice.workload,
        name=MANUAL_CHANGE,
        number=notice.change,
        at_ms=notice.at_ms,
        summary=notice.summary,
    )


async def _page(session: aiohttp.ClientSession, url: str, after: int) -> _Page:
    async with session.get(f"{url.rstrip('/')}/actuation/notices?after={after}") as answer:
        answer.raise_for_status()
        return _Page.model_validate_json(await answer.read())


async def _tell(publisher: Publisher, url: str, now_ms: int, heard_ms: int) -> bool:
    """Alert people; whether the broker took it."""
    silence_s = (now_ms - heard_ms) / 1000
    alert = Alert(
        name="notices_unheard",
        severity=Severity.WARNING,
        subject="twin",
        at_ms=now_ms,
        summary=f"the twin at {url} has not answered for {silence_s:.0f} s: changes by hand may go unnoticed",
        fix="See whether the twin runs; what was changed meanwhile is told when it answers.",
    )
    try:
        await publisher.publish(alert)
    except Unavailable:
        return False
    return True
