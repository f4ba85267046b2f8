"""When a workload's window is told, what it says, and what silence looks like."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from contracts.catalog.metrics import METRICS, Kind
from contracts.catalog.slis import SLIS
from contracts.events import Alert, GaugeStats, InstanceWindow, Message, Sli, Tick
from contracts.laws.histogram import Histogram
from contracts.objectives import Objectives
from contracts.stage import fold
from streams.core.slis import SliFold, SliSettings, WorkloadState
from tests.streams.recording import START_MS

SETTINGS = SliSettings(objectives={"chat": Objectives(ttft_s=0.5)})
STEP = fold(SliFold(SETTINGS).advance, WorkloadState)


def part(instance: str, window: int = 0, **changes: object) -> InstanceWindow:
    """A healthy 10-s window: 10 requests, 8 of them within 0.5 s."""
    start_ms = START_MS + 10_000 * window
    good = InstanceWindow(
        workload="chat",
        instance_id=instance,
        size_s=10,
        start_ms=start_ms,
        revision=0,
        covered_ms=10_000,
        span_ms=10_000,
        newest_ms=start_ms + 9_500,
        cause_ms=start_ms + 11_500,
        scrapes=5,
        scrapes_failed=0,
        counters={
            "requests_finished": 10.0,
            "requests_failed": 1.0,
            "generation_tokens": 500.0,
            "prefix_cache_hits_tokens": 30.0,
            "prefix_cache_queries_tokens": 120.0,
        },
        histograms={"ttft_s": Histogram(le=(0.25, 0.5, 1.0), counts=(4, 8, 10, 10), sum=4.0)},
        gauges={
            "requests_waiting": GaugeStats(mean=2.0, max=5.0, last=1.0),
            "requests_running": GaugeStats(mean=6.0, max=8.0, last=6.0),
            "kv_cache_usage_ratio": GaugeStats(mean=0.5, max=0.7, last=0.5),
        },
    )
    return good.model_copy(update=changes)


def tick(window: int, after_s: float = 0.0) -> Tick:
    """A tick `after_s` past the end of a 10-s window."""
    return Tick(at_ms=int(START_MS + 10_000 * (window + 1) + after_s * 1000), partition=0)


def run(log: Sequence[Message], state: BaseModel | None = None) -> tuple[BaseModel | None, list[Message]]:
    return STEP(state, list(log))


def told(outputs: Sequence[Message]) -> list[Sli]:
    """The workload's own SLIs."""
    return [m for m in outputs if isinstance(m, Sli) and m.instance_id is None]


@pytest.fixture
def two() -> BaseModel | None:
    """A workload whose two members are known: their first window is behind them."""
    return run([part("a"), part("b")])[0]


def test_an_instance_speaks_at_once_and_the_workload_when_all_members_have(two: BaseModel) -> None:
    state, first = run([part("a", 1)], two)
    assert [m.instance_id for m in first if isinstance(m, Sli)] == ["a"]
    _, second = run([part("b", 1)], state)
    assert [m.instance_id for m in second if isinstance(m, Sli)] == ["b", None]


def test_the_workload_is_the_sum_of_its_instances(two: BaseModel) -> None:
    (sli,) = told(run([part("a", 1), part("b", 1)], two)[1])
    assert sli.value("requests_per_s") == 2.0
    assert sli.value("generation_tokens_per_s") == 100.0
    assert sli.value("requests_waiting") == 4.0
    assert sli.value("requests_waiting_max") == 10.0
    assert sli.value("kv_cache_usage_ratio") == 0.5
    assert sli.value("kv_cache_usage_max_ratio") == 0.7
    assert sli.value("prefix_cache_hit_ratio") == 0.25
    assert sli.value("error_ratio") == 0.1
    assert sli.value("ttft_attainment_ratio") == 0.8
    assert sli.attainment["ttft"].total == 20
    assert sli.value("replicas_up") == 2
    assert sli.value("load_per_replica") == 8.0
    assert sli.value("ttft_p50_s") == pytest.approx(0.25 + 0.25 * 2 / 8)
    assert (sli.value("ttft_mean_s"), sli.values["ttft_mean_s"].samples) == (0.4, 20)
    assert (sli.coverage_ratio, sli.instances, sli.instances_up) == (1.0, 2, 2)
    assert sli.freshness_s == 0.5


def test_the_error_budget_burns_as_fast_as_observations_miss_over_how_many_may(two: BaseModel) -> None:
    (sli,) = told(run([part("a", 1), part("b", 1)], two)[1])
    assert sli.value("ttft_burn_rate") == pytest.approx(0.2 / 0.05)
    lenient = SliFold(SliSettings(default=Objectives(ttft_s=0.5, attainment_target_ratio=0.8)))
    (own,) = fold(lenient.advance, WorkloadState)(None, [part("a")])[1][:1]
    assert isinstance(own, Sli)
    assert own.value("ttft_burn_rate") == pytest.approx(1.0)


