"""The predictive scaler: causal, safe while cold or blind, quick up, unhurried down, no dearer than its target asks."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.performance.core.scaler import PredictiveScaler
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts, LoadSeen
from tests.agents.performance.fleet_help import Run, facts, poisson, restless, steady


def test_what_comes_later_changes_no_earlier_answer() -> None:
    load = restless(3)
    cut = 2 * 3600
    other = load[:cut] + [5 * each for each in load[cut:]]
    looks = (cut - 15) // 15
    assert Run(PredictiveScaler(facts()), load).sizes[:looks] == Run(PredictiveScaler(facts()), other).sizes[:looks]


def test_the_load_that_came_does_change_the_answer() -> None:
    load = restless(2)
    more = load[:3600] + [2 * each for each in load[3600:]]
    assert Run(PredictiveScaler(facts()), load).sizes != Run(PredictiveScaler(facts()), more).sizes


def test_the_same_load_gets_the_same_answers() -> None:
    load = restless(2)
    first, again = PredictiveScaler(facts()), PredictiveScaler(facts())
    assert Run(first, load).sizes == Run(again, load).sizes
    assert first.last == again.last


def test_the_first_look_covers_the_load_it_sees() -> None:
    assert PredictiveScaler(facts()).decide(LoadSeen(15, [80] * 15, 0.0, 0.0, 1, 0)) >= 8


def test_a_fleet_that_is_met_for_the_first_time_unmeasured_stays_as_it_is() -> None:
    assert PredictiveScaler(facts()).decide(LoadSeen(15, None, None, None, 7, 2)) == 9


def test_an_idle_fleet_comes_down_to_the_least() -> None:
    assert Run(PredictiveScaler(facts(least=2)), [0] * 5400, begin=10).sizes[-1] == 2


@pytest.mark.parametrize("hours_in", [0.01, 1.0])
def test_half_an_hour_without_measurements_lowers_nothing(hours_in: float) -> None:
    begin = int(hours_in * 3600)
    falling = np.concatenate([steady(90, hours_in), steady(20, 1)])
    run = Run(PredictiveScaler(facts()), poisson(falling), begin=12, blind=lambda at_s: begin <= at_s < begin + 1800)
    dark = run.sizes[(begin - 15) // 15 : (begin + 1800 - 15) // 15]
    assert all(later >= earlier for earlier, later in pairwise(dark))
    assert dark[0] >= run.sizes[max((begin - 15) // 15 - 1, 0)]
    assert run.sizes[-1] < dark[-1], "it shrinks once it sees again"


def test_a_replica_lost_in_the_dark_is_asked_for_again() -> None:
    scaler = PredictiveScaler(facts())
    before = scaler.decide(LoadSeen(15, [80] * 15, 0.0, 0.0, 12, 0))
    assert scaler.decide(LoadSeen(30, None, None, None, before - 3, 0)) == before
    assert scaler.last.blind


@pytest.mark.parametrize(("target", "turns_a_day"), [(0.99, 36.0), (0.9, 300.0)])
def test_who_cannot_see_stands_ready_for_the_peak_that_was_guessed_last(target: float, turns_a_day: float) -> None:
    scaler = PredictiveScaler(facts(), target=target, turns_a_day=turns_a_day)
    for slot in range(1, 232):
        arrived = [80 + slot + 100 * (slot % 12 == 4)] * 15
        scaler.decide(LoadSeen(15 * slot, arrived, 0.0, 0.0, scaler.last.replicas, 0))
    seen = scaler.last
    short = seen.replicas - 2
    dark = scaler.decide(LoadSeen(15 * 232, None, None, None, short, 0))
    assert (seen.reluctance < 0) == (turns_a_day > 36)
    assert dark >= max(seen.replicas, seen.held_replicas, seen.peak_rps / facts().capacity_rps)
    assert (scaler.last.peak_rps, scaler.last.blind) == (seen.peak_rps, True)
    assert "is prepared for" in scaler.last.explain()


def test_missing_queue_length_is_no_reason_to_stop() -> None:
    assert PredictiveScaler(facts()).decide(LoadSeen(15, [80] * 15, None, None, 1, 0)) >= 8


def test_a_step_is_answered_at_the_next_look_and_served_within_minutes() -> None:
    load = poisson(np.concatenate([steady(40, 1), steady(120, 0.5)]))
    run = Run(PredictiveScaler(facts()), load, begin=6, scored_from_s=3600 + 600)
    assert run.sizes[3600 // 15 + 1] >= 12
    assert run.attained > 0.99


def test_a_spike_that_is_over_is_let_go() -> None:
    load = poisson(np.concatenate([steady(40, 2), steady(160, 0.05), steady(40, 1)]))
    run = Run(PredictiveScaler(facts()), load, begin=6)
    assert max(run.sizes) >= 16
    assert run.sizes[-1] <= 10


def test_a_queue_is_worked_off_by_more_than_the_rate_needs() -> None:
    calm, queued = PredictiveScaler(facts()), PredictiveScaler(facts())
    assert queued.decide(LoadSeen(15, [80] * 15, 6000.0, 0.0, 8, 0)) > calm.decide(
        LoadSeen(15, [80] * 15, 0.0, 0.0, 8, 0)
    )


def test_steady_load_makes_no_thrash() -> None:
    run = Run(PredictiveScaler(facts()), poisson(steady(100, 6)), begin=14)
    assert run.turns <= 12
    assert run.attained > 0.99


def test_a_higher_target_never_attains_less_nor_costs_less() -> None:
    load = restless(30)
    runs = [Run(PredictiveScaler(facts(), target=each), load, scored_from_s=12 * 3600) for each in (0.95, 0.99, 0.999)]
    assert [run.attained for run in runs] == sorted(run.attained for run in runs)
    assert [run.billed_s for run in runs] == sorted(run.billed_s for run in runs)


def test_after_half_a_day_misses_come_near_the_budget_and_the_budget_is_used() -> None:
    missed = 1 - Run(PredictiveScaler(facts(), target=0.98), restless(30), scored_from_s=12 * 3600).attained
    assert 0.25 * 0.02 < missed < 1.25 * 0.02


def test_misses_that_were_real_make_it_more_careful() -> None:
    seen = [LoadSeen(15 * look, [60] * 15, 0.0, 0.0, 9, 0, 900.0, 0.0) for look in range(1, 300)]
    missed = [LoadSeen(each.now_s, each.arrived, 0.0, 0.0, 9, 0, 900.0, 300.0) for each in seen]
    lucky, unlucky = PredictiveScaler(facts()), PredictiveScaler(facts())
    for a, b in zip(seen, missed, strict=True):
        lucky.decide(a)
        unlucky.decide(b)
    assert unlucky.last.burn > 1 > lucky.last.burn
    assert unlucky.last.caution > lucky.last.caution


def test_every_choice_is_told_by_its_numbers() -> None:
    scaler = PredictiveScaler(facts())
    Run(scaler, restless(1))
    last = scaler.last
    assert last.quantile_rps == pytest.approx(last.expected_rps * np.exp(last.caution * last.spread_ratio))
    assert f"{last.replicas} replicas" in last.explain()
    scaler.decide(LoadSeen(3600, None, None, None, 4, 0))
    assert "nothing is measured" in scaler.last.explain()


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(0, 60), st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_no_load_drives_it_out_of_its_bounds(rates: list[int], ready: int, queue: int) -> None:
    scaler = PredictiveScaler(facts(least=2, most=30))
    for look, rate in enumerate(rates, 1):
        assert 2 <= scaler.decide(LoadSeen(15 * look, [rate] * 15, float(queue), 0.0, ready, 0)) <= 30


@pytest.mark.parametrize("target", [0.0, 0.49, 1.0, 1.5])
def test_a_target_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ConfigError, match="Name a share"):
        PredictiveScaler(facts(), target=target)


@pytest.mark.parametrize("turns_a_day", [0.0, -1.0, float("nan")])
def test_turns_that_are_no_number_above_0_are_refused(turns_a_day: float) -> None:
    with pytest.raises(ConfigError, match="turns_a_day is"):
        PredictiveScaler(facts(), turns_a_day=turns_a_day)


def test_a_burst_of_a_quiet_cold_load_is_held_for_a_quarter_of_an_hour() -> None:
    load = poisson(np.tile(np.concatenate([steady(5, 0.1), steady(80, 0.02)]), 5))
    run = Run(PredictiveScaler(facts()), load, begin=1)
    first = (6 * 60 + 72) // 15
    assert min(run.sizes[first + 12 : first + 55]) >= 8


def test_a_spike_of_a_calm_cold_load_is_let_go_within_minutes() -> None:
    load = poisson(np.concatenate([steady(60, 0.4), steady(90, 0.02), steady(60, 0.4)]))
    run = Run(PredictiveScaler(facts()), load, begin=8)
    over = (1440 + 72) // 15
    assert max(run.sizes[over : over + 16]) > run.sizes[over + 32]


def test_a_higher_target_holds_more_while_cold() -> None:
    load = poisson(np.tile(np.concatenate([steady(5, 0.1), steady(80, 0.02)]), 5))
    low, high = (Run(PredictiveScaler(facts(), target=each), load, begin=1) for each in (0.9, 0.999))
    assert min(high.sizes[60:180]) > min(low.sizes[60:180])
    assert high.attained > low.attained


def test_facts_that_describe_no_fleet_are_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        PredictiveScaler(facts(startup_s=-1.0))


def test_a_capacity_that_turns_out_higher_orders_nothing() -> None:
    known = FleetFacts(2.0, 8.0, 180.0)
    scaler = PredictiveScaler(known)
    have = 20
    for slot in range(1, 480):
        scaler.decide(LoadSeen(15 * slot, [30] * 15, 0.0, 0.0, have, 0))
    scaler.relearn(replace(known, capacity_rps=4.0))
    wanted = [scaler.decide(LoadSeen(15 * slot, [30] * 15, 0.0, 0.0, have, 0)) for slot in range(480, 500)]
    assert max(wanted) <= have
    assert scaler.last.queue_then == 0
