"""Replay at request level: single requests in the twin's engines, the same scalers, the same bill."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from connectors.twin.capacity import seen_at
from connectors.twin.fluid import DRAIN_S, Outcome, Span
from contracts.errors import ConfigError
from contracts.scaling import LoadSeen, Scaler
from optiinfra.replay import requests
from optiinfra.replay.course import Race
from optiinfra.replay.oracle import Follow
from optiinfra.replay.peers import hpa, reactive, static
from optiinfra.replay.policy import Course, Knobs, Policy
from optiinfra.replay.requests import RequestRace, Twin
from tests.optiinfra.replay import singles

SCORED = (240, 599)
SCORED_S = SCORED[1] - SCORED[0]


def measured(outcome: Outcome, name: str) -> float:
    value = outcome.measures[name]
    assert value is not None
    return value


@cache
def race(*, shared: bool = False, more: float = 1.0) -> RequestRace:
    found = singles.requests(shared=shared, more=more)
    return requests.race(found.load("chat"), found, Twin())


class Plan:
    """Wants so many replicas from so many seconds on, and keeps what it was shown."""

    def __init__(self, *steps: tuple[int, int]) -> None:
        self.steps, self.seen = steps, list[LoadSeen]()

    def decide(self, seen: LoadSeen) -> int:
        self.seen.append(seen)
        return [wanted for at_s, wanted in self.steps if 8 * 3600 + at_s <= seen.now_s][-1]


def following(scaler: Scaler) -> Policy:
    def build(course: Course, knobs: Knobs) -> Scaler:
        return scaler

    return Policy("plan", "", build, ({},))


def test_the_capacity_is_what_one_replica_of_the_twin_bears_of_this_trace() -> None:
    found = race()
    prompt, output = found.trace.prompt_tokens, found.trace.output_tokens
    assert seen_at(found.capacity_rps * 0.9, found.engine, prompt, output).ttft_p95_s < 2.0
    assert seen_at(found.capacity_rps * 1.3, found.engine, prompt, output).ttft_p95_s > 2.0
    assert found.fleet.instances == pytest.approx(found.load.mean_rps / found.capacity_rps)
    assert 0 < found.fleet.service_s < 30


def test_what_comes_in_the_scored_span_teaches_nothing_of_the_capacity() -> None:
    found = singles.requests()
    assert found.prompt_tokens is not None
    longer = replace(found, prompt_tokens=np.where(found.arrival_s >= SCORED[0], 4000, found.prompt_tokens))
    assert requests.race(longer.load("chat"), longer, Twin()).capacity_rps == race().capacity_rps


def test_a_capacity_that_is_given_is_taken() -> None:
    found = singles.requests()
    given = requests.race(found.load("chat"), found, Twin(capacity_rps=1.25))
    assert given.capacity_rps == pytest.approx(1.25)
    assert given.about()["capacity_from"] == "given"


def test_replicas_that_never_change_are_billed_for_the_scored_span() -> None:
    outcome = race().run(following(Plan((0, 4))), {}, 60.0)
    assert race().scored == Span(*SCORED)
    assert outcome.billed_s == 4 * SCORED_S
    assert (outcome.turns, outcome.attainment_ratio) == (0, 1.0)


def test_in_time_are_first_tokens_within_the_objective_of_those_who_came_in_the_scored_span() -> None:
    found = race(more=2.5)
    outcome = found.run(following(Plan((0, 2))), {}, 60.0)
    assert 0 < outcome.attainment_ratio < 0.9
    stricter = replace(found, twin=Twin(ttft_s=0.5))
    assert stricter.run(following(Plan((0, 2))), {}, 60.0).attainment_ratio < outcome.attainment_ratio
    enough = race().run(following(Plan((0, 4))), {}, 60.0)
    assert measured(outcome, "ttft_p95_s") > 2.0 > measured(enough, "ttft_p99_s")


@pytest.mark.parametrize("ttft_s", [0.3, 2.0, 6.0])
def test_in_an_outage_the_same_requests_are_late_as_in_the_whole(ttft_s: float) -> None:
    """The objective is that on first tokens, whatever it is, and not the two seconds of the fluid's queue."""
    found = replace(race(more=2.5), twin=Twin(ttft_s=ttft_s), blind=(Span(*SCORED),))
    outcome = found.run(following(Plan((0, 2))), {}, 60.0)
    assert 0 < outcome.attainment_ratio < 1
    during, after = found.in_outage(outcome)
    assert during == pytest.approx(outcome.attainment_ratio)
    assert after is None
    two = replace(found, blind=(Span(240, 300), Span(300, 420)))
    early = two.in_outage(outcome)[0]
    assert early == pytest.approx(replace(found, blind=(Span(240, 420),)).in_outage(outcome)[0])
    later = replace(found, blind=(Span(240, 420),)).in_outage(outcome)[1]
    came = found.load.per_second
    shares = (came[240:420].sum() * early + came[420:599].sum() * later) / came[240:599].sum()
    assert shares == pytest.approx(outcome.attainment_ratio)


def test_start_up_is_billed_and_so_is_a_drain_of_half_a_minute() -> None:
    outcome = race().run(following(Plan((0, 3), (360, 5), (480, 3))), {}, 60.0)
    assert outcome.orders[-2:] == ((360, 2), (480, -2))
    extra_s = outcome.billed_s - 3 * SCORED_S
    assert extra_s == 2 * (480 - 360 + DRAIN_S)
    assert outcome.turns == 1