def test_only_replicas_that_answer_carry_load(two: BaseModel) -> None:
    silent = {"covered_ms": 0, "scrapes": 0, "scrapes_failed": 5, "counters": {}, "histograms": {}, "gauges": {}}
    state, _ = run([part("a"), part("b"), part("c")])
    (sli,) = told(run([part("a", 1), part("b", 1), part("c", 1, **silent)], state)[1])
    assert (sli.value("replicas_up"), sli.value("load_per_replica")) == (2, 8.0)
    (none,) = told(run([part("a", 1, **silent), part("b", 1, **silent)], two)[1])
    assert (none.value("replicas_up"), none.value("load_per_replica")) == (None, None)


def test_the_names_told_are_those_of_the_catalogue(two: BaseModel) -> None:
    ttft = part("a").histograms["ttft_s"]
    counted = {name: 1.0 for name, each in METRICS.items() if each.kind is Kind.COUNTER}
    more = {
        "counters": counted | part("a").counters,
        "histograms": {name: ttft for name, each in METRICS.items() if each.kind is Kind.HISTOGRAM},
    }
    (sli,) = told(run([part("a", 1, **more), part("b", 1, **more)], two)[1])
    assert sli.values.keys() == {name for name, each in SLIS.items() if each.windows}


def test_rates_are_taken_over_the_span_of_each_instance(two: BaseModel) -> None:
    (sli,) = told(run([part("a", 1), part("b", 1, span_ms=5_000)], two)[1])
    assert sli.value("requests_per_s") == 1.0 + 2.0


def test_a_silent_member_is_waited_for_until_its_grace_is_over(two: BaseModel) -> None:
    state, _ = run([part("a", 1), tick(1, SETTINGS.grace_s - 1)], two)
    assert isinstance(state, WorkloadState)
    assert state.told_ms[10] == START_MS + 10_000
    (sli,) = told(run([tick(1, SETTINGS.grace_s)], state)[1])
    assert (sli.revision, sli.coverage_ratio, sli.instances) == (0, 0.5, 2)


def test_late_evidence_makes_the_next_revision(two: BaseModel) -> None:
    log = [part("a", 1), tick(1, SETTINGS.grace_s), part("b", 1)]
    first, second = told(run(log, two)[1])
    assert (first.revision, second.revision) == (0, 1)
    assert first.id != second.id
    assert second.value("requests_per_s") == 2.0


def test_below_the_floor_values_are_missing_not_zero(two: BaseModel) -> None:
    thin = {"covered_ms": 3_000, "scrapes": 2, "scrapes_failed": 3}
    (sli,) = told(run([part("a", 1, **thin), part("b", 1, **thin)], two)[1])
    assert sli.coverage_ratio == 0.3
    assert sli.value("ttft_p95_s") is None
    assert sli.value("requests_per_s") is None
    assert sli.value("replicas_up") is None
    assert sli.value("ttft_burn_rate") is None
    assert sli.value("up_ratio") == 0.4


def test_no_observations_are_missing_not_zero(two: BaseModel) -> None:
    nothing = {"histograms": {"ttft_s": Histogram(le=(0.5,), counts=(0, 0))}, "counters": {"requests_finished": 0.0}}
    (sli,) = told(run([part("a", 1, **nothing), part("b", 1, **nothing)], two)[1])
    assert sli.value("ttft_p95_s") is None
    assert sli.value("ttft_attainment_ratio") is None
    assert sli.value("ttft_burn_rate") is None
    assert sli.value("requests_per_s") == 0.0


def test_when_everybody_falls_silent_windows_are_told_empty_and_one_alert_goes_out(two: BaseModel) -> None:
    _, outputs = run([tick(w, SETTINGS.grace_s) for w in range(1, 5)], two)
    empty = told(outputs)
    assert [s.start_ms for s in empty] == [START_MS + 10_000 * w for w in range(1, 5)]
    assert all(s.coverage_ratio == 0 and s.value("ttft_p95_s") is None for s in empty)
    assert [m.name for m in outputs if isinstance(m, Alert)] == ["no_data"]


