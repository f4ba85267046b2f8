"""Every name of every vLLM release is read or ignored for a reason, and never two names for one metric."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from connectors.vllm.core.mapping import MetricMap, family_stem, load_map
from connectors.vllm.core.page import PageReader
from connectors.vllm.core.snapshot import Translator
from contracts.catalog.metrics import METRICS, Kind
from contracts.errors import ConfigError

FIXTURES = Path(__file__).parent / "fixtures"
with (FIXTURES / "metric_names_by_version.tsv").open() as file:
    _HEAD, *_ROWS = csv.reader(file, delimiter="\t")
RELEASES = _HEAD[3:]
NOT_OF_VLLM = ("lmcache:", "vllm:kv_offload_optiinfra_disk_")
"""Families that others put on the page: LMCache, and our own disk tier."""
NAMES = {release: {row[0] for row in _ROWS if row[3 + i]} for i, release in enumerate(RELEASES)}
_PAGES = [(FIXTURES / f"vllm_0.32{kind}.txt").read_text() for kind in ("", "_tiering")]
LOOKED_AT = NAMES | {"0.32.0": {name for page in _PAGES for name in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)}}
"""With the pages of two servers of a release that is not in the table."""


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
    assert {name for name in metric_map.ignored if not name.startswith(NOT_OF_VLLM)} <= stems
    assert all(len(reason) > 20 for reason in metric_map.ignored.values())


def test_every_name_of_our_own_disk_tier_is_mapped_or_ignored(metric_map: MetricMap) -> None:
    source = (Path(__file__).parents[3] / "kvtier" / "adapter" / "metrics.py").read_text()
    counters, gauges = (
        re.findall(r'"(\w+)": "', source.partition(f"{kind} = {{")[2].partition("}")[0])
        for kind in ("COUNTERS", "GAUGES")
    )
    names = [f"vllm:kv_offload_optiinfra_disk_{name}" for name in (*counters, *gauges)]
    assert len(names) >= 9
    assert [name for name in names if not metric_map.knows(name)] == []


def test_releases_given_in_the_mapping_are_those_of_the_table(metric_map: MetricMap) -> None:
    stems = {r: {family_stem(n) for n in names} for r, names in LOOKED_AT.items()}
    in_order = sorted(stems, key=lambda release: [int(part) for part in release.split(".")])
    for entry in metric_map.entries:
        for upstream in (each for each in entry.upstream if not each.name.startswith(NOT_OF_VLLM)):
            has = [r for r in in_order if family_stem(upstream.name) in stems[r]]
            until = None if has[-1] == RELEASES[-1] else has[-1]
            assert (upstream.name, upstream.since, upstream.until) == (upstream.name, has[0], until)


def test_counters_and_nothing_else_end_in_total(metric_map: MetricMap) -> None:
    for entry in metric_map.entries:
        for upstream in entry.upstream:
            assert upstream.name.endswith("_total") == (entry.metric.kind is Kind.COUNTER), upstream.name


def value_of(name: str, kind: Kind) -> float:
    """A value that tells which name was read: no two names of the table share one, and all fit any metric."""
    rank = sorted(family_stem(row[0]) for row in _ROWS).index(family_stem(name)) + 1
    return rank if kind is Kind.HISTOGRAM else rank / 1024


def read_release(metric_map: MetricMap, release: str) -> dict[str, float]:
    """What the translator makes of a page with every mapped name of a release; of a histogram its count."""
    stems = {family_stem(name) for name in NAMES[release]}
    rows: dict[str, None] = {}
    for entry in metric_map.entries:
        for upstream in entry.upstream:
            if family_stem(upstream.name) not in stems:
                continue
            value = value_of(upstream.name, entry.metric.kind)
            labels = ",".join(f'{k}="{v}"' for k, v in upstream.where)
            if entry.metric.kind is Kind.HISTOGRAM:
                rows[f'{upstream.name}_bucket{{le="+Inf"}} {value}'] = None
                rows[f"{upstream.name}_sum 1"] = rows[f"{upstream.name}_count {value}"] = None
            else:
                rows[f"{upstream.name}{{{labels}}} {value}"] = None
    page = PageReader(metric_map.wanted, prefix=metric_map.prefix).read("".join(f"{row}\n" for row in rows).encode())
    reading = Translator(metric_map).translate(page)
    assert reading.problems == ()
    engine = reading.engines["0"]
    return {**engine.gauges, **engine.counters, **{name: h.count for name, h in engine.histograms.items()}}


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_has_latency_tokens_and_load(metric_map: MetricMap, release: str) -> None:
    assert set(read_release(metric_map, release)) >= {
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
    assert read_release(metric_map, release)[metric] == value_of(chosen, METRICS[metric].kind)


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
