"""One task for each target that has work: none waits for another's controller, and those of one target go in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from agents.asking import Troubled
from agents.carrying import Carrier, Sight
from agents.evidence import Eyes
from contracts.clock import Clock
from contracts.errors import LedgerLost, OptiInfraError, Unavailable
from contracts.ledger import ActionRecord, Phase

log = structlog.get_logger(__name__)

_CANCEL_AGAIN_S = 0.5

Heard = Callable[[OptiInfraError | None], None]
"""Told how the ledger was: None where it answered, else Unavailable or LedgerLost."""


class Crew:
    """Carries actions. `look` hands it what is under way, and returns at once; `done` is called when a target's task is
    through. `look_through` does it all before it returns."""

    def __init__(
        self,
        carrier: Carrier,
        eyes: Eyes,
        clock: Clock,
        *,
        heard: Heard,
        troubled: Troubled,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._carrier, self._eyes, self._clock = carrier, eyes, clock
        self._heard, self._troubled, self._done = heard, troubled, done
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._live: set[str] = set()
        self._stops: dict[str, str] = {}
        self._looking_ms: dict[str, int] = {}
        self._looked_ms: dict[str, int] = {}

    def look(self, records: Sequence[ActionRecord]) -> None:
        """Everything that is under way, oldest first; of a target, what has orders to give goes before what is only
        followed. Targets whose task is still at work are left to it: it hears of who goes before whom, and finds the
        rest at the next look."""
        for target, each in self._by_target(records).items():
            if target not in self._tasks:
                task = self._tasks[target] = asyncio.create_task(self._work(each))
                task.add_done_callback(partial(self._through, target))  # which comes even if it never began

    async def look_through(self, records: Sequence[ActionRecord]) -> None:
        """As `look`, one target after the other and without tasks: for a replay, where no time goes by meanwhile."""
        for each in self._by_target(records).values():
            await self._work(each)

    async def leave(self, within_s: float, targets: Sequence[str]) -> None:
        """Finish what is in hand, in `within_s` wall seconds at most, and let go of the leases on these targets."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=within_s)
        await self.drop()
        try:
            for target in targets:
                await self._carrier.let_go(target)
        except OptiInfraError as error:
            log.warning("leases_left_to_lapse", error=str(error))

    async def drop(self) -> None:
        """Leave everything as it is, as a crash would."""
        await end(list(self._tasks.values()))

    def _by_target(self, records: Sequence[ActionRecord]) -> dict[str, list[ActionRecord]]:
        """What is to be done of each target, in order. What is under way, and who stops whom, is taken note of."""
        self._live = {record.action.id for record in records}
        for times in (self._looking_ms, self._looked_ms):
            for action_id in times.keys() - self._live:
                del times[action_id]
        self._stops = {record.action.preempts: record.action.id for record in records if self._stops_another(record)}
        targets: dict[str, list[ActionRecord]] = {}
        for record in sorted(records, key=lambda each: each.followed):
            targets.setdefault(record.action.target, []).append(record)
        return targets

    def _stops_another(self, record: ActionRecord) -> bool:
        """Whether it goes before another: one that comes too late to begin stops nothing."""
        now_ms = max(self._eyes.now_ms(record), self._clock.now_ms())
        in_time = now_ms <= record.action.start_by_ms
        return bool(record.action.preempts) and record.phase is Phase.RECORDED and in_time

    def _through(self, target: str, _: asyncio.Task[None]) -> None:
        del self._tasks[target]
        self._done()

    async def _work(self, records: Sequence[ActionRecord]) -> None:
        """The actions of one target in turn; the next begins as soon as the one before has ended."""
        for record in records:
            action_id = record.action.id
            try:
                after, ours = await self._carrier.carry(record, self._sees)
            except (LedgerLost, Unavailable) as error:
                self._heard(error)
                return
            except Exception as error:  # noqa: BLE001  # a fault in one action is no reason to leave the others alone
                self._troubled(record, error)
                continue
            self._heard(None)
            if ours and action_id in self._looking_ms:
                self._looked_ms[action_id] = self._looking_ms[action_id]
            if after.phase is Phase.ENDED:
                self._live.discard(action_id)

    def _sees(self, record: ActionRecord) -> Sight:
        action = record.action
        now_ms = self._clock.now_ms()
        last_ms = self._looked_ms.get(action.id)
        self._looking_ms[action.id] = now_ms
        return Sight(
            now_ms=self._eyes.now_ms(record),
            evidence=self._eyes.evidence(record, first=last_ms is None or self._eyes.too_old(last_ms, now_ms)),
            stop=f"action {self._stops[action.id]} goes before it" if action.id in self._stops else "",
            behind=action.preempts if action.preempts in self._live else "",
        )


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: one can be lost, as `asyncio.wait_for` of Python 3.11 loses one that comes
    with the answer."""
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
