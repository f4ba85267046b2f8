"""The peers: causal, steady while nothing is measured, and each as its makers describe it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.fluid import Span
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts
from optiinfra.replay.peers import predictors
from optiinfra.replay.peers.hpa import Hpa
from optiinfra.replay.peers.keda import Keda
from optiinfra.replay.peers.kpa import Kpa
from optiinfra.replay.peers.lately import HighestLately, MeanLately
from optiinfra.replay.peers.planner import Planner
from optiinfra.replay.peers.reactive import Reactive
from optiinfra.replay.policy import Course, Policy
from optiinfra.replay.registry import OURS, POLICIES, chosen
from tests.optiinfra.replay import traffic

CAUSAL = [policy for policy in POLICIES if not policy.clairvoyant]
by_name = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
FACTS = FleetFacts(capacity_rps=10.0, service_s=4.0, startup_s=60.0)


def test_only_references_know_the_future() -> None:
    assert {policy.name for policy in POLICIES if policy.clairvoyant} == {"static-peak", "perfect-minute"}


@pytest.mark.parametrize("policy", CAUSAL, ids=lambda policy: policy.name)
def test_another_future_changes_no_decision_before_it(policy: Policy) -> None:
    one = traffic.counts(3600, seed=1)
    changed_s = 1801
    other = np.concatenate([one[:changed_s], traffic.counts(3600, seed=2)[changed_s:] * 3])
    facts = FleetFacts(5.0, 4.0, 60.0, policy.decide_s)
    for knobs in policy.grid:
        answers = []
        for arrived in (one, other):
            recorder = traffic.Recorder(policy.build(Course(facts, arrived), knobs))
            traffic.served(arrived, recorder, facts)
            answers.append([answer for at_s, answer in recorder.answers if at_s <= changed_s])
        assert answers[0] == answers[1]
        assert len(answers[0]) == changed_s // policy.decide_s + 1


@pytest.mark.parametrize("policy", CAUSAL, ids=lambda policy: policy.name)
def test_nobody_takes_from_the_fleet_while_nothing_is_measured_and_only_ours_prepares_for_the_peak(
    policy: Policy,
) -> None:
    race = traffic.race(blind=(Span(5000, 6800),))
    for knobs in policy.grid:
        outcome = race.run(policy, knobs, 60)
        orders = [(at, many) for at, many in outcome.orders if 5000 <= at < 6800]
        assert all(many > 0 for _, many in orders)
        assert len(orders) <= (policy is OURS), "once, when it begins"


@by_name
def test_every_setting_of_the_grid_has_the_main_knob_and_runs(policy: Policy) -> None:
    for knobs in policy.grid:
        assert isinstance(knobs[policy.main], float)
        assert traffic.race(600).run(policy, knobs, 60).billed_s > 0


@by_name
def test_the_same_run_twice_is_the_same(policy: Policy) -> None:
    one, two = (traffic.race().run(policy, policy.grid[0], 60) for _ in range(2))
    assert (one.billed_s, one.attainment_ratio, one.orders) == (two.billed_s, two.attainment_ratio, two.orders)


def test_policies_are_chosen_by_name_once_each() -> None:
    assert chosen("all") == (POLICIES, True)
    named, whole = chosen("kpa, hpa,kpa")
    assert ([policy.name for policy in named], whole) == (["kpa", "hpa"], False)
    assert chosen("rules") == ([], True)
    for wrong in ("best", "hpa,best", "", ","):
        with pytest.raises(ConfigError, match="static-peak"):
            chosen(wrong)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=40), st.integers(1, 60))
def test_the_highest_lately_is_the_highest_of_the_window(puts: list[tuple[int, int]], window_s: int) -> None:
    lately, at_s, known = HighestLately(window_s), 0, []
    for step, value in puts:
        at_s += step
        known.append((at_s, value))
        assert lately.put(at_s, value) == max(v for at, v in known if at > at_s - window_s)


def test_the_mean_lately_forgets_what_is_old() -> None:
    mean = MeanLately(2)
    assert mean.mean is None
    for value in (9.0, 1.0, 2.0):
        mean.put(value)
    assert mean.mean == 1.5


def hpa(target_ratio: float = 0.5, metric: str = "running") -> Hpa:
    return Hpa(FACTS, metric=metric, target_ratio=target_ratio)


@pytest.mark.parametrize(
    ("running", "wanted"), [(200.0, 10), (219.0, 10), (221.0, 12), (181.0, 10), (400.0, 20), (800.0, 20)]
)
def test_hpa_follows_its_ratio_beyond_the_tolerance_and_at_most_doubles(running: float, wanted: int) -> None:
    """Ten replicas; each has 40 in service at capacity, and 20 is the target."""
    assert hpa().decide(traffic.seen(0, [1], running=running, ready=10)) == wanted


def test_hpa_may_always_add_four() -> None:
    assert hpa().decide(traffic.seen(0, [1], running=400.0, ready=1)) == 5


def test_hpa_counts_starting_replicas_as_idle_when_it_scales_up() -> None:
    assert hpa().decide(traffic.seen(0, [1], running=400.0, ready=10, starting=10)) == 20
    assert hpa().decide(traffic.seen(0, [1], running=400.0, ready=10, starting=5)) == 20
    assert hpa().decide(traffic.seen(0, [1], running=210.0, ready=8, starting=7)) == 15


def test_hpa_gives_up_only_what_was_too_much_for_five_minutes() -> None:
    scaler = hpa()
    scaler.decide(traffic.seen(0, [1], running=300.0, ready=10))
    answers = [scaler.decide(traffic.seen(at, [1], running=100.0, ready=15)) for at in range(15, 316, 15)]
    assert answers[:19] == [15] * 19
    assert answers[-1] == 5


def test_hpa_on_rate_does_not_saturate() -> None:
    scaler = hpa(metric="rate")
    assert scaler.decide(traffic.seen(0, [90] * 15, running=0.0, ready=10)) == 18


def test_keda_on_waiting_falls_to_nothing_when_nobody_waits() -> None:
    scaler = Keda(per_replica=2.0, running=False)
    assert scaler.decide(traffic.seen(0, [5], waiting=60.0, running=99.0, ready=20)) == 30
    assert scaler.decide(traffic.seen(300, [5], waiting=0.0, running=99.0, ready=30)) == 0


def test_keda_on_running_and_waiting_shares_both_out() -> None:
    scaler = Keda(per_replica=20.0, running=True)
    assert scaler.decide(traffic.seen(0, [5], waiting=60.0, running=240.0, ready=10, starting=1)) == 15
    assert scaler.decide(traffic.seen(15, [5], waiting=70.0, running=245.0, ready=15)) == 15


def kpa(hold_s: float = 0.0) -> Kpa:
    return Kpa(FleetFacts(10.0, 4.0, 60.0, 2), target_ratio=0.5, hold_s=hold_s)


def test_kpa_follows_the_mean_of_a_minute() -> None:
    scaler = kpa()
    for at in range(0, 60, 2):
        scaler.decide(traffic.seen(at, [1], running=200.0, ready=10))
    for at in range(60, 90, 2):
        wanted = scaler.decide(traffic.seen(at, [1], running=300.0, ready=10))
    assert wanted == 13  # half the minute at 200 and half at 300, twenty to a replica


def test_kpa_panics_at_twice_what_is_ready_and_gives_nothing_up_until_a_minute_is_over() -> None:
    scaler = kpa()
    for at in range(0, 60, 2):
        scaler.decide(traffic.seen(at, [1], running=200.0, ready=10))
    surge = [scaler.decide(traffic.seen(at, [1], running=400.0, waiting=200.0, ready=10)) for at in range(60, 66, 2)]
    assert surge[-1] == 30
    calm = [scaler.decide(traffic.seen(at, [1], running=200.0, ready=30)) for at in range(66, 140, 2)]
    assert calm[:28] == [30] * 28
    assert calm[-1] < 20


def test_kpa_gives_up_at_most_half_and_holds_as_long_as_told() -> None:
    scaler = kpa()
    assert [scaler.decide(traffic.seen(at, [1], running=0.0, ready=20)) for at in (0, 2)] == [10, 10]
    held = kpa(hold_s=120.0)
    held.decide(traffic.seen(0, [1], running=200.0, ready=10))
    answers = [held.decide(traffic.seen(at, [1], running=100.0, ready=10)) for at in range(2, 200, 2)]
    assert answers[58] == 10
    assert answers[-1] == 5


def test_reactive_adds_its_margin_and_what_clears_the_backlog() -> None:
    scaler = Reactive(FACTS, window_s=30, margin_ratio=1.5, hold_s=300, clear_s=30)
    assert scaler.decide(traffic.seen(0, [40] * 15)) == 6
    assert scaler.decide(traffic.seen(15, [40] * 15, waiting=600.0)) == 8
    assert scaler.decide(traffic.seen(300, [40] * 15)) == 8
    assert scaler.decide(traffic.seen(330, [40] * 15)) == 6


def test_reactive_waits_for_a_first_measurement() -> None:
    scaler = Reactive(FACTS, window_s=30, margin_ratio=1.5, hold_s=300, clear_s=30)
    assert scaler.decide(traffic.seen(0, [], ready=3, starting=2)) == 5


def test_the_planner_orders_for_the_forecast_of_the_next_interval() -> None:
    scaler = Planner(FACTS, predictor="constant", load_ratio=0.5)
    assert scaler.decide(traffic.seen(0, [], ready=4)) == 4
    assert scaler.decide(traffic.seen(180, [30] * 180, ready=4)) == 6


@pytest.mark.parametrize(("kind", "tolerance"), [(predictors.Autoregression, 1e-6), (predictors.Kalman, 0.5)])
def test_predictors_with_a_trend_go_on_along_a_line(kind: type[predictors.Predictor], tolerance: float) -> None:
    made = kind()
    forecasts = [made.put(10.0 + 2.0 * n) for n in range(200)]
    assert forecasts[-1] == pytest.approx(10.0 + 2.0 * 200, abs=tolerance)


def test_the_season_is_yesterday_times_how_today_compares() -> None:
    seasonal = predictors.Seasonal(3600)
    day = [float(n + 1) for n in range(24)]
    forecasts = [seasonal.put(value) for value in (*day, *(2 * value for value in day))]
    assert forecasts[24:47] == pytest.approx([2 * value for value in day[1:]])


@pytest.mark.parametrize("name", ["Constant", "Autoregression", "Kalman"])
def test_predictors_live_through_a_gap(name: str) -> None:
    made = getattr(predictors, name)()
    assert made.put(None) == 0.0
    for _ in range(20):
        made.put(7.0)
    assert made.put(None) == pytest.approx(7.0, abs=0.5)
