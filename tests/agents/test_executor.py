"""The executor's own ways: what it takes in, what it tells, and what it does without its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from structlog.testing import capture_logs

from agents.core.outcomes import outcome_of
from agents.executor import Executor
from contracts.errors import ConfigError, LedgerLost, Unavailable
from contracts.events import Action, Alert, EndState, Message, Outcome, Plan, Tick
from contracts.ledger import ClaimLimits, Phase, Switches
from contracts.ports import Controller, Observation
from tests.agents.fakes import FakeController, MemoryLedger, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, WORKLOAD, action, record


class Broker:
    """Keeps what was published, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.messages: list[Message] = []

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        if self.away:
            raise Unavailable("the broker is away", where="test", fix="Wait.")
        self.messages.append(message)

    def alerts(self) -> list[str]:
        return [each.name for each in self.messages if isinstance(each, Alert)]


class LosableLedger(MemoryLedger):
    """One that can be emptied: the next call notices, and `open` begins it anew, stopped."""

    lost = unreconciled = False

    async def open(self, *, expected: bool, at_ms: int) -> bool:
        if self.lost and expected:
            self.records.clear()
            self.killed = self.unreconciled = True
        self.lost = False
        return not self.unreconciled

    async def reconciled(self) -> None:
        self.unreconciled = False

    async def switches(self, workload: str) -> Switches:
        return Switches(killed=self.killed, killed_why="ledger_lost" if self.killed else "")

    def _there(self) -> None:
        if self.lost:
            raise LedgerLost("emptied", where="test", fix="Open it anew.")
        super()._there()


class Running:
    """An executor with its surroundings; `look` waits until it has looked at everything once more."""

    def __init__(
        self,
        ledger: MemoryLedger,
        controllers: Callable[[Action], Controller] | None = None,
        history: tuple[Sequence[Action], Sequence[Outcome]] = ((), ()),
    ) -> None:
        self.ledger, self.broker, self.controller = ledger, Broker(), FakeController()
        self.wall_s, self.clock = 0.0, StillClock()
        self.stop = asyncio.Event()

        async def told() -> tuple[Sequence[Action], Sequence[Outcome]]:
            return history

        self.executor = Executor(
            ledger,
            controllers or (lambda asked: self.controller),
            self.broker,
            self.clock,
            owner="executor-1",
            limits=ClaimLimits(),
            max_age_s=MAX_AGE_S,
            expected=True,
            history=told,
            idle_s=0.001,
            monotonic=lambda: self.wall_s,
        )

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.executor.run(self.stop))
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self.task

    async def look(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0.002)
            assert not self.task.done()


async def test_nothing_is_taken_in_before_the_ledger_is_open() -> None:
    running = Running(MemoryLedger())
    with pytest.raises(Unavailable, match="not open yet"):
        await running.executor.handle(action())


async def test_an_action_is_recorded_and_begun_at_once() -> None:
    async with Running(MemoryLedger()) as running:
        assert await running.executor.handle(action()) == []
        await running.look()
        assert [each.phase for each in running.ledger.records.values()] == [Phase.APPLYING]
        assert list(running.controller.calls.values()) == [1]


async def test_the_same_action_again_is_the_same_action() -> None:
    async with Running(MemoryLedger()) as running:
        for _ in range(3):
            await running.executor.handle(action())
            await running.look()
        assert len(running.ledger.records) == 1
        assert list(running.controller.calls.values()) == [1]


async def test_while_the_ledger_is_away_the_worker_is_told_to_try_again_and_people_are_told_once() -> None:
    ledger = MemoryLedger()
    async with Running(ledger) as running:
        ledger.away = True
        with pytest.raises(Unavailable):
            await running.executor.handle(action())
        running.wall_s = 9.0
        await running.look()
        assert running.broker.alerts() == []
        running.wall_s = 20.0
        await running.look()
        assert running.broker.alerts() == ["ledger_away"]
        ledger.away = False
        await running.look()
        assert running.broker.alerts() == ["ledger_away", "ledger_back"]


