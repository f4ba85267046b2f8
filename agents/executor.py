"""The executor: every approved action is kept in the ledger, carried to a named end state, and told.

It holds nothing that matters: whoever is started in its place continues from the ledger. Actions of different targets
go on side by side, those of one target give their orders one after the other, and what is told waits for none of them.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from agents.carrying import Carrier, Controllers
from agents.checkpoints import Checkpoint, nothing
from agents.core.moves import View
from agents.core.saga import lost
from agents.crew import Crew, end
from agents.evidence import Eyes
from agents.telling import Outbox
from contracts.clock import Clock
from contracts.errors import LedgerLost, OptiInfraError, Unavailable
from contracts.events import Action, Alert, Control, Message, Outcome, Severity, Sli, Tick
from contracts.ledger import ActionRecord, ClaimLimits, Phase
from contracts.ports import Ledger, Publisher

log = structlog.get_logger(__name__)

AWAY_AFTER_S = 10.0
"""Wall seconds without a ledger, or behind the clock, after which people are told."""

History = Callable[[], Awaitable[tuple[Sequence[Action], Sequence[Outcome]]]]
"""Reads all actions and outcomes that the broker still holds."""


class Executor:
    """`handle` takes messages of topics `actions`, `controls`, `slis` and `ticks`; `run` is its life beside them.

    `owner` names it for people; its leases carry the name with a mark of this process, so that who is started in its
    place is another. `expected` says that a ledger ought to be there, since actions were handled before. `idle_s` is
    how long it waits, in wall seconds, before it looks again though nothing came; looking renews leases, so it is
    shorter than those.
    """

    def __init__(
        self,
        ledger: Ledger,
        controllers: Controllers,
        publisher: Publisher,
        clock: Clock,
        *,
        owner: str,
        limits: ClaimLimits,
        max_age_s: float,
        expected: bool,
        history: History,
        checkpoint: Checkpoint = nothing,
        idle_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._clock, self._name = ledger, clock, owner
        self._owner = f"{owner}.{secrets.token_hex(4)}"
        self._expected, self._history = expected, history
        self._checkpoint, self._idle_s, self._monotonic = checkpoint, idle_s, monotonic
        self._lease_s = limits.lease_s
        self._outbox = Outbox(ledger, publisher, checkpoint, idle_s=idle_s)
        self._eyes = Eyes(max_age_s, clock)
        carrier = Carrier(
            ledger,
            controllers,
            clock,
            owner=self._owner,
            actor=owner,
            limits=limits,
            max_age_s=max_age_s,
            checkpoint=checkpoint,
            troubled=self._troubled,
        )
        self._crew = Crew(carrier, self._eyes, clock, heard=self._heard, troubled=self._troubled, done=self._outbox.due)
        self._wake = asyncio.Event()
        self._opened = False
        self._settled: frozenset[str] = frozenset()
        self._targets: tuple[str, ...] = ()
        self._in_trouble: set[str] = set()
        self._behind_since_s: float | None = None
        self._behind_told = False
        self._away_since_s: float | None = None
        self._away_told = False

    async def handle(self, message: Message) -> list[Message]:
        """Take in one message; nothing is published for it here. Raises Unavailable while there is no ledger."""
        if isinstance(message, Action):
            await self._take(message)
        elif isinstance(message, Control):
            await self._set(message)
        elif isinstance(message, Sli):
            self._eyes.see(message)
        elif isinstance(message, Tick):
            self._eyes.hear(message.at_ms)
            self._wake.set()
        return []

    async def run(self, stop: asyncio.Event) -> None:
        """Carry actions until `stop` is set. A ledger that is away or lost is waited for, or begun anew."""
        beside = [asyncio.create_task(self._until(stop)), asyncio.create_task(self._outbox.run())]
        try:
            while not stop.is_set():
                await self._look_once()
                await self._pause()
            await self._crew.leave(self._lease_s, self._targets)
        finally:
            await self._crew.drop()
            await end(beside)

    async def _look_once(self) -> None:
        try:
            if not self._opened:
                await self._open()
            records = await self._ledger.under_way()
            self._targets = tuple({record.action.target: None for record in records})
            self._in_trouble &= {record.action.id for record in records} | self._unreadable()
            self._look_at_the_time(bool(records))
            self._crew.look(records)
            if not records:
                self._heard(None)
        except OptiInfraError as error:
            self._heard(error)

    async def _take(self, action: Action) -> None:
        if not self._opened:
            raise Unavailable("the ledger is not open yet", where="executor", fix="It is asked again.")
        if action.id in self._settled:
            return  # it ended before the ledger was lost
        try:
            await self._ledger.record(action, at_ms=self._clock.now_ms())
        except OptiInfraError as error:
            raise self._later(error) from error
        self._checkpoint("recorded")
        self._wake.set()

    async def _set(self, control: Control) -> None:
        """What people have said on the topic reaches the ledger even if that was away when they said it."""
        if not self._opened:
            raise Unavailable("the ledger is not open yet", where="executor", fix="It is asked again.")
        try:
            heeded = await self._ledger.switch(control, again=True)
        except OptiInfraError as error:
            raise self._later(error) from error
        log.info("control_heard", workload=control.workload, kind=control.kind.value, heeded=heeded)
        self._wake.set()

    def _later(self, error: OptiInfraError) -> Unavailable:
        """Nothing that the ledger is in trouble with may be given up: the worker asks again."""
        if isinstance(error, LedgerLost):
            self._heard(error)
        return Unavailable(error.message, where=error.where or "executor", fix=error.fix)

    async def _open(self) -> None:
        """Begin with the ledger that there is. Of one that was lost, all that was under way is ended as it stands."""
        await self._crew.drop()
        found = await self._ledger.open(expected=self._expected, at_ms=self._clock.now_ms())
        if not found:
            count = await self._reconcile()
            await self._ledger.reconciled()
            self._outbox.alert(self._alert_lost(count))
        self._opened = True

    async def _reconcile(self) -> int:
        """End every action of which nobody knows how far it came; how many those are."""
        actions, outcomes = await self._history()
        ended = {outcome.action.id for outcome in outcomes}
        open_ones = {action.id: action for action in actions if action.id not in ended}
        for action in open_ones.values():
            now_ms = max(self._clock.now_ms(), action.at_ms)
            record = await self._ledger.record(action, at_ms=now_ms)
            if record.phase is Phase.RECORDED:
                end = lost(record, View(now_ms=now_ms, max_age_s=0.0))
                await self._ledger.advance(end, owner=self._owner, fence=0, actor=self._name, at_ms=now_ms)
        self._settled = frozenset(ended)
        return len(open_ones)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _until(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _heard(self, error: OptiInfraError | None) -> None:
        """How the ledger was."""
        if isinstance(error, LedgerLost):
            if self._opened:
                log.error("ledger_lost", error=str(error))
            self._opened, self._expected = False, True
            self._wake.set()
        elif error is not None:
            self._ledger_is_away(error)
        else:
            self._ledger_is_there()

    def _unreadable(self) -> set[str]:
        """Records that the ledger cannot read; people are told of each once."""
        found = self._ledger.unreadable()
        for action_id, why in found.items():
            if action_id not in self._in_trouble:
                self._in_trouble.add(action_id)
                summary = f"the ledger's record of action {action_id} cannot be read: it stands still with its target"
                fix = f"{why} All others go on."
                self._outbox.alert(self._alert("record_unreadable", Severity.CRITICAL, summary, fix, action_id))
        return set(found)

    def _troubled(self, record: ActionRecord, error: Exception) -> None:
        action = record.action
        if action.id in self._in_trouble:
            return
        self._in_trouble.add(action.id)
        log.error("action_troubled", action=action.id, error=str(error), exc_info=error)
        what = str(error) if isinstance(error, OptiInfraError) else f"{type(error).__name__}: {error}"
        fix = (
            error.fix if isinstance(error, OptiInfraError) else "See logs/executor.jsonl; it is tried again meanwhile."
        )
        summary = f"{action.spec.kind} of {action.workload} is {record.phase} and cannot go on: {what}"
        self._outbox.alert(self._alert("action_troubled", Severity.CRITICAL, summary, fix, action.id))

    def _look_at_the_time(self, at_work: bool) -> None:
        """Tell people once where actions stand still since what is read comes too late."""
        behind_s = self._eyes.behind_s
        if behind_s is None or not at_work:
            if behind_s is None and self._behind_told:
                log.info("executor_caught_up")
                self._behind_told = False
            self._behind_since_s = None
            return
        now_s = self._monotonic()
        if self._behind_since_s is None:
            self._behind_since_s = now_s
        if now_s - self._behind_since_s >= AWAY_AFTER_S and not self._behind_told:
            self._behind_told = True
            summary = f"no tick for {behind_s:.0f} s: until newer ones are read no capacity is taken and none verified"
            fix = "Is the pipeline up (`optiinfra status`)? Does this machine keep up with it, is its clock right?"
            self._outbox.alert(self._alert("executor_behind", Severity.WARNING, summary, fix, "executor"))

    def _ledger_is_away(self, error: OptiInfraError) -> None:
        now_s = self._monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
        log.warning("ledger_away", error=str(error), for_s=round(now_s - self._away_since_s, 1))
        if now_s - self._away_since_s >= AWAY_AFTER_S and not self._away_told:
            self._away_told = True
            summary = f"no ledger for {now_s - self._away_since_s:.0f} s: no action is begun or continued. {error}"
            self._outbox.alert(self._alert("ledger_away", Severity.CRITICAL, summary, error.fix))

    def _ledger_is_there(self) -> None:
        if self._away_since_s is not None and self._away_told:
            away_s = self._monotonic() - self._away_since_s
            summary = f"the ledger is back after {away_s:.0f} s: actions go on"
            self._outbox.alert(self._alert("ledger_back", Severity.WARNING, summary, "Nothing needs to be done."))
            self._wake.set()
        self._away_since_s, self._away_told = None, False

    def _alert_lost(self, count: int) -> Alert:
        summary = f"the ledger was lost: the fleet is stopped, and {count} actions are left as they are"
        fix = "Find out why Redis forgot, look at those actions, then resume with `optiinfra resume`."
        return self._alert("ledger_lost", Severity.CRITICAL, summary, fix)

    def _alert(self, name: str, severity: Severity, summary: str, fix: str, subject: str = "ledger") -> Alert:
        at_ms = self._clock.now_ms()
        return Alert(name=name, severity=severity, subject=subject, at_ms=at_ms, summary=summary[:2000], fix=fix)
