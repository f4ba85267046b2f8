"""The executor with the real ledger: people's switches hold at every step, and of two executors one acts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from agents.executor import Executor
from agents.ledger import RedisLedger
from contracts.errors import Unavailable
from contracts.events import Action, ActionSpec, Control, ControlKind, EndState, Message, Mode, Outcome, Sli, Tick
from contracts.laws.bounds import Comparator
from contracts.ledger import ClaimLimits, Mark, Phase
from contracts.ports import StepState
from tests.agents.fakes import FakeController
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, WORKLOAD, action, replicas_up, sli


def with_effect(spec: ActionSpec, **changes: object) -> ActionSpec:
    """A day for everything: a busy machine must not make an action late."""
    return spec.model_copy(update={"effect": spec.effect.model_copy(update={"by_s": 86_400.0} | changes)})


DOWN_LONG = with_effect(DOWN, settle_s=80_000.0)
DOWN_SEEN = with_effect(DOWN, expect=replicas_up(Comparator.LE, 3))
UP_SEEN = with_effect(UP, expect=replicas_up(Comparator.GE, 3))
UP_NEVER = with_effect(UP, expect=replicas_up(Comparator.GE, 99))


class Office:
    """Executors at work on one ledger and one fleet, and their clock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.controller = FakeController()
        self.told: list[Message] = []
        self.stop = asyncio.Event()
        self.at_ms = NOW
        self.executors: list[Executor] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ledgers: list[RedisLedger] = []

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        self.told.append(message)

    async def hire(self, owner: str, lease_s: float = 10.0) -> RedisLedger:
        async def history() -> tuple[list[Action], list[Outcome]]:
            return [], []

        ledger = RedisLedger(self.url)
        executor = Executor(
            ledger,
            lambda asked: self.controller,
            self,
            self,
            owner=owner,
            limits=ClaimLimits(lease_s=lease_s),
            max_age_s=MAX_AGE_S,
            expected=bool(self.executors),
            history=history,
            idle_s=0.01,
        )
        await ledger.open(expected=False, at_ms=NOW)
        self.ledgers.append(ledger)
        self.executors.append(executor)
        self.tasks.append(asyncio.create_task(executor.run(self.stop)))
        return ledger

    async def act(self, done: Action) -> Action:
        for executor in self.executors:
            while True:
                try:
                    await executor.handle(done)
                    break
                except Unavailable:  # it has not opened its ledger yet
                    await asyncio.sleep(0.005)
        return done

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let seconds pass, all well measured, until something holds; the suite's time-out ends what never does."""
        while not holds():
            self.at_ms += 1000
            messages: list[Sli | Tick] = [
                sli(self.at_ms, replicas_up=3, load_per_replica=2),
                Tick(at_ms=self.at_ms, partition=0),
            ]
            for executor in self.executors:
                for message in messages:
                    await executor.handle(message)
            self.controller.progress([StepState.DONE] * 5)
            await asyncio.sleep(0.02)

    async def until_phase(self, done: Action, phase: Phase) -> None:
        async def look() -> Phase:
            found = await self.ledgers[0].get(done.id)
            assert found is not None
            return found.phase

        while (found := await look()) is not phase:
            assert found is not Phase.ENDED
            seen = iter((False, True))
            await self.until(lambda turns=seen: next(turns))  # type: ignore[misc]

    async def end_of(self, done: Action) -> Outcome:
        def ends() -> list[Outcome]:
            return [each for each in self.told if isinstance(each, Outcome) and each.action.id == done.id]

        await self.until(lambda: bool(ends()))
        return ends()[0]


@pytest_asyncio.fixture
async def office(redis_url: str) -> AsyncIterator[Office]:
    made = Office(redis_url)
    yield made
    made.stop.set()
    await asyncio.gather(*made.tasks)
    for ledger in made.ledgers:
        await ledger.close()


def in_time(spec: ActionSpec) -> Action:
    return action(spec, start_by_ms=NOW + 86_400_000)


def control(kind: ControlKind, mode: Mode | None = None) -> Control:
    return Control(workload=WORKLOAD, kind=kind, mode=mode, actor="ann", at_wall_ms=1, at_ms=NOW)


@pytest.mark.parametrize("fleet", [False, True])
@pytest.mark.parametrize(
    ("kind", "phase", "ends", "serving"),
    [
        ("up", Phase.VERIFYING, EndState.HELD_UNVERIFIED, "added"),
        ("down", Phase.TRIAL, EndState.UNDONE, "restored"),
    ],
)
async def test_the_kill_switch_stops_what_is_under_way_and_leaves_more_capacity(
    office: Office, kind: str, phase: Phase, ends: EndState, serving: str, fleet: bool
) -> None:
    ledger = await office.hire("executor-1")
    done = await office.act(in_time(UP_NEVER if kind == "up" else DOWN_LONG))
    await office.until_phase(done, phase)
    await ledger.switch(control(ControlKind.KILL), fleet=fleet)
    end = await office.end_of(done)
    assert (end.end_state, end.reasons) == (ends, ("kill_switch",))
    assert len(office.controller.calls) == (1 if serving == "added" else 2)


@pytest.mark.parametrize(
    ("switch", "reason"),
    [(control(ControlKind.KILL), "kill_switch"), (control(ControlKind.MODE, Mode.ADVISORY), "advisory_mode")],
)
async def test_a_switch_that_was_thrown_before_refuses_the_action(office: Office, switch: Control, reason: str) -> None:
    ledger = await office.hire("executor-1")
    await ledger.switch(switch)
    end = await office.end_of(await office.act(in_time(UP_SEEN)))
    assert (end.end_state, end.reasons) == (EndState.REFUSED, (reason,))
    assert office.controller.calls == {}


async def test_of_two_executors_one_acts_and_the_other_takes_over_when_it_is_gone(office: Office) -> None:
    await office.hire("executor-1", lease_s=0.3)
    await office.hire("executor-2", lease_s=0.3)
    done = await office.act(in_time(DOWN_SEEN))
    await office.until_phase(done, Phase.TRIAL)
    assert list(office.controller.calls.values()) == [1]
    office.tasks[0].cancel()
    await asyncio.gather(office.tasks.pop(0), return_exceptions=True)
    office.executors.pop(0)
    end = await office.end_of(done)
    assert end.end_state is EndState.VERIFIED
    assert list(office.controller.calls.values()) == [1, 1]
    last = await office.ledgers[0].get(done.id)
    assert last is not None
    assert last.marks == (Mark.DONE, Mark.DONE)
