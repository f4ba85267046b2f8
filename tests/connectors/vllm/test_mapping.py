"""Every name of every vLLM release is read or ignored for a reason, and never two names for one metric."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from connectors.vllm.core.mapping import MetricMap, family_stem, load_map
from contracts.catalog.metrics import METRICS, Kind
from contracts.errors import ConfigError

FIXTURES = Path(__file__).parent / "fixtures"
with (FIXTURES / "metric_names_by_version.tsv").open() as file:
    _HEAD, *_ROWS = csv.reader(file, delimiter="\t")
RELEASES = _HEAD[3:]
NAMES = {release: {row[0] for row in _ROWS if row[3 + i]} for i, release in enumerate(RELEASES)}


def wire_names(metric_map: MetricMap, release: str) -> set[str]:
    """The names on the page of a release, of all that are mapped: the source's, counters with `_total`."""
    stems = {family_stem(name) for name in NAMES[release]}
    return {u.name for e in metric_map.entries for u in e.upstream if family_stem(u.name) in stems}


def test_the_table_holds_163_names_of_15_releases() -> None:
    assert (len(_ROWS), len(RELEASES)) == (163, 15)


@pytest.mark.parametrize("release", RELEASES)
def test_every_name_of_a_release_is_mapped_or_ignored(metric_map: MetricMap, release: str) -> None:
    assert [name for name in sorted(NAMES[release]) if not metric_map.knows(name)] == []


def test_a_name_that_no_release_has_is_not_known(metric_map: MetricMap) -> None:
    assert not metric_map.knows("vllm:time_to_last_token_seconds")


def test_every_canonical_metric_is_mapped_once(metric_map: MetricMap) -> None:
    assert sorted(e.metric.name for e in metric_map.entries) == sorted(METRICS)


def test_every_ignored_name_exists_and_has_a_reason(metric_map: MetricMap) -> None:
    stems = {family_stem(row[0]) for row in _ROWS}
    assert set(metric_map.ignored) <= stems
    assert all(len(reason) > 20 for reason in metric_map.ignored.values())


def test_releases_given_in_the_mapping_are_those_of_the_table(metric_map: MetricMap) -> None:
    for entry in metric_map.entries:
        for upstream in entry.upstream:
            has = [r for r in RELEASES if family_stem(upstream.name) in {family_stem(n) for n in NAMES[r]}]
            until = None if has[-1] == RELEASES[-1] else has[-1]
            assert (upstream.name, upstream.since, upstream.until) == (upstream.name, has[0], until)


def test_counters_and_nothing_else_end_in_total(metric_map: MetricMap) -> None:
    for entry in metric_map.entries:
        for upstream in entry.upstream:
            assert upstream.name.endswith("_total") == (entry.metric.kind is Kind.COUNTER), upstream.name


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_has_latency_tokens_and_load(metric_map: MetricMap, release: str) -> None:
    on_page = wire_names(metric_map, release)
    found = {e.metric.name for e in metric_map.entries if e.choose(on_page)}
    assert found >= {
        "ttft_s", "inter_token_latency_s", "e2e_latency_s", "prompt_tokens", "generation_tokens", "requests_finished",
        "requests_running", "requests_waiting", "kv_cache_usage_ratio", "preemptions",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("release", "metric", "chosen"),
    [
        ("0.8.5", "kv_cache_usage_ratio", "vllm:gpu_cache_usage_perc"),
        ("0.9.2", "kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"),
        ("0.8.5", "prefix_cache_hits_tokens", "vllm:gpu_prefix_cache_hits_total"),
        ("0.11.2", "prefix_cache_hits_tokens", "vllm:prefix_cache_hits_total"),
        ("0.9.2", "inter_token_latency_s", "vllm:time_per_output_token_seconds"),
        ("0.13.0", "inter_token_latency_s", "vllm:inter_token_latency_seconds"),
        ("0.6.6", "queue_time_s", "vllm:request_queue_time_seconds"),
        ("0.6.6", "prompt_tokens", "vllm:prompt_tokens_total"),
        ("0.33.0", "prompt_tokens", "vllm:prompt_tokens_total"),
        ("0.33.0", "requests_rejected", "vllm:admission_rejections_total"),
    ],
)
def test_a_release_with_old_and_new_names_is_read_by_one(
    metric_map: MetricMap, release: str, metric: str, chosen: str
) -> None:
    entry = next(e for e in metric_map.entries if e.metric.name == metric)
    upstream = entry.choose(wire_names(metric_map, release))
    assert upstream is not None
    assert upstream.name == chosen


def test_all_faults_of_a_mapping_are_named_at_once() -> None:
    text = """
schema: 1
prefix: "vllm:"
incarnation: process_start_time_seconds
metrics:
  ttfts_s: {type: histogram, unit: s, doc: d, source: s, upstream: [{name: "vllm:a", since: "1"}]}
  prompt_tokens: {type: gauge, unit: s, doc: d, source: s, upstream: [{name: "vllm:b_total", since: "1"}]}
ignored: [{reason: because, names: ["vllm:b", "vllm:c", "vllm:c"]}]
"""
    with pytest.raises(ConfigError) as caught:
        load_map(text, where="m.yaml")
    for part in (
        "m.yaml", "did you mean 'ttft_s'?", "type gauge, the catalogue says counter", "unit 's'",
        "metrics.ttft_s is missing", "vllm:b is mapped and ignored", "vllm:c is ignored twice",
    ):  # fmt: skip
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["metrics: [", "schema: 2\n", "[]"])
def test_a_mapping_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        load_map(text)
