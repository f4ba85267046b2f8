"""The reviewer and the executor under the virtual driver: the same objects as in life, without tasks that wait.

Of the executor only its loop is another: in life it looks when a tick or an action comes and its tasks go on beside the
reading; here each look is finished before the next message is handled, and needs no tasks for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from agents.carrying import Carrier, Controllers
from agents.checkpoints import nothing
from agents.crew import Crew
from agents.evidence import Eyes
from agents.ledger_memory import MemoryLedger
from agents.reviewer.handler import reviewing
from agents.telling import Outbox
from agents.waiting import NoWaiting, without_waiting
from contracts.errors import OptiInfraError
from contracts.events import Action, Alert, Control, Message, Severity, Sli, Tick
from contracts.ledger import ActionRecord, ClaimLimits
from contracts.ports import Reviewer
from contracts.topics import ACTIONS, CANDIDATES, CONTROLS, SLIS, TICKS
from optiinfra.replay.virtual import Reader, VirtualClock

OWNER = "replay"


class Acting:
    """Runs reviewer and executor to their end at each message. A context manager: it owns the event loop of a reviewer
    who has to be waited for; the executor needs none."""

    def __init__(
        self,
        reviewer: Reviewer,
        controllers: Controllers,
        clock: VirtualClock,
        *,
        limits: ClaimLimits,
        max_age_s: float,
    ) -> None:
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._judge = reviewing(reviewer, clock_s=clock)
        self.ledger = MemoryLedger(clock)
        self._eyes = Eyes(max_age_s, clock)
        self._told: list[Message] = []
        waiting = NoWaiting()
        self._outbox = Outbox(self.ledger, _Kept(self._told), nothing, waiting=waiting)
        carrier = Carrier(
            self.ledger,
            controllers,
            clock,
            owner=OWNER,
            limits=limits,
            max_age_s=max_age_s,
            checkpoint=nothing,
            troubled=self._troubled,
            waiting=waiting,
        )
        self._crew = Crew(carrier, self._eyes, clock, heard=self._heard, troubled=self._troubled)
        self._busy = False
        self._fault: OptiInfraError | None = None

    def __enter__(self) -> Self:
        without_waiting(self.ledger.open(expected=False, at_ms=self._clock.now_ms()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.close()

    @property
    def readers(self) -> tuple[Reader, ...]:
        """What is read here, for the driver."""
        return (
            Reader("reviewer", (CANDIDATES,), self._review),
            Reader("executor", (ACTIONS, CONTROLS, SLIS, TICKS), self._execute),
        )

    def _review(self, message: Message) -> Sequence[Message]:
        return self._loop.run_until_complete(self._judge(message))

    def _execute(self, message: Message) -> Sequence[Message]:
        if isinstance(message, Sli):
            self._eyes.see(message)
            return ()
        if isinstance(message, Tick):
            self._eyes.hear(message.at_ms)
            if not self._busy:
                return ()
        elif isinstance(message, Action):
            without_waiting(self.ledger.record(message, at_ms=self._clock.now_ms()))
            self._busy = True
        elif isinstance(message, Control):
            without_waiting(self.ledger.switch(message, again=True))
        without_waiting(self._look())
        told = list(self._told)
        self._told.clear()
        return told

    async def _look(self) -> None:
        """One look at all that is under way, carried as far as it goes; then what has ended is told."""
        records = await self.ledger.under_way()
        if records:
            await self._crew.look_through(records)
        if self._fault is not None:
            raise self._fault
        while await self._outbox.tell():
            pass
        self._busy = bool(await self.ledger.under_way())

    def _heard(self, error: OptiInfraError | None) -> None:
        """The ledger in memory is never away: what is wrong with it is a fault of the replay, and ends it."""
        self._fault = self._fault or error

    def _troubled(self, record: ActionRecord, error: Exception) -> None:
        """One action cannot be carried on: people are told, as the executor does."""
        what = f"{record.action.spec.kind} of {record.action.workload} cannot go on: {type(error).__name__}: {error}"
        alert = Alert(
            name="action_troubled",
            severity=Severity.CRITICAL,
            subject=record.action.id,
            at_ms=self._clock.now_ms(),
            summary=what[:2000],
            fix="It is tried again at the next tick.",
        )
        self._told.append(alert)


class _Kept:
    """A publisher that keeps what it is given, for the driver to hand on."""

    def __init__(self, told: list[Message]) -> None:
        self._told = told

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        self._told.append(message)
