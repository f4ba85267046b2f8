"""SLIs of memory: what tiers found and moved, how long requests are, and that nobody reads silence as zero."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from contracts.events import InstanceWindow
from contracts.laws.histogram import Histogram, empty, observe
from streams.core.memory import memory_values
from streams.core.totals import lift, plus
from tests.streams.test_slis import part

EDGES = (100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


def of(**changes: Any) -> dict[str, float | None]:
    """The values of one instance's window."""
    return {name: each.value for name, each in memory_values(lift(part("a", **changes))).items()}


def test_a_server_without_tiers_has_no_hit_ratio_of_any() -> None:
    assert of() == {"restarts": 0.0}


def test_each_tier_has_its_own_hit_ratio() -> None:
    found = of(
        counters={
            "host_chunk_queries": 200.0,
            "host_chunk_hits": 50.0,
            "disk_chunk_queries": 150.0,
            "disk_chunk_hits": 120.0,
            "external_prefix_cache_queries_tokens": 4000.0,
            "external_prefix_cache_hits_tokens": 3000.0,
            "prompt_tokens": 8000.0,
            "host_cached_tokens": 1000.0,
            "disk_cached_tokens": 2000.0,
        }
    )
    assert found == {
        "host_hit_ratio": 0.25,
        "disk_hit_ratio": 0.8,
        "external_hit_ratio": 0.75,
        "host_tokens_ratio": 0.125,
        "disk_tokens_ratio": 0.25,
        "restarts": 0.0,
    }


def test_a_tier_that_nobody_asked_has_an_unknown_hit_ratio() -> None:
    assert of(counters={"disk_chunk_queries": 0.0, "disk_chunk_hits": 0.0})["disk_hit_ratio"] is None


def test_hits_without_queries_are_no_ratio() -> None:
    assert "disk_hit_ratio" not in of(counters={"disk_chunk_hits": 5.0})


def test_failures_are_added_up_over_those_that_are_told() -> None:
    assert of(counters={"promotion_failures": 5.0, "disk_corrupt_blocks": 10.0})["tier_failures_per_s"] == 1.5
    assert "tier_failures_per_s" not in of(counters={"disk_read_bytes": 1e9})
    assert of(counters={"disk_read_bytes": 1e9})["disk_read_bytes_per_s"] == 1e8


def test_requests_cut_short_are_told_of_those_that_finished() -> None:
    assert of(counters={"requests_truncated": 3.0, "requests_finished": 12.0})["truncated_ratio"] == 0.25


def test_an_engine_that_began_anew_is_counted_over_instances() -> None:
    both = plus(lift(part("a", resets=1)), lift(part("b", resets=2)))
    assert memory_values(both)["restarts"].value == 3.0


def test_the_age_of_blocks_that_are_given_up_is_their_mean() -> None:
    found = of(histograms={"kv_idle_before_evict_s": observe(empty((1.0, 10.0, 100.0)), (5.0, 25.0))})
    assert found["kv_idle_before_evict_mean_s"] == 15.0
    assert of(histograms={"kv_idle_before_evict_s": empty((1.0,))})["kv_idle_before_evict_mean_s"] is None


def test_the_mean_length_of_a_request_is_that_of_its_parts() -> None:
    prompt, output = observe(empty(EDGES), (300.0, 700.0)), observe(empty(EDGES), (100.0, 100.0))
    found = of(histograms={"prompt_tokens_per_request": prompt, "generation_tokens_per_request": output})
    assert found["request_tokens_mean"] == 600.0


def test_lengths_want_both_parts_of_a_request() -> None:
    assert "request_tokens_mean" not in of(histograms={"prompt_tokens_per_request": empty(EDGES)})


def test_a_tail_above_the_last_edge_is_not_known_and_the_mean_is() -> None:
    prompt, output = observe(empty((100.0, 2000.0)), [9000.0] * 20), observe(empty((100.0, 2000.0)), [50.0] * 20)
    found = of(histograms={"prompt_tokens_per_request": prompt, "generation_tokens_per_request": output})
    assert (found["request_tokens_p95"], found["request_tokens_p99"]) == (None, None)
    assert found["request_tokens_mean"] == 9050.0


def test_a_tail_inside_a_bucket_is_its_upper_edge() -> None:
    """6 % of 9950 tokens, and the p97.5 lies halfway in the bucket that ends at 10,000."""
    edges = (100.0, 5000.0, 10_000.0)
    prompt, output = observe(empty(edges), [100.0] * 940 + [9950.0] * 60), observe(empty((1.0,)), [1.0] * 1000)
    found = of(histograms={"prompt_tokens_per_request": prompt, "generation_tokens_per_request": output})
    assert (found["request_tokens_p95"], found["request_tokens_p99"]) == (10_001, 10_001)


lengths = st.lists(st.tuples(st.sampled_from(EDGES), st.sampled_from(EDGES)), min_size=1, max_size=200)


@given(lengths)
@effort(deadline=None)
def test_no_more_requests_are_longer_than_their_quantiles_say(told: list[tuple[float, float]]) -> None:
    """However prompt and output go together: lengths here lie on edges, so that nothing is interpolated below them."""
    prompt, output = (exact([each[side] for each in told]) for side in (0, 1))
    window: InstanceWindow = part(
        "a", histograms={"prompt_tokens_per_request": prompt, "generation_tokens_per_request": output}
    )
    found = memory_values(lift(window))
    for name, most in (("request_tokens_p95", 0.05), ("request_tokens_p99", 0.01)):
        limit = found[name].value
        assert limit is not None
        assert sum(sum(each) > limit + 1e-3 for each in told) <= most * len(told) + 1e-9


def exact(values: list[float]) -> Histogram:
    """A histogram so fine that a quantile is told as it is, from below by less than a millionth of a token."""
    edges = sorted({edge - gap for edge, gap in product(EDGES, (1e-7, 0.0))})
    return observe(empty(edges), values)


@pytest.mark.parametrize("name", ["prompt_tokens_per_request", "generation_tokens_per_request"])
def test_lengths_of_requests_are_added_up_over_instances(name: str) -> None:
    both = plus(*(lift(part(x, histograms={name: observe(empty(EDGES), (300.0,))})) for x in ("a", "b")))
    assert both.histograms[name].count == 2