def test_a_member_that_left_is_no_longer_waited_for(two: BaseModel) -> None:
    away = int(SETTINGS.retire_s // 10) + 3
    state, _ = run([m for w in range(1, away) for m in (part("a", w), tick(w, SETTINGS.grace_s))], two)
    assert isinstance(state, WorkloadState)
    assert set(state.frontier_ms) == {"a"}
    (sli,) = told(run([part("a", away)], state)[1])
    assert (sli.instances, sli.coverage_ratio) == (1, 1.0)


def test_a_workload_of_which_nothing_is_heard_is_forgotten(two: BaseModel) -> None:
    state, _ = run([tick(0, SETTINGS.retire_s + 60), tick(0, SETTINGS.forget_s + 200)], two)
    assert state is None


def test_a_clock_ahead_does_not_tell_windows_before_their_time(two: BaseModel) -> None:
    state, _ = run([tick(0, 1.0)], two)
    state, early = run([part("a", 12), part("b", 12)], state)
    assert told(early) == []
    first, second = told(run([part("a", 1, revision=1), part("b", 1, revision=1)], state)[1])
    assert (first.start_ms, first.revision) == (START_MS + 10_000, 0)
    assert (second.revision, second.value("requests_per_s")) == (1, 2.0)


def test_a_clock_far_ahead_is_told_once_and_fills_no_state(two: BaseModel) -> None:
    state, _ = run([tick(0, 1.0)], two)
    after, outputs = run([part("a", window) for window in range(400, 900)], state)
    assert isinstance(state, WorkloadState)
    assert isinstance(after, WorkloadState)
    assert after.books == state.books
    assert [m.name for m in outputs if isinstance(m, Alert)] == ["clock_ahead"]
    assert sum(isinstance(m, Sli) and m.instance_id == "a" for m in outputs) == 500


def test_a_member_that_was_here_and_did_not_report_lowers_the_coverage(two: BaseModel) -> None:
    log = [m for w in (1, 2) for m in (part("a", w), tick(w, SETTINGS.grace_s))]
    late = [part("b", 4), part("a", 3), part("a", 4)]
    slis = {s.start_ms: s for s in told(run([*log, *late], two)[1]) if s.revision == 0}
    assert slis[START_MS + 30_000].coverage_ratio == 0.5
    assert slis[START_MS + 30_000].instances == 2


def test_a_newcomer_is_not_missed_in_windows_before_it_came(two: BaseModel) -> None:
    state, _ = run([part("c", 2)], two)
    first = told(run([part("a", 1), part("b", 1)], state)[1])[0]
    assert (first.instances, first.coverage_ratio) == (2, 1.0)


def test_time_before_a_newcomer_came_is_not_missed(two: BaseModel) -> None:
    log = [part("a", 1), part("c", 1, covered_ms=2_000), part("b", 1)]
    sli = told(run(log, two)[1])[-1]
    assert (sli.instances, sli.coverage_ratio) == (3, 1.0)


def test_time_in_which_a_newcomer_is_silent_is_missed_from_its_second_window_on(two: BaseModel) -> None:
    log = [part(name, window, covered_ms=2_000) for window in (1, 2) for name in ("c",)]
    log = [*log, *(part(name, window) for window in (1, 2) for name in ("a", "b"))]
    coverage = {s.start_ms: s.coverage_ratio for s in told(run(log, two)[1])}
    assert coverage[START_MS + 10_000] == 1.0
    assert coverage[START_MS + 20_000] == pytest.approx(22 / 30)


def test_where_all_are_new_the_time_before_they_were_observed_is_missed() -> None:
    sli = told(run([part("a", covered_ms=2_000), part("b", covered_ms=2_000)])[1])[-1]
    assert sli.coverage_ratio == pytest.approx(0.2)


def test_what_is_told_of_other_evidence_has_another_id(two: BaseModel) -> None:
    without = told(run([part("a", 1), tick(1, SETTINGS.grace_s)], two)[1])[0]
    together = told(run([part("a", 1), part("b", 1)], two)[1])[0]
    assert (without.revision, together.revision) == (0, 0)
    assert without.id != together.id


def test_an_objective_between_edges_is_missing_and_told_once_with_the_nearest(two: BaseModel) -> None:
    odd = {"histograms": {"ttft_s": Histogram(le=(0.3, 0.9), counts=(4, 8, 10))}}
    _, outputs = run([part(i, w, **odd) for w in (1, 2, 3) for i in ("a", "b")], two)
    assert all(s.value("ttft_attainment_ratio") is None for s in told(outputs))
    (alert,) = [m for m in outputs if isinstance(m, Alert)]
    assert alert.name == "objective_not_an_edge"
    assert "ttft_s to 0.3" in alert.fix


def test_old_engines_tell_their_hit_ratio_themselves(two: BaseModel) -> None:
    gauge = {"gauges": {"prefix_cache_hit_ratio": GaugeStats(mean=0.4, max=0.5, last=0.4)}, "counters": {}}
    (sli,) = told(run([part("a", 1, **gauge), part("b", 1, **gauge)], two)[1])
    assert sli.value("prefix_cache_hit_ratio") == 0.4


def test_stalled_needs_nobody_to_move(two: BaseModel) -> None:
    stuck = {"stalled": True, "counters": {"generation_tokens": 0.0}}
    (one,) = told(run([part("a", 1, **stuck), part("b", 1)], two)[1])
    assert not one.stalled
    _, outputs = run([part("a", 1, **stuck), part("b", 1, **stuck)], two)
    assert told(outputs)[0].stalled
    assert told(outputs)[0].value("stalled") == 1.0
    assert [m.name for m in outputs if isinstance(m, Alert)] == ["stalled"]


def test_histograms_with_other_edges_meet_on_the_edges_they_share(two: BaseModel) -> None:
    fine = {"histograms": {"ttft_s": Histogram(le=(0.1, 0.5, 2.0), counts=(1, 9, 10, 10))}}
    (sli,) = told(run([part("a", 1), part("b", 1, **fine)], two)[1])
    assert sli.attainment["ttft"].good == 8 + 9


def left(instance: str, window: int, after_ms: int, **changes: object) -> InstanceWindow:
    """What an instance did in a 10-s window until it left, `after_ms` into it."""
    start_ms = START_MS + 10_000 * window
    gone = {"left": True, "cause_ms": start_ms + after_ms, "covered_ms": after_ms, "span_ms": after_ms, "scrapes": 2}
    return part(instance, window, **{**gone, **changes})


def test_a_member_that_left_is_neither_waited_for_nor_missed(two: BaseModel) -> None:
    state, _ = run([left("b", 1, 4_000)], two)
    (sli,) = told(run([part("a", 1)], state)[1])
    assert (sli.instances, sli.instances_up, sli.coverage_ratio) == (1, 1, 1.0)
    (after,) = told(run([part("a", 1), part("a", 2)], state)[1])[1:]
    assert (after.start_ms, after.instances, after.coverage_ratio) == (START_MS + 20_000, 1, 1.0)


def test_what_it_did_before_it_left_counts_and_its_queue_does_not(two: BaseModel) -> None:
    (sli,) = told(run([left("b", 1, 5_000), part("a", 1)], two)[1])
    assert sli.attainment["ttft"].total == 20
    assert sli.value("requests_per_s") == 1.0 + 2.0
    assert (sli.value("replicas_up"), sli.value("requests_waiting"), sli.value("load_per_replica")) == (1, 2.0, 8.0)


def test_time_that_it_was_there_and_not_observed_lowers_the_coverage(two: BaseModel) -> None:
    (sli,) = told(run([left("b", 1, 5_000, covered_ms=2_000), part("a", 1)], two)[1])
    assert sli.coverage_ratio == 12 / 15


def test_its_own_last_window_is_measured_by_the_time_it_was_there(two: BaseModel) -> None:
    own = run([left("b", 1, 4_000)], two)[1][0]
    assert isinstance(own, Sli)
    assert (own.instance_id, own.instances, own.coverage_ratio) == ("b", 0, 1.0)


def test_windows_that_waited_only_for_the_one_that_left_are_told_at_once(two: BaseModel) -> None:
    state, waiting = run([part("a", 1), part("a", 2)], two)
    assert told(waiting) == []
    slis = told(run([left("b", 2, 4_000)], state)[1])
    assert [(s.start_ms - START_MS, s.instances, s.revision) for s in slis] == [(10_000, 1, 0), (20_000, 1, 0)]


def test_when_all_have_left_a_window_is_told_when_its_time_is_over(two: BaseModel) -> None:
    state, outputs = run([left("a", 1, 3_000), left("b", 1, 4_000)], two)
    assert told(outputs) == []
    (sli,) = told(run([tick(1, SETTINGS.grace_s)], state)[1])
    assert (sli.instances, sli.coverage_ratio, sli.attainment["ttft"].total) == (0, 1.0, 20)


def test_one_that_comes_back_is_a_member_again_and_a_repeated_departure_does_not_undo_it(two: BaseModel) -> None:
    once = [left("b", 1, 2_000), part("b", 1, revision=1, covered_ms=5_000), part("b", 2)]
    state, _ = run(once, two)
    assert run(once, state) == (state, [])
    first, second = told(run([part("a", 1), part("a", 2)], state)[1])
    assert (first.instances, first.attainment["ttft"].total) == (2, 30)
    assert (second.instances, second.coverage_ratio) == (2, 1.0)
    waiting, _ = run([part("a", 1), part("a", 2), part("a", 3)], state)
    assert isinstance(waiting, WorkloadState)
    assert waiting.told_ms[10] == START_MS + 30_000, "the third window waits for it"


def test_a_departure_in_a_window_that_was_told_revises_it_and_frees_the_others(two: BaseModel) -> None:
    state, _ = run([part("a", 1), tick(1, SETTINGS.grace_s), part("a", 2)], two)
    slis = told(run([left("b", 1, 4_000)], state)[1])
    assert [(s.start_ms - START_MS, s.revision, s.instances) for s in slis] == [(10_000, 1, 1), (20_000, 0, 1)]
