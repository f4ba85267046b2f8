"""The laws, as laws."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.laws.attainment import Attainment, attainment, check_threshold
from contracts.laws.bounds import Bound, Comparator, held_since, holds, value_of
from contracts.laws.histogram import Histogram, counter_delta, delta, empty, is_reset, merge, observe, restrict
from contracts.laws.ids import cause_id, trace_id_of, traceparent
from contracts.laws.quantile import quantile

LE = (0.1, 0.5, 1.0, 2.5)
VALUES = st.lists(st.floats(0, 5), max_size=40)
EDGES = st.lists(st.sampled_from((0.05, 0.1, 0.25, 0.5, 1.0, 2.5)), unique=True, max_size=5).map(
    lambda e: tuple(sorted(e))
)
HISTOGRAMS = st.builds(lambda le, values: observe(empty(le), values), EDGES, VALUES)


@given(before=VALUES, more=VALUES)
def test_what_was_added_is_what_the_difference_says(before: list[float], more: list[float]) -> None:
    older = observe(empty(LE), before)
    newer = observe(older, more)
    assert not is_reset(older, newer)
    assert delta(older, newer).counts == observe(empty(LE), more).counts


@given(a=HISTOGRAMS, b=HISTOGRAMS, c=HISTOGRAMS)
def test_merging_does_not_care_for_order_or_grouping(a: Histogram, b: Histogram, c: Histogram) -> None:
    def counts(*parts: Histogram | None) -> tuple[object, ...]:
        merged = merge(p for p in parts if p is not None)
        assert merged is not None
        return merged.le, merged.counts

    assert counts(a, b, c) == counts(c, a, b) == counts(merge((a, b)), c) == counts(a, merge((b, c)))


@given(values=VALUES)
def test_leaving_out_edges_loses_no_observation(values: list[float]) -> None:
    fine = observe(empty(LE), values)
    assert restrict(fine, (0.5, 2.5)) == observe(empty((0.5, 2.5)), values)


@given(values=st.lists(st.floats(0, 2.4), min_size=1, max_size=60), q=st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(values: list[float], q: float) -> None:
    hist = observe(empty(LE), values)
    found = quantile(hist, q)
    assert found is not None
    edge = next(edge for edge in LE if edge >= found)
    assert sum(v <= edge for v in values) >= q * len(values) - 1e-9
    assert (
        sum(v < found and v <= max((e for e in LE if e < found), default=-1) for v in values) <= q * len(values) + 1e-9
    )


@given(values=st.lists(st.floats(0, 5), min_size=1), a=st.floats(0, 1), b=st.floats(0, 1))
def test_quantiles_rise(values: list[float], a: float, b: float) -> None:
    hist = observe(empty(LE), values)
    low, high = quantile(hist, min(a, b)), quantile(hist, max(a, b))
    assert low is not None
    assert high is not None
    assert low <= high + 1e-12


def test_no_observations_have_no_quantile_and_no_ratio() -> None:
    assert quantile(empty(LE), 0.5) is None
    assert attainment(empty(LE), 0.5).ratio is None


def test_above_the_last_edge_the_answer_is_a_lower_bound() -> None:
    assert quantile(observe(empty(LE), [100.0] * 10), 0.5) == 2.5


@pytest.mark.parametrize(
    "bad", [((1, 1), (1, 2, 3)), ((1.0,), (2, 1)), ((1.0,), (1,)), ((2.0, 1.0), (0, 0, 0)), ((1.0,), (-1, 0))]
)
def test_a_histogram_that_cannot_be_is_refused(bad: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"edges|counts"):
        Histogram(le=bad[0], counts=bad[1])


@given(values=VALUES, threshold=st.sampled_from(LE))
def test_attainment_is_exact_at_an_edge(values: list[float], threshold: float) -> None:
    met = attainment(observe(empty(LE), values), threshold)
    assert met == Attainment(good=sum(v <= threshold for v in values), total=len(values))


def test_a_threshold_between_edges_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"0\.4 s is not a bucket edge.*Use 0\.5"):
        check_threshold(LE, 0.4, "optiinfra.yaml:3")


@given(older=st.floats(0, 1e9), newer=st.floats(0, 1e9))
def test_a_counter_never_grows_by_less_than_nothing(older: float, newer: float) -> None:
    grown = counter_delta(older, newer)
    assert grown.value >= 0
    assert grown.reset == (newer < older)


def test_ids_separate_their_causes() -> None:
    assert cause_id("a", "bc") != cause_id("ab", "c")
    assert len({cause_id("1"), cause_id(1), cause_id(True)}) == 3, "in whatever order they are asked for"
    assert len(cause_id("a")) == 32


def test_traceparent_round_trip_and_junk() -> None:
    trace = cause_id("x")
    assert trace_id_of(traceparent(trace, "y")) == trace
    for junk in ("", "00-zz-1-01", "00-" + "g" * 32 + "-" + "0" * 16 + "-01", "a-b-c"):
        assert trace_id_of(junk) is None


@dataclass(frozen=True)
class Told:
    """A reading that ended at 0 with one value."""

    freshness_s: float = 0.0
    end_ms: int = 0

    def value(self, name: str) -> float | None:
        return {"requests_waiting": 1.0}.get(name)


@pytest.mark.parametrize(("size_s", "until_s"), [(0, 30), (10, 40), (60, 90), (300, 330)])
def test_a_window_speaks_until_the_next_of_its_size_is_due_and_the_allowed_age_more(size_s: int, until_s: int) -> None:
    bound = Bound(sli="requests_waiting", size_s=size_s, comparator=Comparator.LE, value=2.0)
    answers = [holds({size_s: Told()}, bound, second * 1000, 30.0) for second in range(until_s + 3)]
    assert answers == [True] * (until_s + 1) + [None, None]
    assert value_of({size_s: Told(freshness_s=2.0)}, bound, (until_s - 2) * 1000, 30.0) == 1.0
    assert value_of({size_s: Told(freshness_s=2.0)}, bound, (until_s - 1) * 1000, 30.0) is None


@pytest.mark.parametrize("size_s", [10, 60, 300])
def test_a_guard_that_always_holds_is_never_unknown_between_two_windows(size_s: int) -> None:
    """A hold ends where nothing is known, so that a guard over a long window could not be held at all."""
    bound = Bound(sli="requests_waiting", size_s=size_s, comparator=Comparator.LE, value=2.0)
    since_ms: int | None = None
    for second in range(size_s + 3, 4 * size_s):
        end_ms = (second - 3) // size_s * size_s * 1000  # it is told three seconds after its end
        answer = holds({size_s: Told(end_ms=end_ms)}, bound, second * 1000, 30.0)
        since_ms = held_since(since_ms, answer, second * 1000)
    assert since_ms == (size_s + 3) * 1000
