"""A controller or a broker that takes its time, or never answers: it holds up nobody else."""

from __future__ import annotations

import asyncio

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from contracts.events import Action, EndState, Message, Plan, PlanStep
from contracts.ledger import ActionRecord, ClaimLimits, Phase
from contracts.ports import Claim, Observation
from tests.agents.fakes import FakeController, MemoryLedger, StillClock
from tests.agents.saga_help import MAX_AGE_S, NOW, UP, action, record
from tests.agents.test_executor import Running
from tests.agents.test_executor_late import holding, unexpected


class Stuck(FakeController):
    """One that never answers an order."""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        self.calls[token] += 1
        await asyncio.Event().wait()


async def test_a_controller_that_does_not_answer_holds_up_no_other_workload() -> None:
    stuck, fast = Stuck(), FakeController()
    running = Running(MemoryLedger(), lambda asked: stuck if asked.workload == "slow" else fast)
    running.executor._lease_s = 0.01  # how long a stop waits for it
    async with running:
        await running.executor.handle(action(workload="slow", target="slow/replicas"))
        await running.look()
        assert list(stuck.calls.values()) == [1]
        await running.executor.handle(action())
        await running.look()
        assert list(fast.calls.values()) == [1]
        assert list(stuck.calls.values()) == [1]


class Claims(MemoryLedger):
    """Counts how often a lease was taken or renewed, and tells of the third time."""

    def __init__(self) -> None:
        super().__init__()
        self.claims, self.third = 0, asyncio.Event()

    async def claim(self, record: ActionRecord, *args: object, **kwargs: object) -> Claim:
        self.claims += 1
        if self.claims == 3:
            self.third.set()
        return await super().claim(record, *args, **kwargs)  # type: ignore[arg-type]


class Slow(FakeController):
    """One whose plan takes until something has happened."""

    until: asyncio.Event

    async def plan(self, action: Action, seen: Observation) -> Plan:
        await self.until.wait()
        return await super().plan(action, seen)


async def test_a_lease_is_renewed_while_a_controller_takes_its_time() -> None:
    ledger, controller = Claims(), Slow()
    controller.until = ledger.third
    carrier = Carrier(
        ledger,
        lambda asked: controller,
        StillClock(),
        owner="executor-1",
        limits=ClaimLimits(lease_s=0.03),
        max_age_s=MAX_AGE_S,
        checkpoint=nothing,
        troubled=unexpected,
    )
    after, ours = await carrier.carry(await ledger.record(action(), at_ms=NOW), lambda record: Sight(NOW))
    assert (after.phase, ours) == (Phase.APPLYING, True)
    assert ledger.fence == 1


class SlowBroker:
    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        await asyncio.Event().wait()


async def test_a_broker_that_does_not_answer_holds_up_no_action() -> None:
    ended = record(UP, Phase.ENDED, action=action(candidate_id="ended"), end_state=EndState.REFUSED, ended_ms=NOW)
    running = Running(holding(ended))
    running.executor._outbox._publisher = SlowBroker()
    async with running:
        await running.executor.handle(action())
        await running.look()
        assert list(running.controller.calls.values()) == [1]
