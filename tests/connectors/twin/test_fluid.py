"""The fluid fleet: against a queue of single requests and replicas one by one, and what a scaler is shown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.fluid import DRAIN_S, LATE_AFTER_S, Fluid, Outcome, Span, replay
from contracts.scaling import FleetFacts, LoadSeen


@dataclass
class Script:
    """A scaler that wants what it was told to, one number after another, and keeps what it was shown."""

    wants: list[int]
    seen: list[LoadSeen] = field(default_factory=list)

    def decide(self, seen: LoadSeen) -> int:
        self.seen.append(seen)
        return self.wants[min(len(self.seen), len(self.wants)) - 1]


def run(
    arrived: list[int],
    wants: list[int],
    *,
    initial: int = 1,
    scored: Span | None = None,
    blind: tuple[Span, ...] = (),
    **facts: float,
) -> tuple[Outcome, list[LoadSeen]]:
    script = Script(wants)
    told = {"capacity_rps": 1.0, "service_s": 3.0, "startup_s": 4.0, "decide_s": 5} | facts
    fluid = Fluid(np.array(arrived), scored or Span(0, len(arrived)), initial, blind=blind)
    return replay(fluid, FleetFacts(**told), script), script.seen  # type: ignore[arg-type]


class OneByOne:
    """The same fleet with every request and every replica an object, second by second, as plainly as can be."""

    def __init__(self, arrived: list[int], wants: list[int], initial: int, facts: FleetFacts, scored: Span) -> None:
        self.shown: list[tuple[float, float, int, int, float, float]] = []
        ready, starting = initial, deque[int]()
        queue, served_at = deque[int](), list[int]()
        billed, late_arrivals, scored_arrivals, done, late = 0, 0, 0, 0, 0
        drains: list[int] = []
        begun: dict[int, list[int]] = {}
        for now, count in enumerate(arrived):
            while starting and starting[0] <= now:
                starting.popleft()
                ready += 1
            if now % facts.decide_s == 0:
                running = sum(1 for at in served_at if at >= now - facts.service_s)
                self.shown.append((len(queue), running, ready, len(starting), done, late))
                done = late = 0
                want = max(facts.least, min(facts.most, wants[min(now // facts.decide_s, len(wants) - 1)]))
                while ready + len(starting) < want:
                    starting.append(now + int(facts.startup_s))
                while ready + len(starting) > want:
                    drains.append(now)
                    if starting:
                        starting.pop()
                    else:
                        ready -= 1
                while starting and starting[0] <= now:
                    starting.popleft()
                    ready += 1
            if scored.begin_s <= now < scored.end_s:
                billed += ready + len(starting) + sum(1 for at in drains if now < at + DRAIN_S)
            queue.extend([now] * count)
            for _ in range(min(len(queue), int(ready * facts.capacity_rps))):
                came = queue.popleft()
                served_at.append(now)
                begun.setdefault(came, []).append(now)
                done += 1
                late += now - came >= LATE_AFTER_S
        for came in range(scored.begin_s, scored.end_s):
            scored_arrivals += arrived[came]
            if came + LATE_AFTER_S <= len(arrived):
                in_time = sum(1 for at in begun.get(came, []) if at - came < LATE_AFTER_S)
                late_arrivals += arrived[came] - in_time
        self.billed = billed
        self.attainment = 1 - late_arrivals / scored_arrivals if scored_arrivals else 1.0


@settings(max_examples=150, deadline=None)
@given(
    arrived=st.lists(st.integers(0, 9), min_size=1, max_size=90),
    wants=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    initial=st.integers(1, 4),
    capacity=st.integers(1, 3),
    startup=st.integers(0, 13),
    decide=st.integers(1, 17),
    service=st.integers(1, 7),
    cut=st.floats(0, 1),
)
def test_the_fluid_is_the_queue_of_single_requests(
    arrived: list[int],
    wants: list[int],
    initial: int,
    capacity: int,
    startup: int,
    decide: int,
    service: int,
    cut: float,
) -> None:
    scored = Span(int(cut * (len(arrived) - 1)), len(arrived))
    outcome, seen = run(
        arrived,
        wants,
        initial=initial,
        scored=scored,
        capacity_rps=capacity,
        startup_s=startup,
        decide_s=decide,
        service_s=service,
    )
    plain = OneByOne(arrived, wants, initial, FleetFacts(capacity, service, startup, decide), scored)
    shown = [(s.waiting, s.running, s.ready, s.starting, s.done, s.late) for s in seen]
    assert shown == plain.shown
    assert outcome.billed_s == plain.billed
    assert outcome.attainment_ratio == pytest.approx(plain.attainment, abs=1e-12)


def test_a_scaler_sees_each_second_once_and_none_that_has_not_ended() -> None:
    arrived = list(range(1, 23))
    _, seen = run(arrived, [9], decide_s=5)
    assert [s.now_s for s in seen] == [0, 5, 10, 15, 20]
    assert [count for s in seen for count in s.arrived or ()] == arrived[:20]


def test_the_second_of_the_day_is_added_to_what_a_scaler_is_told() -> None:
    script = Script([1])
    replay(Fluid(np.ones(10, dtype=np.int64), Span(0, 10), 1, begin_s=3600), FleetFacts(1, 1, 0, 5), script)
    assert [s.now_s for s in script.seen] == [3600, 3605]


def test_a_replica_is_billed_from_its_order_and_serves_after_its_start() -> None:
    outcome, seen = run([2] * 20, [3], initial=1, startup_s=10, decide_s=5)
    assert outcome.billed_s == 3 * 20
    assert [(s.ready, s.starting) for s in seen] == [(1, 0), (1, 2), (3, 0), (3, 0)]


def test_a_replica_taken_away_is_billed_while_it_drains() -> None:
    outcome, _ = run([0] * 100, [3, 1], initial=3, decide_s=50)
    assert outcome.billed_s == 3 * 50 + 50 + 2 * DRAIN_S


def test_only_the_scored_span_is_billed() -> None:
    outcome, _ = run([0] * 100, [3, 1], initial=3, decide_s=50, scored=Span(60, 100))
    assert outcome.billed_s == 40 + 2 * (DRAIN_S - 10)


def test_replicas_that_are_starting_go_first() -> None:
    _, seen = run([0] * 30, [4, 2, 2, 2], initial=1, startup_s=12, decide_s=5)
    assert [(s.ready, s.starting) for s in seen] == [(1, 0), (1, 3), (1, 1), (2, 0), (2, 0), (2, 0)]


def test_of_those_that_start_the_youngest_goes_first() -> None:
    _, seen = run([0] * 25, [2, 3, 2, 2, 2], initial=1, startup_s=12, decide_s=5)
    assert [(s.ready, s.starting) for s in seen] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 0)]


def test_wishes_beyond_the_bounds_are_cut() -> None:
    _, seen = run([0] * 15, [99, 0], least=2, most=5, startup_s=0, decide_s=5)
    assert [s.ready for s in seen] == [1, 5, 2]


def test_nothing_of_the_load_is_shown_during_an_outage_and_the_fleet_still_is() -> None:
    outcome, seen = run([1] * 20, [3, 3, 2, 3], initial=3, decide_s=5, blind=(Span(5, 15),))
    assert [s.arrived is None for s in seen] == [False, True, True, False]
    assert [(s.waiting, s.running) for s in seen[1:3]] == [(None, None)] * 2
    assert [s.ready for s in seen] == [3, 3, 3, 2]
    assert seen[3].arrived == [1] * 5
    assert outcome.removed_blind == 1


def test_turns_count_changes_of_direction_in_the_scored_span() -> None:
    wants = [2, 3, 2, 3, 3, 2, 2, 4]
    assert run([0] * 40, wants, startup_s=0, decide_s=5)[0].turns == 4
    assert run([0] * 40, wants, startup_s=0, decide_s=5, scored=Span(20, 40))[0].turns == 1


def test_no_request_is_attainment_of_one() -> None:
    assert run([0] * 10, [1])[0].attainment_ratio == 1.0
