"""What the executor tells: outcomes of ended actions with their alerts, the audit log, and its own alerts."""

from __future__ import annotations

import asyncio

import structlog

from agents.checkpoints import Checkpoint
from agents.core.outcomes import alert_of, outcome_of
from agents.waiting import IN_LIFE, Waiting
from contracts.errors import BadMessage, OptiInfraError, Unavailable
from contracts.events import Alert, Message, Severity
from contracts.ports import Ledger, Publisher

log = structlog.get_logger(__name__)

_LINES_AT_ONCE = 200
"""Audit lines published between two looks at the actions."""


class Outbox:
    """Everything is told at least once, under ids that make a repeat harmless; the ledger keeps what is still due.

    The executor's own alerts are kept in memory alone, all of them, until the broker takes them: they are few, since
    each kind of trouble is told once. `idle_s` is how long it waits, in wall seconds, before it looks again; `waiting`
    is how it waits until several audit lines are published.
    """

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        checkpoint: Checkpoint,
        *,
        idle_s: float = 1.0,
        waiting: Waiting = IN_LIFE,
    ) -> None:
        self._ledger, self._publisher, self._checkpoint = ledger, publisher, checkpoint
        self._idle_s, self._waiting = idle_s, waiting
        self._alerts: list[Alert] = []
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Tell for ever; whatever goes wrong is tried again."""
        while True:
            self._wake.clear()
            try:
                if await self.tell():
                    continue
            except OptiInfraError as error:
                log.warning("telling_waits", error=str(error))
            except Exception as error:
                log.error("telling_troubled", error=f"{type(error).__name__}: {error}", exc_info=error)
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def due(self) -> None:
        """There may be something to tell."""
        self._wake.set()

    def alert(self, alert: Alert) -> None:
        """Tell people when next possible; kept in memory until then."""
        log.warning("alert", name=alert.name, severity=alert.severity.value, summary=alert.summary)
        self._alerts.append(alert)
        self.due()

    async def say(self) -> None:
        """Publish waiting alerts. A broker that is away keeps them waiting; nothing is raised."""
        try:
            while self._alerts:
                await self._publish(self._alerts[0])
                self._alerts.pop(0)
        except Unavailable as error:
            log.warning("alerts_wait", waiting=len(self._alerts), error=str(error))

    async def tell(self) -> bool:
        """Publish what the ledger holds and nobody was told; True when there is more at once.

        Raises Unavailable and LedgerLost of the ledger; a broker that is away is only logged, and asked again later.
        """
        await self.say()
        for record in await self._ledger.unpublished():
            outcome = outcome_of(record)
            alert = alert_of(outcome)
            try:
                for message in (outcome,) if alert is None else (outcome, alert):
                    await self._publish(message)
            except Unavailable as error:
                log.warning("outcome_waits", action=record.action.id, error=str(error))
                return False
            self._checkpoint("outcome_published")
            await self._ledger.published(record.action.id)
            self._checkpoint("outcome_told")
        told = await self._ledger.audit_told()
        lines = await self._ledger.audit(after=told, limit=_LINES_AT_ONCE)
        if not lines:
            return False
        try:
            await self._waiting.together(self._publish(line) for line in lines)
        except Unavailable as error:
            log.warning("audit_waits", after=told, error=str(error))
            return False
        self._checkpoint("audit_published")
        await self._ledger.tell_audit(lines[-1].number)
        return len(lines) == _LINES_AT_ONCE

    async def _publish(self, message: Message) -> None:
        """Raises Unavailable. What the topic will never take is told to people, and holds up nothing behind it."""
        try:
            await self._publisher.publish(message)
        except BadMessage as error:
            log.error("untellable", type=message.TYPE, id=message.id, key=message.key, error=str(error))
            if isinstance(message, Alert):
                return
            summary = f"a message of type {message.TYPE} about {message.key} cannot be published: {error}"
            fix = "The ledger keeps what it says: optiinfra audit show. See logs/executor.jsonl."
            self.alert(
                Alert(
                    name="untellable",
                    severity=Severity.WARNING,
                    subject=message.id,
                    at_ms=message.at,
                    summary=summary[:2000],
                    fix=fix,
                )
            )
