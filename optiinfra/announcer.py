"""The announcer: what the supervisor has to tell people goes to the log, the live picture and the alerts topic."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from contracts.errors import OptiInfraError
from contracts.events import Alert, Severity
from contracts.ports import Publisher
from optiinfra.live import LiveState

HELD_ALERTS = 1000
RETRY_S = 1.0


class Announcer:
    """Alerts wait here while the broker is away, oldest dropped beyond a thousand (the log has them all)."""

    def __init__(self, live: LiveState, now_ms: Callable[[], int]) -> None:
        self._live, self._now_ms = live, now_ms
        self._held: deque[Alert] = deque(maxlen=HELD_ALERTS)
        self._news = asyncio.Event()
        self._log = structlog.get_logger("alerts")
        self.publisher: Publisher | None = None

    def alert(self, name: str, severity: Severity, subject: str, summary: str, fix: str = "") -> Alert:
        """Raise an alert of the platform itself."""
        alert = Alert(
            name=name,
            severity=severity,
            subject=subject[:200],
            at_ms=self._now_ms(),
            summary=summary[:2000],
            fix=fix[:2000],
        )
        levels = {Severity.CRITICAL: self._log.error, Severity.WARNING: self._log.warning}
        levels.get(severity, self._log.info)(name, subject=subject, summary=summary, fix=fix)
        self._live.apply(alert, alert.at_ms)
        self._held.append(alert)
        self._news.set()
        return alert

    async def run(self) -> None:
        """Publish what is held, in order, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._held:
                publisher, alert = self.publisher, self._held[0]
                try:
                    if publisher is None:
                        raise OptiInfraError("no broker yet")
                    await publisher.publish(alert)
                except OptiInfraError:
                    await asyncio.sleep(RETRY_S)
                    continue
                if self._held and self._held[0] is alert:
                    self._held.popleft()
