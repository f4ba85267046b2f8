"""No sequence of orders, repeats, old fences and kills makes two effects of one token or forgets a replica."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.actuation import Actuation
from connectors.twin.fleet import Fleet, Phase, WorkloadSpec
from connectors.twin.journal import Journal
from connectors.twin.load import LoadSpec
from connectors.twin.members import restored_fleet
from connectors.twin.orders import NOTHING, Faults, Told
from contracts.errors import OptiInfraError
from contracts.events import StepKind
from contracts.ports import StepState

START_MS = 1_700_000_000_000
SPECS = (WorkloadSpec("chat", "a/model", 3, LoadSpec(0.5, day_s=300), startup_s=10.0),)
COMMANDS = ("drain", "restore", "remove")


@dataclass(frozen=True)
class Order:
    """An order to do something, or (`undoes`) to take back the order of that number."""

    number: int
    kind: StepKind
    replica: int
    fence: int
    undoes: int | None = None
    seqs: int = 32

    @property
    def told(self) -> Told:
        """What it says of settings and shares."""
        if self.kind is StepKind.RETUNE:
            return Told(settings={"max_num_seqs": float(self.seqs)})
        if self.kind is StepKind.WEIGH:
            return Told(by_replica={f"chat-{self.replica}": 1.0, "chat-0": float(self.seqs)})
        return NOTHING


@dataclass(frozen=True)
class Kill:
    """The process dies; `torn_bytes` of the next line had been written by then."""

    torn_bytes: int


ORDERS = st.builds(
    Order,
    number=st.integers(0, 5),
    kind=st.sampled_from(StepKind),
    replica=st.integers(0, 5),
    fence=st.integers(1, 3),
    undoes=st.none() | st.integers(0, 5),
    seqs=st.sampled_from([16, 32]),
)
FAULTS = st.builds(
    Faults,
    delay_s=st.sampled_from([0.0, 4.0]),
    lie=st.booleans(),
    lose=st.integers(0, 1),
    capacity=st.sampled_from([None, 5]),
)
EVENTS = st.lists(
    ORDERS
    | ORDERS
    | st.floats(0.1, 30)
    | st.builds(Kill, st.integers(0, 60))
    | FAULTS
    | st.tuples(st.sampled_from(COMMANDS), st.integers(0, 5)),
    max_size=25,
)


class CountingFleet(Fleet):
    """Counts what is done to it, over restarts, in a ledger that the twin knows nothing of."""

    deeds: Counter[str]

    def add_replica(self, workload: str, *, doomed: bool = False):  # type: ignore[no-untyped-def]
        self.deeds["add"] += 1
        return super().add_replica(workload, doomed=doomed)

    def drain(self, replica_id: str) -> None:
        super().drain(replica_id)
        self.deeds["drain"] += 1

    def restore(self, replica_id: str) -> None:
        super().restore(replica_id)
        self.deeds["restore"] += 1

    def remove(self, replica_id: str) -> None:
        super().remove(replica_id)
        self.deeds["remove"] += 1

    def retune(self, replica_id: str, settings: Mapping[str, float]) -> None:
        super().retune(replica_id, settings)
        self.deeds["retune"] += 1


def members(fleet: Fleet) -> dict[str, Phase]:
    return {r.replica_id: r.phase for r in fleet.members("chat")}


def restarted(was: Phase, now: Phase) -> bool:
    """A new process holds no requests: one that waited only for that restarts with its settings."""
    return was is Phase.DRAINING and now is Phase.STARTING


class World:
    """A twin that is ordered about and killed."""

    def __init__(self, path: Path) -> None:
        self.path, self.now_ms, self.deeds = path, float(START_MS), Counter[str]()
        self.highest, self.known = Counter[str](), {f"chat-{n}" for n in range(3)}
        self.by_hand, self.kinds, self.gone = Counter[str](), dict[str, StepKind](), set[str]()
        self.twin = self.opened()

    def opened(self) -> Actuation:
        book = Journal(self.path)
        fleet = restored_fleet(SPECS, book, seed=1, start_ms=int(self.now_ms))
        fleet.__class__ = CountingFleet
        fleet.deeds = self.deeds  # type: ignore[attr-defined]
        return Actuation(fleet, book)

    def kill(self, torn_bytes: int) -> None:
        was, effects = members(self.twin.fleet), self.twin.effects()
        seen = {token: self.twin.inspect(token) for token in effects}
        notices = self.twin.notices(0)
        shares = self.twin.observe("chat").shares
        given = {r.replica_id: r.settings for r in self.twin.fleet.members("chat")}
        next_line = b'{"tokens":{"0":{"workload":"chat","kind":"add","subject":""}},"numbers":{"chat":99}}\n'
        with self.path.open("ab") as file:
            file.write(next_line[:torn_bytes])
        self.twin = self.opened()
        now = members(self.twin.fleet)
        # A new process holds no requests: what was draining is drained, and what was retiring may then be gone.
        for name in was.keys() - now.keys():
            assert was[name] is Phase.DRAINING
        assert all(phase is was[name] or restarted(was[name], phase) for name, phase in now.items())
        assert {r.replica_id: r.settings for r in self.twin.fleet.members("chat")}.items() >= {
            name: given_ for name, given_ in given.items() if name in now and now[name] is was[name]
        }.items()
        assert self.twin.observe("chat").shares == shares
        assert self.twin.notices(0) == notices
        assert self.twin.effects() == effects
        for token, report in seen.items():
            if report.state is not StepState.RUNNING:
                assert self.twin.inspect(token) == report, "what has ended stays as it ended"

    def order(self, order: Order) -> None:
        token = f"t{order.number}" if order.undoes is None else f"u{order.number}"
        subject = "" if order.kind in (StepKind.ADD, StepKind.WEIGH) else f"chat-{order.replica}"
        before, state = members(self.twin.fleet), self.twin.inspect(token)
        effects = self.twin.effects().get(token, 0)
        try:
            if order.undoes is None:
                self.twin.apply("chat", order.kind, subject, token, order.fence, order.told)
            else:
                self.twin.undo("chat", order.kind, subject, f"t{order.undoes}", token, order.fence, order.told)
        except OptiInfraError:
            assert members(self.twin.fleet) == before, "a refused order changes nothing"
            assert self.twin.inspect(token) == state
        else:
            assert order.fence >= self.highest[order.kind.part], "an old fence is refused"
            self.kinds.setdefault(token, order.kind)
            if order.undoes is not None:
                self.kinds.setdefault(f"t{order.undoes}", order.kind)
            if state.state is not StepState.UNKNOWN:
                assert members(self.twin.fleet) == before, "a token seen before does nothing again"
                assert self.twin.effects()[token] == effects
        self.highest[order.kind.part] = max(self.highest[order.kind.part], order.fence)

    def command(self, verb: str, replica: int) -> None:
        try:
            getattr(self.twin.fleet, verb)(f"chat-{replica}")
        except OptiInfraError:
            return
        self.by_hand[verb] += 1
        self.twin.by_hand("chat", verb)
        self.twin.progress()

    def happen(self, event: object) -> None:
        if isinstance(event, Order):
            self.order(event)
        elif isinstance(event, Kill):
            self.kill(event.torn_bytes)
        elif isinstance(event, Faults):
            self.twin.faults = event
        elif isinstance(event, float):
            self.now_ms += event * 1000
            self.twin.fleet.advance(self.now_ms)
            self.twin.progress()
        elif isinstance(event, tuple):
            self.command(*event)
        self.check()

    def tear(self, kept_bytes: int) -> None:
        """A kill before the last line was whole: what it tells of has not happened."""
        whole = self.path.read_bytes()
        start = whole.rstrip(b"\n").rfind(b"\n") + 1
        os.truncate(self.path, min(start + kept_bytes, len(whole) - 2))
        self.twin = self.opened()

    def check(self) -> None:
        effects = self.twin.effects()
        assert set(effects.values()) <= {0, 1}
        told = Counter[tuple[bool, StepKind]]()
        for token, count in effects.items():
            told[token.startswith("u"), self.kinds[token]] += count
        done = self.deeds - self.by_hand
        retired = told[True, StepKind.ADD]
        assert done["add"] == told[False, StepKind.ADD]
        anew, back = told[False, StepKind.RETUNE], told[True, StepKind.RETUNE]
        assert 0 <= done["restore"] - told[True, StepKind.DRAIN] <= back
        assert 0 <= done["drain"] - told[False, StepKind.DRAIN] - anew <= retired + back
        assert done["retune"] <= anew + back
        assert 0 <= done["remove"] - told[False, StepKind.REMOVE] <= retired
        there = set(members(self.twin.fleet))
        assert not there & self.gone, "no name is used twice"
        self.gone |= self.known - there
        self.known |= there


@given(events=EVENTS)
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_orders_repeats_and_kills_makes_two_effects_or_forgets_a_replica(
    tmp_path_factory: pytest.TempPathFactory, events: list[object]
) -> None:
    world = World(tmp_path_factory.mktemp("twin") / "journal.jsonl")
    for event in events:
        world.happen(event)
    world.kill(0)
    world.check()


@given(events=EVENTS, last=ORDERS, kept_bytes=st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_an_order_whose_line_was_torn_never_happened_and_its_repeat_is_the_first(
    tmp_path_factory: pytest.TempPathFactory, events: list[object], last: Order, kept_bytes: int
) -> None:
    world = World(tmp_path_factory.mktemp("twin") / "journal.jsonl")
    for event in events:
        world.happen(event)
    was, effects, deeds = members(world.twin.fleet), world.twin.effects(), world.deeds.copy()
    last = replace(last, number=9, fence=9)
    world.order(last)
    world.tear(kept_bytes)
    done = world.deeds - deeds  # by the life that was torn off, and by the new one for what came before it
    now = members(world.twin.fleet)
    assert world.twin.effects() == effects
    assert all(was[name] is phase or restarted(was[name], phase) for name, phase in now.items())
    assert all(was[name] is Phase.DRAINING for name in was.keys() - now.keys())
    again = sum(restarted(was[name], phase) for name, phase in now.items())
    world.deeds = deeds + Counter(remove=len(was.keys() - now.keys()), retune=again)
    assert done["add"] <= 1
    world.twin = world.opened()
    world.order(last)
    world.check()