async def test_a_short_absence_of_the_ledger_is_not_worth_an_alert() -> None:
    ledger = MemoryLedger()
    async with Running(ledger) as running:
        ledger.away = True
        await running.look()
        running.wall_s = 9.0
        await running.look()
        ledger.away = False
        await running.look()
        assert running.broker.alerts() == []


async def test_an_alert_that_the_broker_did_not_take_is_told_when_it_is_back() -> None:
    ledger = MemoryLedger()
    async with Running(ledger) as running:
        ledger.away = running.broker.away = True
        await running.look()
        running.wall_s = 20.0
        await running.look()
        running.broker.away = False
        await running.look()
        assert running.broker.alerts() == ["ledger_away"]


async def test_actions_of_a_lost_ledger_are_ended_as_they_stand_and_ones_that_had_ended_are_left_alone() -> None:
    open_one, ended_one = action(), action(DOWN)
    outcome = outcome_of(record(DOWN, Phase.ENDED, end_state=EndState.UNDONE, ended_ms=NOW))
    ledger = LosableLedger()
    async with Running(ledger, history=([open_one, ended_one], [outcome])) as running:
        ledger.lost = True
        with pytest.raises(Unavailable):
            await running.executor.handle(open_one)
        await running.look()
        await running.executor.handle(ended_one)
        await running.executor.handle(open_one)
        await running.look()
        ends = [(r.action.id, r.end_state, r.reasons) for r in ledger.records.values()]
        assert ends == [(open_one.id, EndState.HELD_UNVERIFIED, ("ledger_lost",))]
        assert running.broker.alerts() == ["ledger_lost", "action_held"]
        assert running.controller.calls == {}


async def test_who_is_started_after_a_loss_that_nobody_reconciled_does_so() -> None:
    ledger = LosableLedger()
    ledger.unreconciled = True
    async with Running(ledger, history=([action()], [])) as running:
        assert [r.end_state for r in ledger.records.values()] == [EndState.HELD_UNVERIFIED]
        assert running.broker.alerts() == ["ledger_lost", "action_held"]


class Broken(FakeController):
    """A controller with a fault in its own code."""

    async def plan(self, action: Action, seen: Observation) -> Plan:
        raise RuntimeError("a fault")


async def test_trouble_with_one_action_does_not_stop_another() -> None:
    good = FakeController()
    with capture_logs() as logs:
        await _with_trouble(good)
    assert {each["event"] for each in logs if each["log_level"] == "error"} == {"action_troubled"}


async def _with_trouble(good: FakeController) -> None:
    async with Running(MemoryLedger(), lambda asked: good if asked.workload == WORKLOAD else Broken()) as running:
        await running.executor.handle(action(workload="other", target="other/replicas", candidate_id="bad"))
        await running.executor.handle(action())
        await running.look()
        phases = {each.action.workload: each.phase for each in running.ledger.records.values()}
        assert phases == {"other": Phase.RECORDED, WORKLOAD: Phase.APPLYING}


async def test_a_workload_without_a_controller_is_refused() -> None:
    def none(asked: Action) -> Controller:
        raise ConfigError("no controller", where=asked.workload, fix="Configure one.")

    async with Running(MemoryLedger(), none) as running:
        await running.executor.handle(action())
        await running.look()
        (end,) = running.ledger.records.values()
        assert (end.end_state, end.reasons) == (EndState.REFUSED, ("dry_run_failed",))
        assert "no controller" in end.detail


async def test_an_outcome_waits_for_the_broker_and_is_told_once() -> None:
    async with Running(MemoryLedger()) as running:
        running.broker.away = True
        running.clock.at_ms = NOW + 61_000
        await running.executor.handle(Tick(at_ms=NOW + 61_000, partition=0))
        await running.executor.handle(action())
        await running.look()
        assert running.broker.messages == []
        running.broker.away = False
        await running.look()
        (outcome,) = running.broker.messages
        assert isinstance(outcome, Outcome)
        assert (outcome.end_state, outcome.reasons) == (EndState.REFUSED, ("stale_evidence",))
