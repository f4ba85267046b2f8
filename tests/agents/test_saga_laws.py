"""Laws of an action's life, under any schedule of evidence, answers, crashes and faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from contracts.events import ActionSpec, EndState, PlanStep, Sli, StepKind
from contracts.ledger import ActionRecord, ClaimLimits, Mark, Phase
from contracts.ports import StepState
from tests.agents.fakes import Crash, FakeController, Fate, MemoryLedger, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, ROUTE, TUNE, UP, action, evidence
from tests.agents.test_executor_late import unexpected

ENOUGH_TURNS = 60


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Thousands of lives, each with a line a move."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@dataclass(frozen=True)
class Turn:
    """What happens between two looks. None for what is not measured; `crash_at` counts writes of the ledger."""

    passes_s: float
    replicas: float | None
    load: float | None
    age_s: float
    states: tuple[StepState, ...]
    fates: tuple[Fate, ...]
    away: bool = False
    killed: bool = False
    stopped: bool = False
    by_hand: bool = False
    crash_at: int | None = None
    crash_after_write: bool = False


turns = st.builds(
    Turn,
    passes_s=st.sampled_from([0.5, 1, 5, 5, 20, 31, 31, 130, 500]),
    replicas=st.sampled_from([None, 2, 3, 3, 4, 5]),
    load=st.sampled_from([None, 2, 2, 2, 2, 2, 9]),
    age_s=st.sampled_from([0, 0, 0, 0, 0, 20, 40]),
    states=st.lists(
        st.sampled_from([StepState.DONE, StepState.DONE, StepState.RUNNING, StepState.FAILED]), max_size=3
    ).map(tuple),
    fates=st.lists(st.sampled_from([*[Fate.TAKEN] * 5, *Fate]), max_size=2).map(tuple),
    away=st.sampled_from([False] * 9 + [True]),
    killed=st.sampled_from([False] * 9 + [True]),
    stopped=st.sampled_from([False] * 9 + [True]),
    by_hand=st.sampled_from([False] * 9 + [True]),
    crash_at=st.sampled_from([None] * 5 + [1, 2, 3]),
    crash_after_write=st.booleans(),
)
calm = st.builds(
    Turn,
    passes_s=st.sampled_from([20, 31]),
    replicas=st.sampled_from([2, 3, 3, 4]),
    load=st.just(2),
    age_s=st.just(0),
    states=st.just((StepState.DONE,) * 3),
    fates=st.just(()),
)
schedules = st.one_of(
    st.lists(turns, min_size=3, max_size=14),
    st.lists(st.one_of(calm, calm, calm, turns), min_size=6, max_size=14),
)
"""All may go wrong; or most goes well, so that what takes many turns comes to its end."""
scalings = st.builds(
    lambda spec, replicas: spec.model_copy(update={"replicas": replicas}),
    st.sampled_from([UP, DOWN]),
    st.integers(1, 2),
)
specs = st.one_of(scalings, st.sampled_from([TUNE, ROUTE]))


@dataclass
class World:
    """One action with its ledger and controller; executors come and go."""

    spec: ActionSpec
    honours_tokens: bool
    clock: StillClock = field(default_factory=StillClock)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    evidence: dict[int, Sli] = field(default_factory=dict)
    history: list[ActionRecord] = field(default_factory=list)
    crashes: int = 0

    def __post_init__(self) -> None:
        self.controller = FakeController(honours_tokens=self.honours_tokens, permitted=self._permitted)
        self.controller.now_ms = self.clock.now_ms
        self.ledger.after = lambda: self.history.append(self.record)
        self._owner = 0

    @property
    def record(self) -> ActionRecord:
        return next(iter(self.ledger.records.values()))

    def _permitted(self, step: PlanStep, undo: bool) -> bool:
        """Told apart from the code under test: the load is known, of now, and low; the fleet is seen."""
        sli = self.evidence.get(0)
        if sli is None or (self.clock.at_ms - sli.end_ms) / 1000 > MAX_AGE_S:
            return False
        restarted = (job for job in self.controller.jobs.values() if job.step.kind is StepKind.RETUNE)
        if any(job.done_ms is not None and sli.end_ms <= job.done_ms for job in restarted):
            return False  # it says nothing of a replica that has been set anew
        load, replicas = sli.value("load_per_replica"), sli.value("replicas_up")
        return load is not None and load <= 6 and (undo or replicas is not None)

    async def begin(self) -> None:
        await self.ledger.record(action(self.spec), at_ms=NOW)
        self._start()

    def _start(self) -> None:
        self._owner += 1
        self._carrier = Carrier(
            self.ledger,
            lambda asked: self.controller,
            self.clock,
            owner=f"executor-{self._owner}",
            limits=ClaimLimits(),
            max_age_s=MAX_AGE_S,
            checkpoint=nothing,
            troubled=unexpected,
        )

    async def take(self, turn: Turn) -> None:
        self.clock.at_ms += int(turn.passes_s * 1000)
        at_ms = self.clock.at_ms - int(turn.age_s * 1000)
        self.evidence = evidence(at_ms, turn.replicas, turn.load)
        self.controller.away, self.controller.fates = turn.away, list(turn.fates)
        self.controller.manual_changes += turn.by_hand
        self.ledger.killed = turn.killed
        self.controller.progress(turn.states)
        writes = iter(range(1, 1000))

        def at_write() -> None:
            if next(writes) == turn.crash_at:
                raise Crash

        def written() -> None:
            self.history.append(self.record)
            if turn.crash_after_write:
                at_write()

        self.ledger.before = (lambda: None) if turn.crash_after_write else at_write
        self.ledger.after = written
        sight = Sight(self.clock.at_ms, self.evidence, "a test goes before it" if turn.stopped else "")
        try:
            await self._carrier.carry(self.record, lambda record: sight)
        except Crash:
            self.crashes += 1
            self._start()

    async def calm(self) -> None:
        """The controller answers, nothing is measured, and time passes every deadline."""
        for _ in range(ENOUGH_TURNS):
            if self.record.phase is Phase.ENDED:
                return
            self.controller.finish()
            await self.take(Turn(60, None, None, 0, (), ()))


def live(spec: ActionSpec, schedule: list[Turn], honours_tokens: bool) -> World:
    async def run() -> World:
        world = World(spec, honours_tokens)
        await world.begin()
        for turn in schedule:
            await world.take(turn)
        await world.calm()
        return world

    return asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(specs, schedules, st.booleans())
def test_no_schedule_makes_an_action_act_twice_take_capacity_blindly_or_stay_without_an_end(
    spec: ActionSpec, schedule: list[Turn], honours_tokens: bool
) -> None:
    world = live(spec, schedule, honours_tokens)
    end, controller = world.record, world.controller
    assert end.phase is Phase.ENDED
    assert isinstance(end.end_state, EndState)
    assert end.reasons
    assert controller.blind == [], "an order was given again though nobody had said that it never came"
    assert all(job.effects == 1 for job in controller.jobs.values())
    assert controller.unpermitted == []
    if not honours_tokens:
        assert all(count == 1 for count in controller.calls.values())


@settings(max_examples=80, deadline=None)
@given(specs, schedules, st.booleans())
def test_each_version_follows_the_one_before_and_no_order_goes_out_without_its_intent(
    spec: ActionSpec, schedule: list[Turn], honours_tokens: bool
) -> None:
    world = live(spec, schedule, honours_tokens)
    versions = [record.version for record in world.history]
    assert versions == list(range(1, len(versions) + 1))
    intended = {
        record.token(number, undo=mark is Mark.UNDO_INTENDED)
        for record in world.history
        for number, mark in enumerate(record.marks)
        if mark in (Mark.INTENDED, Mark.UNDO_INTENDED)
    }
    assert set(world.controller.calls) <= intended


@settings(max_examples=80, deadline=None)
@given(specs, schedules)
def test_an_end_tells_the_truth_about_what_is_left(spec: ActionSpec, schedule: list[Turn]) -> None:
    world = live(spec, schedule, True)
    end, jobs = world.record, world.controller.jobs
    steps = range(len(end.marks))
    left = [n for n in steps if end.token(n) in jobs and jobs[end.token(n)].state is not StepState.FAILED]
    undone = [n for n in left if end.token(n, undo=True) in jobs]
    if end.end_state is EndState.REFUSED:
        assert jobs == {}
    if end.end_state in (EndState.UNDONE, EndState.FAILED):
        assert undone == left
    if end.end_state is EndState.VERIFIED:
        assert end.expect_met is True
        assert all(mark in (Mark.APPLIED, Mark.DONE) for mark in end.marks)


@pytest.mark.parametrize("kinds", [scalings, st.just(TUNE), st.just(ROUTE)], ids=["scaling", "tune", "route"])
def test_the_schedules_reach_every_end_and_crash_on_the_way(kinds: st.SearchStrategy[ActionSpec]) -> None:
    """Else the laws above would say little."""
    reached: set[EndState | None] = set()
    crashes = 0

    @settings(max_examples=250, deadline=None, database=None, derandomize=True)
    @given(kinds, schedules)
    def collect(spec: ActionSpec, schedule: list[Turn]) -> None:
        nonlocal crashes
        world = live(spec, schedule, True)
        reached.add(world.record.end_state)
        crashes += world.crashes

    collect()
    assert reached == set(EndState)
    assert crashes > 50
