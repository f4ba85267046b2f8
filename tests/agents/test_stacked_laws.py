"""Laws of several actions on one target, under any schedule of orders, answers, crashes and faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given, settings

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.ledger_memory import MemoryLedger
from agents.ledger_store import LedgerStore
from contracts.events import Action, ActionKind, Control, EndState, PlanStep, StepKind
from contracts.laws.bounds import Comparator
from contracts.ledger import ActionRecord, ClaimLimits, Mark, Phase, step_token
from contracts.ports import Observation, StepState
from tests.agents.fakes import Crash, FakeController, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, WORKLOAD, action, evidence, replicas_up
from tests.agents.stacked_turns import Turn, schedules
from tests.agents.test_executor_late import unexpected

FIRST, MOST = 3, 8
"""Replicas that serve when all begins, and the workload's limit."""

ENOUGH_TURNS = 60


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Thousands of lives, each with a line a move."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


class Clock(StillClock):
    """Event time, and the wall of the ledger."""

    def __call__(self) -> float:
        return self.at_ms / 1000


class CrashingLedger(MemoryLedger):
    """The real one; `before` and `after` are called around each write of a record, and may raise Crash."""

    before: Callable[[], None]
    after: Callable[[], None]

    async def advance(self, record: ActionRecord, *, owner: str, fence: int, actor: str, at_ms: int) -> bool:
        self.before()
        stands = await super().advance(record, owner=owner, fence=fence, actor=actor, at_ms=at_ms)
        self.after()
        return stands


@dataclass
class Fleet(FakeController):
    """Counts its replicas by the orders that it took, and looks into the ledger at each: `wrongs` must stay empty.

    `by`: token → whose it is, `does`: token of an undo → token of what it takes back, `fences`: whose each was.
    """

    store: LedgerStore = field(default_factory=LedgerStore)
    by: dict[str, Action] = field(default_factory=dict)
    does: dict[str, str] = field(default_factory=dict)
    fences: dict[int, str] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)

    def orders(self, kind: StepKind, *states: StepState) -> int:
        """Orders of this kind in these states that were not taken back."""
        back = {self.does[token] for token in self.jobs if token in self.does}
        kept = [job for token, job in self.jobs.items() if token not in self.does and token not in back]
        return sum(job.step.kind is kind and job.state in states for job in kept)

    @property
    def serving(self) -> int:
        drained = self.orders(StepKind.DRAIN, StepState.RUNNING, StepState.DONE)
        return FIRST + self.orders(StepKind.ADD, StepState.DONE) - drained

    async def observe(self, workload: str) -> Observation:
        self._there()
        starting = self.orders(StepKind.ADD, StepState.RUNNING)
        names = tuple(f"chat-{n}" for n in range(self.serving))
        return Observation(0, names, starting=tuple(f"new-{n}" for n in range(starting)))

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        self._comes(self.by[token], fence)
        others = [
            record
            for each in self.store.under_way
            if (record := self.store.records[each].record).began_ms is not None and each != self.by[token].id
        ]
        if others and not self.by[token].spec.stacks:
            self.wrongs.append("what does not stack began beside another")
        try:
            await super().apply(workload, step, token, fence)
        finally:
            if self.serving + self.orders(StepKind.ADD, StepState.RUNNING) > MOST:
                self.wrongs.append("more than the workload may have")

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        self._comes(self.by[token], fence)
        await super().undo(workload, step, done_token, token, fence)

    def _comes(self, by: Action, fence: int) -> None:
        """An order: only of who holds the target, under the fence that was given last."""
        lease = self.store.leases[by.target]
        if self.store.targets.get(by.target) != by.id:
            self.wrongs.append(f"an order of {by.id} while {self.store.targets} hold targets")
        if (lease.action_id, lease.fence) != (by.id, fence) or fence < max(self.fences, default=0):
            self.wrongs.append(f"an order of {by.id} under an old fence")
        if self.fences.setdefault(fence, by.id) != by.id:
            self.wrongs.append(f"an order of {by.id} under another's fence")
        kept = (self.store.records[each].record for each in self.store.under_way if each != by.id)
        if any({Mark.INTENDED, Mark.UNDO_INTENDED} & set(record.marks) for record in kept):
            self.wrongs.append(f"an order of {by.id} while nobody knows of another's")


