"""What a page says in canonical terms: checked by hand on two live servers, and refused by name where it cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.vllm.core.mapping import MetricMap
from connectors.vllm.core.page import PageReader
from connectors.vllm.core.snapshot import MAX_PROBLEMS, Reading, Translator
from contracts.catalog.metrics import METRICS, Kind
from contracts.errors import ConfigError
from contracts.events import EngineSample

Read = Callable[[bytes], Reading]


@pytest.mark.parametrize("name", ["vllm_0.32", "vllm_0.32_tiering"])
def test_a_live_page_gives_the_golden_values(
    fixtures: Path, read: Read, name: str, request: pytest.FixtureRequest
) -> None:
    reading = read((fixtures / f"{name}.txt").read_bytes())
    got = {
        "incarnation_ms": reading.incarnation_ms,
        "problems": list(reading.problems),
        "engines": {k: v.model_dump(mode="json") for k, v in reading.engines.items()},
    }
    golden = fixtures / f"{name}.golden.json"
    if request.config.getoption("--update-golden"):
        golden.write_text(json.dumps(got, indent=1) + "\n")
    assert got == json.loads(golden.read_text())


def test_the_numbers_of_the_live_server(read: Read, page_032: bytes) -> None:
    reading = read(page_032)
    engine = reading.engines["0"]
    assert list(reading.engines) == ["0"]
    assert engine.model_name == "tiny"
    assert engine.counters["prompt_tokens"] == 11879
    assert engine.counters["generation_tokens"] == 592
    assert engine.counters["requests_finished"] == 26
    assert engine.counters["requests_failed"] == 0
    assert engine.counters["requests_rejected"] == 0
    assert engine.counters["prefix_cache_queries_tokens"] == 11879
    assert engine.counters["prefix_cache_hits_tokens"] == 8832
    assert engine.gauges == {"requests_running": 0, "requests_waiting": 0, "kv_cache_usage_ratio": 0, "engine_awake": 1}
    ttft = engine.histograms["ttft_s"]
    assert (ttft.count, ttft.sum) == (26, 3.2699544429779053)
    assert (ttft.le[3], ttft.counts[3], ttft.le[-1], len(ttft.le)) == (0.02, 1, 2560.0, 22)
    assert engine.histograms["inter_token_latency_s"].counts[:4] == (77, 549, 557, 565)
    assert engine.histograms["generation_tokens_per_request"].sum == 592
    assert reading.incarnation_ms == 1795207470460
    assert reading.problems == ()


def test_the_numbers_of_the_live_server_with_a_disk_tier(read: Read, page_tiering: bytes) -> None:
    engine = read(page_tiering).engines["0"]
    assert engine.counters["prompt_tokens"] == 44008
    assert engine.counters["generation_tokens"] == 480
    assert engine.counters["requests_finished"] == 40
    assert engine.counters["external_prefix_cache_queries_tokens"] == 44008
    assert engine.counters["external_prefix_cache_hits_tokens"] == 30720
    assert engine.counters["prefix_cache_hits_tokens"] == 0
    assert engine.histograms["ttft_s"].counts[3:10] == (6, 18, 19, 20, 20, 33, 39)


def test_the_tiers_of_the_live_server_are_told_apart(read: Read, page_tiering: bytes) -> None:
    counters = read(page_tiering).engines["0"].counters
    chunks = {name: value for name, value in counters.items() if "_chunk_" in name}
    # CPU memory was asked 250 times and had nothing; its counter of hits is declared, and has no sample yet.
    assert chunks == {
        "host_chunk_queries": 250,
        "host_chunk_hits": 0,
        "disk_chunk_queries": 250,
        "disk_chunk_hits": 240,
    }
    assert (counters["host_cached_tokens"], counters["disk_cached_tokens"]) == (0, 30720)
    assert (counters["disk_read_bytes"], counters["disk_write_bytes"]) == (31457280, 10485760)
    assert (counters["host_read_bytes"], counters["host_write_bytes"]) == (31457280, 10485760)
    failures = ("promotion_failures", "promotion_allocation_failures", "demotion_failures", "demotions_dropped")
    assert [counters[name] for name in failures] == [0, 0, 0, 0]
    assert counters["kv_allocation_failures"] == 0


def test_a_server_without_tiers_tells_nothing_of_them(read: Read, page_032: bytes) -> None:
    counters = read(page_032).engines["0"].counters
    assert [name for name in counters if name.startswith(("host_chunk", "disk_chunk", "promotion", "demotion"))] == []
    assert "kv_allocation_failures" not in counters


QUERIES = 'vllm:kv_offload_tiering_chunk_queries_total{engine="0",tier="0:primary"} 9'
HITS = "vllm:kv_offload_tiering_chunk_hits_total"


@pytest.mark.parametrize(
    ("rows", "hits"),
    [
        ([QUERIES], None),
        ([f"# TYPE {HITS} counter"], None),
        ([f"# TYPE {HITS} counter", QUERIES], 0),
        ([f"# TYPE {HITS} counter", QUERIES, f'{HITS}{{engine="0",tier="0:primary"}} 4'], 4),
        ([f"# TYPE {HITS} counter", QUERIES, f'{HITS}{{engine="0",tier="1:fs"}} 4'], 0),
    ],
    ids=["not declared", "never asked", "asked and no hit", "a hit", "a hit of another tier"],
)
def test_no_hit_is_zero_only_where_the_page_declares_hits_and_counts_queries(
    read: Read, rows: list[str], hits: float | None
) -> None:
    counters = read(lines('vllm:num_requests_running{engine="0"} 3', *rows)).engines["0"].counters
    assert counters.get("host_chunk_hits") == hits


def test_tiers_below_memory_are_added_up(read: Read) -> None:
    rows = [f'vllm:kv_offload_tiering_chunk_queries_total{{engine="0",tier="{tier}"}} 5' for tier in ("1:fs", "2:obj")]
    counters = read(lines(QUERIES, *rows)).engines["0"].counters
    assert (counters["host_chunk_queries"], counters["disk_chunk_queries"]) == (9, 10)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (['vllm:external_prefix_cache_hits_total{engine="0"} 3', 'lmcache:num_lookup_hits_total{model_name="a"} 8'], 3),
        (['lmcache:num_lookup_hits_total{model_name="a",worker_id="0"} 8'], 8),
    ],
    ids=["both", "LMCache alone"],
)
def test_lmcache_is_read_where_the_engine_itself_says_nothing(read: Read, rows: list[str], found: float) -> None:
    reading = read(lines('vllm:num_requests_running{engine="0",model_name="a"} 3', *rows))
    assert reading.engines["0"].counters["external_prefix_cache_hits_tokens"] == found


def test_our_own_disk_tier_tells_what_it_dropped_and_what_it_gave_up(read: Read) -> None:
    rows = [
        f'vllm:kv_offload_optiinfra_disk_{name}_blocks_total{{engine="0",tier="1:OptiInfraDiskTier"}} {value}'
        for name, value in (("corrupt", 2), ("evicted", 7))
    ]
    counters = read(lines(RUNNING, *rows)).engines["0"].counters
    assert (counters["disk_corrupt_blocks"], counters["disk_evicted_blocks"]) == (2, 7)


def test_a_reading_is_valid_under_the_contract(read: Read, page_032: bytes) -> None:
    engine = read(page_032).engines["0"]
    assert EngineSample.model_validate_json(engine.model_dump_json()) == engine


def lines(*samples: str) -> bytes:
    return ("\n".join(samples) + "\n").encode()


def histogram(family: str, *buckets: tuple[str, str], labels: str = 'engine="0"', total: str = "1.5") -> list[str]:
    rows = [f'{family}_bucket{{{labels},le="{le}"}} {count}' for le, count in buckets]
    return [*rows, f"{family}_count{{{labels}}} {buckets[-1][1]}", f"{family}_sum{{{labels}}} {total}"]


TTFT = "vllm:time_to_first_token_seconds"
RUNNING = 'vllm:num_requests_running{engine="0",model_name="a"} 3'


def test_old_and_new_names_on_one_page_are_not_added(metric_map: MetricMap, read: Read) -> None:
    """Every upstream name at once, each with a value of its own: only the first of each metric is read."""
    rows, expected = [], {}
    for entry in metric_map.entries:
        for rank, upstream in enumerate(entry.upstream):
            where = "".join(f',{k}="{v}"' for k, v in upstream.where)
            if entry.metric.kind is Kind.HISTOGRAM:
                rows += histogram(upstream.name, ("1.0", str(rank + 1)), ("+Inf", str(rank + 1)))
            elif not any(row.startswith(f'{upstream.name}{{engine="0"{where}}}') for row in rows):
                rows.append(f'{upstream.name}{{engine="0"{where}}} {(rank + 1) / 4}')
        expected[entry.metric.name] = 0.25 if entry.metric.kind is not Kind.HISTOGRAM else 1
    reading = read(lines(*rows))
    engine = reading.engines["0"]
    got = {**engine.gauges, **engine.counters, **{k: h.count for k, h in engine.histograms.items()}}
    # The samples of four reasons carry the same name: their sum is the number of requests that ended.
    assert got.pop("requests_finished") == 1.0
    expected.pop("requests_finished")
    assert got == expected
    assert set(got) | {"requests_finished"} == set(METRICS)


def test_reasons_are_added_up_and_picked_out(read: Read) -> None:
    rows = [
        f'vllm:request_success_total{{engine="0",finished_reason="{reason}"}} {count}'
        for reason, count in {"stop": 5, "length": 2, "abort": 1, "error": 4, "repetition": 1}.items()
    ]
    rows += ['vllm:admission_rejections_total{reason="a"} 2', 'vllm:admission_rejections_total{reason="b"} 3']
    counters = read(lines(*rows)).engines["0"].counters
    assert counters == {
        "requests_finished": 13,
        "requests_failed": 4,
        "requests_aborted": 1,
        "requests_truncated": 2,
        "requests_rejected": 5,
    }


def test_waiting_by_reason_is_not_added_to_the_queue(read: Read) -> None:
    rows = ['vllm:num_requests_waiting{engine="0"} 7', 'vllm:num_requests_waiting_by_reason{engine="0",reason="x"} 7']
    assert read(lines(*rows)).engines["0"].gauges == {"requests_waiting": 7}


def test_several_engines_are_several_entries(read: Read) -> None:
    rows = [f'vllm:num_requests_running{{engine="{e}",model_name="a"}} {e}' for e in ("10", "2", "9")]
    reading = read(lines(*rows, 'vllm:admission_rejections_total{model_name="a",reason="r"} 8'))
    assert {name: e.gauges["requests_running"] for name, e in reading.engines.items()} == {"10": 10, "2": 2, "9": 9}
    assert {name for name, e in reading.engines.items() if e.counters} == {"2"}  # the lowest number, counted once


def test_a_page_without_engine_labels_has_one_engine(read: Read) -> None:
    reading = read(
        lines('vllm:num_requests_running{model_name="a"} 2', 'vllm:gpu_cache_usage_perc{model_name="a"} 0.5')
    )
    assert reading.engines["0"].gauges == {"requests_running": 2, "kv_cache_usage_ratio": 0.5}
    assert reading.engines["0"].model_name == "a"


def test_two_models_of_one_engine_are_kept_apart(read: Read) -> None:
    rows = [f'vllm:num_requests_running{{engine="0",model_name="{m}"}} {n}' for m, n in (("a", 1), ("b", 2))]
    engines = read(lines(*rows)).engines
    assert {name: (e.model_name, e.gauges["requests_running"]) for name, e in engines.items()} == {
        "0:a": ("a", 1),
        "0:b": ("b", 2),
    }


def test_series_of_one_engine_are_added_up(read: Read) -> None:
    rows = [
        *histogram(TTFT, ("1", "1"), ("+Inf", "2"), labels='engine="0",worker="a"'),
        *histogram(TTFT, ("1", "3"), ("+Inf", "3"), labels='engine="0",worker="b"'),
    ]
    found = read(lines(*rows)).engines["0"].histograms["ttft_s"]
    assert (found.counts, found.sum) == ((4, 5), 3.0)


@pytest.mark.parametrize("spelling", ["1", "1.0", "1e+00", "1E0"])
def test_an_edge_is_a_number_however_it_is_spelled(read: Read, spelling: str) -> None:
    rows = histogram(TTFT, (spelling, "1"), ("+Inf", "2"))
    assert read(lines(*rows)).engines["0"].histograms["ttft_s"].le == (1.0,)


def test_buckets_in_any_order_are_sorted(read: Read) -> None:
    rows = histogram(TTFT, ("5", "2"), ("0.5", "1"), ("+Inf", "3"))
    found = read(lines(*rows)).engines["0"].histograms["ttft_s"]
    assert (found.le, found.counts) == ((0.5, 5.0), (1, 2, 3))


REFUSED = {
    "NaN gauge": (['vllm:kv_cache_usage_perc{engine="0"} NaN'], "kv_cache_usage_perc is nan, expected 0 to 1"),
    "infinite gauge": (['vllm:num_requests_waiting{engine="0"} +Inf'], "is inf, expected 0 or more"),
    "ratio above one": (['vllm:kv_cache_usage_perc{engine="0"} 55'], "is 55, expected 0 to 1"),
    "negative counter": (['vllm:prompt_tokens_total{engine="0"} -1'], "prompt_tokens_total is -1, expected 0 or more"),
    "infinite sum": (
        [f'vllm:request_success_total{{engine="0",finished_reason="{r}"}} 1e308' for r in ("stop", "length")],
        "too large to add up",
    ),
    "one bad part of a sum": (
        [f'vllm:request_success_total{{engine="0",finished_reason="{r}"}} {v}' for r, v in (("stop", 3), ("x", "NaN"))],
        "request_success_total is nan",
    ),
    "falling buckets": (histogram(TTFT, ("1", "5"), ("2", "3"), ("+Inf", "6")), "buckets that fall"),
    "NaN bucket": (histogram(TTFT, ("1", "NaN"), ("+Inf", "6")), "a bucket that is not a number"),
    "infinite bucket": (histogram(TTFT, ("1", "1"), ("+Inf", "+Inf")), "a bucket that is not a number"),
    "half an observation": (histogram(TTFT, ("1", "0.5"), ("+Inf", "1")), "not a whole number"),
    "huge bucket": (histogram(TTFT, ("1", "1"), ("+Inf", "1e300")), "not a whole number"),
    "negative bucket": (histogram(TTFT, ("1", "-1"), ("+Inf", "1")), "a negative bucket"),
    "negative sum": (histogram(TTFT, ("1", "1"), ("+Inf", "1"), total="-2"), "_sum is -2, expected 0 or more"),
    "NaN sum": (histogram(TTFT, ("1", "1"), ("+Inf", "1"), total="NaN"), "_sum is nan"),
    "no +Inf": (histogram(TTFT, ("1", "1"), ("2", "1")), "no +Inf bucket"),
    "cut histogram": (histogram(TTFT, ("1", "1"), ("+Inf", "1"))[:-1], "no _sum or _count"),
    "other count": (
        [f'{TTFT}_bucket{{engine="0",le="+Inf"}} 1', f'{TTFT}_count{{engine="0"}} 4', f'{TTFT}_sum{{engine="0"}} 4'],
        "_count is 4, its +Inf bucket 1",
    ),
    "edge twice": (histogram(TTFT, ("1", "1"), ("1.0", "1"), ("+Inf", "1")), "the bucket le=1 stands there twice"),
    "unreadable edge": (histogram(TTFT, ("x", "1"), ("+Inf", "1")), "without a readable le"),
    "NaN edge": (histogram(TTFT, ("NaN", "1"), ("+Inf", "1")), "without a readable le"),
    "different edges": (
        histogram(TTFT, ("1", "1"), ("+Inf", "1"), labels='engine="0",w="a"')
        + histogram(TTFT, ("2", "1"), ("+Inf", "1"), labels='engine="0",w="b"'),
        "different edges",
    ),
    "sample twice": (['vllm:prompt_tokens_total{engine="0"} 1'] * 2, "stands on the page more than once"),
    "two ratios": ([f'vllm:kv_cache_usage_perc{{engine="0",w="{w}"}} 0.5' for w in "ab"], "2 samples of a ratio"),
    "wrong type": (
        ["# TYPE vllm:prompt_tokens_total gauge", 'vllm:prompt_tokens_total{engine="0"} 1'],
        "is declared a gauge, expected a counter",
    ),
    "start of the process": (["process_start_time_seconds NaN"], "process_start_time_seconds is nan, not a time"),
    "start beyond time": (["process_start_time_seconds 1e308"], "not a time"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_believed_is_named_and_the_rest_kept(read: Read, name: str) -> None:
    bad, problem = REFUSED[name]
    reading = read(lines(RUNNING.replace(',model_name="a"', ""), *bad))
    assert len(reading.problems) >= 1
    assert problem in reading.problems[0]
    engine = reading.engines["0"]
    assert engine.gauges == {"requests_running": 3}
    assert engine.histograms == {}
    assert set(engine.counters) <= {"requests_failed", "requests_aborted", "requests_truncated"}
    assert reading.incarnation_ms is None


def test_a_sample_that_is_refused_comes_back_when_it_is_sane_again(metric_map: MetricMap) -> None:
    reader, translator = PageReader(metric_map.wanted, prefix=metric_map.prefix), Translator(metric_map)
    bad = reader.read(lines('vllm:kv_cache_usage_perc{engine="0"} NaN'))
    good = reader.read(lines('vllm:kv_cache_usage_perc{engine="0"} 0.5'), hint=bad.shape)
    assert translator.translate(bad).engines["0"].gauges == {}
    assert translator.translate(good).engines["0"].gauges == {"kv_cache_usage_ratio": 0.5}


def test_the_list_of_problems_is_bounded(read: Read) -> None:
    rows = [f'vllm:prompt_tokens_total{{engine="{i}{"x" * 300}"}} -1' for i in range(200)]
    problems = read(lines(*rows)).problems
    assert len(problems) == MAX_PROBLEMS
    assert problems[-1] == "and 151 more"
    assert max(map(len, problems)) <= 200


def test_another_exporter_is_asked_for_by_name(read: Read) -> None:
    with pytest.raises(ConfigError, match="no vLLM metric on it: is this the vLLM port"):
        read(b"# TYPE node_load1 gauge\nnode_load1 0.5\nprocess_start_time_seconds 1.7e9\n")


def test_a_release_with_names_all_new_says_so(read: Read) -> None:
    reading = read(b"vllm:brand_new 1\n")
    assert reading.engines == {}
    assert re.search("none that is known", reading.problems[0])
