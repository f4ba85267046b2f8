"""The executor: every approved action is kept in the ledger, carried to a named end state, and told.

It holds nothing that matters: whoever is started in its place continues from the ledger. Actions of different targets
go on side by side, those of one target one after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from agents.carrying import Carrier, Controllers, Sight
from agents.checkpoints import Checkpoint, nothing
from agents.core.moves import View
from agents.core.saga import lost
from agents.evidence import Eyes
from agents.telling import Outbox
from contracts.clock import Clock
from contracts.errors import LedgerLost, OptiInfraError, Unavailable
from contracts.events import Action, Alert, Message, Outcome, Refusal, Severity, Sli, Tick
from contracts.ledger import ActionRecord, ClaimLimits, Phase
from contracts.ports import Ledger, Publisher

log = structlog.get_logger(__name__)

AWAY_AFTER_S = 10.0
"""Wall seconds without a ledger after which people are told."""

_FLEET = "-"

History = Callable[[], Awaitable[tuple[Sequence[Action], Sequence[Outcome]]]]
"""Reads all actions and outcomes that the broker still holds."""


class Executor:
    """`handle` takes messages of topics `actions`, `slis` and `ticks`; `run` is its life beside them.

    `expected` says that a ledger ought to be there, since actions were handled before. `idle_s` is how long it waits,
    in wall seconds, before it looks again though nothing came; looking renews leases, so it is shorter than those.
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
        self._ledger, self._clock, self._owner = ledger, clock, owner
        self._expected, self._history = expected, history
        self._checkpoint, self._idle_s, self._monotonic = checkpoint, idle_s, monotonic
        self._carrier = Carrier(
            ledger, controllers, clock, owner=owner, limits=limits, max_age_s=max_age_s, checkpoint=checkpoint
        )
        self._outbox = Outbox(ledger, publisher, checkpoint)
        self._eyes = Eyes(max_age_s)
        self._wake = asyncio.Event()
        self._opened = False
        self._settled: frozenset[str] = frozenset()
        self._known: set[str] = set()
        self._away_since_s: float | None = None
        self._away_told = False

    async def handle(self, message: Message) -> list[Message]:
        """Take in one message; nothing is published for it here. Raises Unavailable while there is no ledger."""
        if isinstance(message, Action):
            await self._take(message)
        elif isinstance(message, Sli):
            self._eyes.see(message)
        elif isinstance(message, Tick):
            self._eyes.hear(message.at_ms)
            self._wake.set()
        return []

    async def run(self, stop: asyncio.Event) -> None:
        """Carry actions until `stop` is set. A ledger that is away or lost is waited for, or begun anew."""
        stopping = asyncio.ensure_future(self._until(stop))
        try:
            while not stop.is_set():
                await self._look_once()
                await self._pause()
        finally:
            stopping.cancel()

    async def _look_once(self) -> None:
        try:
            if not self._opened:
                await self._open()
            await self._round()
            if await self._outbox.tell():
                self._wake.set()
            self._ledger_is_there()
        except LedgerLost as error:
            log.error("ledger_lost", error=str(error))
            self._opened, self._expected = False, True
            self._wake.set()
        except OptiInfraError as error:
            await self._ledger_is_away(error)

    async def _take(self, action: Action) -> None:
        if not self._opened:
            raise Unavailable("the ledger is not open yet", where="executor", fix="It is asked again.")
        if action.id in self._settled:
            return  # it ended before the ledger was lost
        try:
            await self._ledger.record(action, at_ms=self._clock.now_ms())
        except LedgerLost as error:
            self._opened, self._expected = False, True
            self._wake.set()
            raise Unavailable(
                str(error), where="executor", fix="The ledger is begun anew, then it is asked again."
            ) from error
        self._checkpoint("recorded")
        self._wake.set()

    async def _open(self) -> None:
        """Begin with the ledger that there is. Of one that was lost, all that was under way is ended as it stands."""
        found = await self._ledger.open(expected=self._expected, at_ms=self._clock.now_ms())
        # Who began it anew may have died before all was reconciled: the switch tells, until people take it back.
        stopped = (await self._ledger.switches(_FLEET)).killed_why == Refusal.LEDGER_LOST.value
        if stopped or not found:
            self._outbox.begin_anew()
            count = await self._reconcile()
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
                await self._ledger.advance(end, owner=self._owner, fence=0, actor=self._owner, at_ms=now_ms)
        self._settled = frozenset(ended)
        return len(open_ones)

    async def _round(self) -> None:
        """Look at every action under way once."""
        records = await self._ledger.under_way()
        self._known &= {record.action.id for record in records}
        live = {record.action.id for record in records}
        stops = {
            record.action.preempts: record.action.id
            for record in records
            if record.action.preempts
            and record.phase is Phase.RECORDED
            and self._eyes.now_ms(record) <= record.action.start_by_ms
        }
        targets: dict[str, list[ActionRecord]] = {}
        for record in records:
            targets.setdefault(record.action.target, []).append(record)
        answers = await asyncio.gather(
            *(self._carry_all(each, live, stops) for each in targets.values()), return_exceptions=True
        )
        troubles = [answer for answer in answers if isinstance(answer, BaseException)]
        for trouble in troubles:
            if not isinstance(trouble, OptiInfraError):
                log.error("action_troubled", error=f"{type(trouble).__name__}: {trouble}", exc_info=trouble)
        for kind in (LedgerLost, OptiInfraError):
            for trouble in troubles:
                if isinstance(trouble, kind):
                    raise trouble

    async def _carry_all(self, records: Sequence[ActionRecord], live: set[str], stops: dict[str, str]) -> None:
        """The actions of one target, oldest first; the next begins as soon as the one before has ended."""
        for record in records:
            action = record.action
            stop = f"action {stops[action.id]} goes before it" if action.id in stops else ""
            sight = Sight(
                now_ms=self._eyes.now_ms(record),
                evidence=self._eyes.evidence(record, first=action.id not in self._known),
                stop=stop,
                behind=action.preempts if action.preempts in live else "",
            )
            after = await self._carrier.carry(record, sight)
            self._known.add(action.id)
            if after.phase is Phase.ENDED:
                live.discard(action.id)

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

    async def _ledger_is_away(self, error: OptiInfraError) -> None:
        now_s = self._monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
        log.warning("ledger_away", error=str(error), for_s=round(now_s - self._away_since_s, 1))
        if now_s - self._away_since_s >= AWAY_AFTER_S and not self._away_told:
            self._away_told = True
            summary = f"no ledger for {now_s - self._away_since_s:.0f} s: no action is begun or continued. {error}"
            self._outbox.alert(self._alert("ledger_away", Severity.CRITICAL, summary, error.fix))
        await self._outbox.say()

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

    def _alert(self, name: str, severity: Severity, summary: str, fix: str) -> Alert:
        at_ms = self._clock.now_ms()
        return Alert(name=name, severity=severity, subject="ledger", at_ms=at_ms, summary=summary[:2000], fix=fix)