def test_a_scaler_is_shown_first_tokens_as_done_and_those_after_the_objective_as_late() -> None:
    plan = Plan((0, 2))
    found = race(more=2.5)
    outcome = found.run(following(plan), {}, 60.0)
    assert plan.seen[0].now_s == 8 * 3600
    done = sum(seen.done for seen in plan.seen)
    late = sum(seen.late for seen in plan.seen)
    assert done == len(found.trace)
    own = len(found.trace) - int(np.searchsorted(found.trace.arrival_s, SCORED[0]))
    assert late == round((1 - outcome.attainment_ratio) * own)


def test_while_nothing_is_measured_a_scaler_is_shown_replicas_only() -> None:
    plan = Plan((0, 3))
    blind = replace(race(), blind=(Span(400, 460),))
    blind.run(following(plan), {}, 60.0)
    hidden = [seen for seen in plan.seen if seen.arrived is None]
    assert [seen.now_s - 8 * 3600 for seen in hidden] == [405, 420, 435, 450]
    assert all(seen.waiting is None and seen.running is None and seen.ready == 3 for seen in hidden)


def test_nobody_sees_a_request_before_it_came() -> None:
    answers = []
    for more in (1.0, 2.5):
        outcome = race(more=more).run(reactive.POLICY, reactive.POLICY.grid[0], 60.0)
        answers.append([order for order in outcome.orders if order[0] <= 300])
    assert answers[0] == answers[1]


def test_prompts_that_begin_alike_find_their_blocks_and_answer_sooner() -> None:
    alike = singles.requests(shared=True)
    apart = replace(alike, blocks=None)
    twin = Twin(capacity_rps=3.0)
    runs = [
        requests.race(each.load("chat"), each, twin).run(static.POLICY, {"peak_ratio": 1.0}, 60.0)
        for each in (alike, apart)
    ]
    assert measured(runs[0], "prefix_hit_ratio") > 0.5
    assert measured(runs[1], "prefix_hit_ratio") == 0
    assert measured(runs[0], "ttft_p50_s") < measured(runs[1], "ttft_p50_s")


def test_goodput_counts_requests_in_time_with_steady_tokens() -> None:
    found = race()
    outcome = found.run(following(Plan((0, 4))), {}, 60.0)
    own = len(found.trace) - int(np.searchsorted(found.trace.arrival_s, SCORED[0]))
    assert outcome.measures["goodput_rps"] == pytest.approx(own / SCORED_S, abs=1e-6)
    choosy = replace(found, twin=Twin(itl_s=0.02))
    assert measured(choosy.run(following(Plan((0, 4))), {}, 60.0), "goodput_rps") < own / SCORED_S


def test_the_queue_is_what_waits_at_the_end_of_each_second() -> None:
    found = race(more=2.5)
    queue = found.run(following(Plan((0, 2))), {}, 60.0).queue
    assert len(queue) == len(found.load.per_second)
    assert queue.min() == 0
    assert queue.max() > 20


def test_the_oracle_is_the_unit_and_its_replicas_are_billed_as_those_of_anybody() -> None:
    found = race(more=1.5)
    plan = found.plan(60.0)
    scaler = Follow(plan.ready, 60.0, begin_s=8 * 3600)
    outcome = found.run(replace(following(scaler), decide_s=60), {}, 60.0)
    assert outcome.billed_s == pytest.approx(plan.billed_s, rel=0.1)
    played = found.oracle_measures(60.0)
    assert played["attainment_played"] == pytest.approx(outcome.attainment_ratio, abs=0.05)
    assert set(played) == {"attainment_played", *outcome.measures}


def test_only_the_main_knob_is_tried_beside_what_the_fluid_fleet_found_cheapest() -> None:
    found = race(more=1.5)
    tried = found.tried(reactive.POLICY, 60.0)
    assert {knobs["margin_ratio"] for knobs in tried.grid} == {k["margin_ratio"] for k in reactive.POLICY.grid}
    rest = {(knobs["window_s"], knobs["hold_s"]) for knobs in tried.grid}
    assert len(rest) == 1
    fluid = Race(found.load, found.fleet)
    runs = [(fluid.run(reactive.POLICY, knobs, 60.0), knobs) for knobs in reactive.POLICY.grid]
    best = min((o.billed_s for o, _ in runs if o.attainment_ratio >= 0.99))
    assert rest & {(k["window_s"], k["hold_s"]) for o, k in runs if o.billed_s == best}
    assert found.tried(static.POLICY, 60.0) == static.POLICY
    assert len(found.tried(hpa.POLICY, 60.0).grid) == 8


def test_a_request_without_tokens_is_given_one_and_counted() -> None:
    found = singles.requests()
    assert found.output_tokens is not None
    output = found.output_tokens.copy()
    output[:5] = 0
    silent = replace(found, output_tokens=output)
    assert requests.race(silent.load("chat"), silent, Twin(capacity_rps=3.0)).about()["given_one_token"] == 5


def test_what_cannot_be_replayed_request_by_request_is_refused() -> None:
    found = singles.requests()
    with pytest.raises(ConfigError, match="Profiles: bloom"):
        requests.race(found.load("chat"), found, Twin(engine="gpt"))
    with pytest.raises(ConfigError, match="no token lengths"):
        requests.race(found.load("chat"), replace(found, prompt_tokens=None), Twin())
    few = singles.requests(rps=0.2)
    with pytest.raises(ConfigError, match="too few to measure"):
        requests.race(few.load("chat"), few, Twin())
    with pytest.raises(ConfigError, match=r"too slow.* even one at a time: first token within 0"):
        requests.race(found.load("chat"), found, Twin(ttft_s=0.01))
