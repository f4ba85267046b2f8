"""Runs one stage on Kafka: reads, folds, writes outputs, then state, then commits, in that order.

A crash between any two of these repeats outputs and never loses one. Faust owns the group, the partitions and the
recovery from the changelog; what happens to a batch is decided here. On any error the process must end, because a
worker that goes on would commit past what was not handled: `run_stage` raises, `run_stage_process` exits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from contracts.clock import Clock
from contracts.codec import Record, encode, headers_of
from contracts.errors import OptiInfraError
from contracts.events import Alert, Message, WorkerState
from contracts.stage import Stage
from contracts.topics import TICKS
from streams.batching import Batch, Effects, Incoming, TickGate
from streams.changelog import StateKeeper
from streams.faust_app import FETCH_WAIT_MS, REQUEST_TIMEOUT_S
from streams.faust_client import StageClient
from streams.heartbeat import HEARTBEAT_S, Pulse
from streams.offset_gap import OffsetGap, Place, Positions

MAX_BATCH = 500
"""Records folded between two writes of state: large enough to save writes, small enough to redo after a crash."""

COMMIT_INTERVAL_S = 0.5
"""How often offsets are committed: after a crash so much work is done again, and its repeats change nothing."""

_TICK_POLL_S = 0.05  # how soon a held tick is looked at again when no record comes
_IDLE_POLL_S = 1.0

_log = logging.getLogger(__name__)


def _nothing(_: str) -> None:
    """The checkpoint of production."""


def _log_alert(alert: Alert) -> None:
    _log.error("%s: %s %s", alert.name, alert.summary, alert.fix)


class StageDriver:
    """One stage in one Faust app. Use `run_stage`; the class is here to be read from top to bottom."""

    def __init__(
        self,
        stage: Stage,
        *,
        bootstrap: str,
        embedded: bool,
        clock: Clock,
        worker_name: str,
        on_alert: Callable[[Alert], None],
        checkpoint: Callable[[str], None],
        fetch_wait_ms: int,
        session_timeout_s: float | None,
    ) -> None:
        self._stage, self._clock, self._worker = stage, clock, worker_name
        self._on_alert, self._checkpoint = on_alert, checkpoint
        self._keeper = StateKeeper(stage.state, rewrites=embedded)
        self._positions = Positions()
        self._generation: int | None = None
        self._pulse = Pulse(worker_name, f"stage:{stage.name}")
        self._client = StageClient(
            stage,
            bootstrap=bootstrap,
            embedded=embedded,
            worker_name=worker_name,
            on_state=self._keeper.load,
            fetch_wait_ms=fetch_wait_ms,
            session_timeout_s=session_timeout_s,
        )
        gate: TickGate[tuple[Any, Incoming, Message | None]] = TickGate(stage, self._positions, self._client.highwater)
        self._gate = gate

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; raises on any error, after which the process must not go on."""
        await self._client.start()
        parts = (self._client.crashed(), self._beat(), self._commits(), self._work(stop))
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._commit()
        await self._say(WorkerState.LEAVING)
        await self._client.leave()

    async def _work(self, stop: asyncio.Event) -> None:
        """The loop: wait for records, take what is there, make their effects true."""
        while not stop.is_set():
            wait_s = _TICK_POLL_S if self._gate.holding else _IDLE_POLL_S
            getting, stopping = asyncio.ensure_future(self._client.inbox.get()), asyncio.ensure_future(stop.wait())
            await asyncio.wait((getting, stopping), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            events = [getting.result()] if getting.done() else []
            getting.cancel()
            while len(events) < MAX_BATCH and not self._client.inbox.empty():
                events.append(self._client.inbox.get_nowait())
            if events or self._gate.holding:
                await self._handle(events)

    async def _handle(self, events: list[Any]) -> None:
        generation, assigned = self._client.generation, self._client.assigned()
        # What was read before a rebalance is read again by whoever has the partition now.
        events = [e for e in events if e.message.generation_id == generation and e.message.tp in assigned]
        gaps: list[OffsetGap] = []
        if generation != self._generation:
            gaps += await self._begin(generation, assigned)
        batch = Batch(self._stage, self._keeper, source=self._worker, at_ms=self._clock.now_ms())
        done: list[Any] = []
        for event in events:
            raw = event.message
            if self._positions.repeated(raw.topic, raw.partition, raw.offset):
                continue
            if gap := self._positions.gap(raw.topic, raw.partition, raw.offset):
                gaps.append(await self._checked(gap))
            self._take(batch, event, done)
            self._positions.advance(raw.topic, raw.partition, raw.offset)  # not before: it would let ticks pass
        for partition in list(self._gate.holding):
            self._release(batch, partition, done)
        effects = batch.finish()
        if done or gaps or effects.outputs:  # the dead letter of a tick goes out even while the tick is held
            await self._settle(effects, done, gaps, generation)

    async def _checked(self, gap: OffsetGap) -> OffsetGap:
        """A gap is the broker's loss only if it has nothing of what is missing; else this client skipped the rest, and
        what is lost before that is told when the worker starts again behind it."""
        if held := gap.still_held(await self._client.earliest(gap.topic, gap.partition)):
            raise OptiInfraError(
                f"the Kafka client skipped offsets {held.start} to {held.stop - 1} of {gap.topic} "
                f"partition {gap.partition}, which the broker still has",
                fix="These are not lost: the worker starts again from what was committed.",
            )
        return gap

    async def _begin(self, generation: int, assigned: set[Place]) -> list[OffsetGap]:
        """A new set of partitions: find out where each begins, and what was lost before."""
        self._positions.begin(assigned)
        self._gate.clear()
        self._keeper.keep_only({partition for _, partition in assigned})
        self._client.forget_copies()
        gaps = [
            self._positions.start(*place, await self._client.committed(*place), await self._client.earliest(*place))
            for place in sorted(assigned)
        ]
        self._generation = generation
        return [gap for gap in gaps if gap]

    def _take(self, batch: Batch, event: Any, done: list[Any]) -> None:
        raw = event.message
        record = Record(raw.topic, raw.key or b"", raw.value or b"", headers_of(raw.headers))
        incoming = Incoming(record, raw.partition, raw.offset)
        message = batch.decode(incoming)
        if raw.topic == TICKS.name:
            # One that cannot be read waits in line too: settled first, it would commit past the ticks before it.
            self._gate.hold(raw.partition, message.at if message else 0, (event, incoming, message))
        else:
            if message is not None:
                self._gate.show(raw.topic, raw.partition, message.at)
                self._release(batch, raw.partition, done)  # a tick goes before data of its own time or later
                batch.take(incoming, message)
            done.append(event)

    def _release(self, batch: Batch, partition: int, done: list[Any]) -> None:
        for event, incoming, tick in self._gate.release(partition):
            if tick is not None:
                batch.take(incoming, tick)
            done.append(event)

    async def _settle(self, effects: Effects, done: list[Any], gaps: list[OffsetGap], generation: int) -> None:
        """Outputs, then state, each awaited; only then may the records behind them be committed."""
        alerts = [gap.alert(self._stage.name, self._clock.now_ms()) for gap in gaps]
        for alert in alerts:
            self._on_alert(alert)
        extra = [encode(alert, source=self._worker) for alert in alerts]
        sent = [await self._client.send(record) for record in effects.outputs + extra]
        self._checkpoint("outputs_sent")
        await asyncio.gather(*sent)
        self._checkpoint("outputs_acked")
        if self._client.generation != generation:
            return  # the partitions may be somebody else's: the records come again, and their outputs repeat
        sent = [await self._client.write_state(*place, value) for place, (_, value) in effects.states.items()]
        self._checkpoint("state_sent")
        written = await asyncio.gather(*sent)
        self._checkpoint("state_acked")
        for (place, (state, value)), at in zip(effects.states.items(), written, strict=True):
            self._keeper.put(*place, state, value, at.offset)
        await self._rewrite(effects)
        for event in done:
            self._positions.settle(event.message.topic, event.message.partition, event.message.offset)
        self._checkpoint("settled")
        self._pulse.handled += len(done)
        self._pulse.emitted += effects.emitted
        self._pulse.dead_letters += effects.dead_letters

    async def _commits(self) -> None:
        """Commit what is settled, twice a second."""
        while True:
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self._commit()

    async def _commit(self) -> None:
        if self._client.generation != self._generation:
            return  # what is settled belongs to a handing-out of partitions that is over
        offsets = self._positions.uncommitted()
        if offsets and await self._client.commit(offsets):
            self._positions.committed(offsets)

    async def _rewrite(self, effects: Effects) -> None:
        """Where nothing compacts, write quiet states again before the broker drops them."""
        written: dict[int, int] = {}
        for (partition, _), (_, value) in effects.states.items():
            written[partition] = written.get(partition, 0) + len(value or b"")
        for partition, size in written.items():
            for key, value in self._keeper.due_for_rewrite(partition, size):
                at = await (await self._client.write_state(partition, key, value))
                self._keeper.put(partition, key, value, value, at.offset)

    async def _beat(self) -> None:
        """Say every two seconds that this worker lives; a broker that takes no heartbeat ends it."""
        while True:
            await self._say(WorkerState.WORKING if self._client.recovered else WorkerState.STARTING)
            await asyncio.sleep(HEARTBEAT_S)

    async def _say(self, state: WorkerState) -> None:
        ends: dict[Place, int | None] = {place: self._client.highwater(*place) for place in self._client.assigned()}
        beat = self._pulse.beat(state, self._positions.lag(ends) if ends else None)
        await asyncio.wait_for(await self._client.send(encode(beat, source=self._worker)), REQUEST_TIMEOUT_S)


async def run_stage(
    stage: Stage,
    *,
    bootstrap: str,
    embedded: bool,
    clock: Clock,
    worker_name: str,
    on_alert: Callable[[Alert], None] = _log_alert,
    stop: asyncio.Event | None = None,
    checkpoint: Callable[[str], None] = _nothing,
    fetch_wait_ms: int = FETCH_WAIT_MS,
    session_timeout_s: float | None = None,
) -> None:
    """Run a stage until `stop` is set: the batch in hand is finished, committed, and LEAVING sent.

    Raises Unavailable when the broker is away at the start, and whatever went wrong later; then the process must end.
    `on_alert` hears of lost offsets at once (they go to the alerts topic too). `checkpoint` is called as each part of a
    batch is done (`outputs_sent`, `outputs_acked`, `state_sent`, `state_acked`, `settled`): tests kill there.
    """
    driver = StageDriver(
        stage,
        bootstrap=bootstrap,
        embedded=embedded,
        clock=clock,
        worker_name=worker_name,
        on_alert=on_alert,
        checkpoint=checkpoint,
        fetch_wait_ms=fetch_wait_ms,
        session_timeout_s=session_timeout_s,
    )
    await driver.run(stop or asyncio.Event())


def run_stage_process(stage: Stage, **arguments: Any) -> NoReturn:
    """Be the process of a stage (arguments of `run_stage`): SIGTERM and SIGINT end it cleanly, any error with code 1.

    It leaves by `os._exit`, because threads of a broken Kafka client can keep an interpreter from ending.
    """

    async def main() -> NoReturn:
        stop, code = asyncio.Event(), 0
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            await run_stage(stage, stop=stop, **arguments)
        except OptiInfraError as error:
            _log.error("stage %s: %s", stage.name, error)
            code = error.exit_code
        except Exception:  # noqa: BLE001  # the edge of the process: whatever it was, say it and end
            _log.exception("stage %s failed", stage.name)
            code = 1
        _exit(code)  # from inside the loop: closing it would wait for tasks of Faust that do not end

    asyncio.run(main())
    raise AssertionError("the process has ended")


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