class World:
    """One target with its ledger and fleet; executors come and go."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), LedgerStore()
        self.ledger, self.fleet = CrashingLedger(self.clock, self.store), Fleet(store=self.store)
        self.ledger.before = self.ledger.after = lambda: None
        self.crashes = self.together = self._owner = 0
        self._start()

    def _start(self) -> None:
        self._owner += 1
        self._carrier = Carrier(
            self.ledger,
            lambda asked: self.fleet,
            self.clock,
            owner=f"executor-{self._owner}",
            limits=ClaimLimits(),
            max_age_s=MAX_AGE_S,
            checkpoint=nothing,
            troubled=unexpected,
        )

    @property
    def records(self) -> list[ActionRecord]:
        return [each.record for each in self.store.records.values()]

    async def decide(self, new: str, replicas: int) -> None:
        """An action as the arbiter would give it, had it not looked at what is under way."""
        serving, spec = self.fleet.serving, DOWN if new == "down" else UP
        bound = replicas_up(Comparator.LE, serving - 1)
        if new != "down":
            bound = replicas_up(Comparator.GE, serving + replicas)
            spec = spec.model_copy(update={"replicas": replicas, "stacks": new == "stack"})
        spec = spec.model_copy(update={"effect": spec.effect.model_copy(update={"expect": bound, "goal": None})})
        told = action(
            spec,
            candidate_id=f"candidate-{len(self.records)}",
            at_ms=self.clock.at_ms,
            start_by_ms=self.clock.at_ms + 60_000,
            most_replicas=MOST,
            beside=tuple(each.action.id for each in self.records if each.phase is not Phase.ENDED),
        )
        for n in range(4):
            token, undo = step_token(told.id, n), step_token(told.id, n, undo=True)
            self.fleet.by |= {token: told, undo: told}
            self.fleet.does[undo] = token
        await self.ledger.record(told, at_ms=self.clock.at_ms)

    async def take(self, turn: Turn) -> None:
        self.clock.at_ms += int(turn.passes_s * 1000)
        self.fleet.away, self.fleet.fates = turn.away, list(turn.fates)
        self.fleet.progress(turn.states)
        if turn.new:
            await self.decide(turn.new, turn.replicas)
        if turn.said:
            at_ms = self.clock.at_ms
            await self.ledger.switch(
                Control(workload=WORKLOAD, kind=turn.said, actor="ann", reason="", at_ms=at_ms, at_wall_ms=at_ms)
            )
        measured = evidence(self.clock.at_ms, self.fleet.serving + turn.lies, turn.load)
        writes = iter(range(1, 10_000))

        def crash() -> None:
            if next(writes) == turn.crash_at:
                raise Crash

        self.ledger.before = (lambda: None) if turn.crash_after_write else crash
        self.ledger.after = crash if turn.crash_after_write else (lambda: None)
        try:
            for record in await self.ledger.under_way():
                await self._carrier.carry(record, lambda record: Sight(self.clock.at_ms, measured))
        except Crash:
            self.crashes += 1
            self._start()
        self.together = max(self.together, len(self.store.followed) + len(self.store.targets))

    async def calm(self) -> None:
        """The controller answers, all that runs is done, and time passes every deadline."""
        for _ in range(ENOUGH_TURNS):
            if not self.store.under_way:
                return
            self.fleet.finish()
            await self.take(Turn(60, load=None))


def live(schedule: list[Turn]) -> World:
    async def run() -> World:
        world = World()
        await world.ledger.open(expected=False, at_ms=NOW)
        for turn in schedule:
            await world.take(turn)
        await world.calm()
        return world

    return asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(schedules)
def test_each_order_has_the_target_and_the_newest_fence_and_is_done_once(schedule: list[Turn]) -> None:
    world = live(schedule)
    assert world.fleet.wrongs == []
    assert world.fleet.blind == [], "an order was given again though nobody had said that it never came"
    assert all(job.effects == 1 for job in world.fleet.jobs.values())
    assert {each.phase for each in world.records} <= {Phase.ENDED}
    store = world.store
    assert (store.targets, store.followed) == ({}, {})


@settings(max_examples=150, deadline=None)
@given(schedules)
def test_a_scale_up_is_verified_by_replicas_of_its_own(schedule: list[Turn]) -> None:
    """Whatever is measured: others bring replicas too."""
    world = live(schedule)
    for each in world.records:
        if each.end_state is EndState.VERIFIED and each.action.spec.kind is ActionKind.SCALE_UP:
            jobs = [world.fleet.jobs[each.token(n)] for n in range(len(each.marks))]
            assert [job.state for job in jobs] == [StepState.DONE] * each.action.spec.replicas


def test_the_schedules_stack_crash_and_reach_every_end() -> None:
    """Else the laws above would say little."""
    reached: set[EndState | None] = set()
    together: list[int] = []
    crashes: list[int] = []

    @settings(max_examples=120, deadline=None, database=None, derandomize=True)
    @given(schedules)
    def collect(schedule: list[Turn]) -> None:
        world = live(schedule)
        reached.update(each.end_state for each in world.records)
        together.append(world.together)
        crashes.append(world.crashes)

    collect()
    assert reached == set(EndState)
    assert sum(each > 1 for each in together) > 20
    assert max(together) > 2
    assert sum(crashes) > 30
