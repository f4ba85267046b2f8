"""The page has the families, types, labels and buckets of a real 0.32 page, in its order, and true numbers.

`fixtures/page_0.32.json` was derived from a live server's page: per family its name and type, per sample its labels in
order, the `le` values, and the values of labels that enumerate. No help texts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.twin.fleet import Fleet, WorkloadSpec
from connectors.twin.load import LoadSpec
from connectors.twin.page import render

START_MS = 1_700_000_000_000
FIXTURE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "fixtures" / "page_0.32.json").read_text())
ENUMERATED = ("reason", "source", "finished_reason", "sleep_state")
MODEL = 'odd "model"\\name'


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    spec = WorkloadSpec("chat", MODEL, 1, LoadSpec(2.0, day_s=200, shared_ratio=0.9))
    fleet = Fleet((spec,), seed=1, start_ms=START_MS)
    fleet.replica("chat-0").models_listed = 1
    fleet.advance(START_MS + 120_000)
    return fleet


@pytest.fixture(scope="module")
def page(fleet: Fleet) -> str:
    return render(fleet.replica("chat-0"), fleet.now_ms).decode()


def shape(text: str) -> list[dict[str, Any]]:
    families: list[dict[str, Any]] = []
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split(" ")
            families.append({"name": name, "type": kind, "samples": {}})
        elif not line.startswith("#"):
            found = re.match(r"([^{ ]+)(?:\{(.*)\})? ", line)
            assert found, line
            labels = dict(re.findall(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
            sample = families[-1]["samples"].setdefault(found[1], {"labels": list(labels)})
            assert sample["labels"] == list(labels), line
            for label in ("le", *ENUMERATED):
                if label in labels and labels[label] not in sample.setdefault(label, []):
                    sample[label].append(labels[label])
    return families


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"|{sample.labels[k]}" for k in (*ENUMERATED, "le") if k in sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_names_types_labels_and_buckets_are_those_of_a_real_page_in_its_order(page: str) -> None:
    assert shape(page) == FIXTURE


def test_the_page_is_read_by_prometheus_own_parser_with_the_right_types(page: str) -> None:
    kinds = {family.name: family.type for family in text_string_to_metric_families(page)}
    assert kinds["vllm:num_requests_running"] == "gauge"
    assert kinds["vllm:generation_tokens"] == "counter"
    assert kinds["vllm:iteration_tokens_total"] == "histogram"
    assert kinds["http_request_size_bytes"] == "summary"
    assert kinds["vllm:request_success_created"] == "gauge"


def test_a_model_name_is_escaped_as_the_format_asks(page: str) -> None:
    family = next(f for f in text_string_to_metric_families(page) if f.name == "vllm:kv_cache_usage_perc")
    assert family.samples[0].labels == {"engine": "0", "model_name": MODEL}


def test_the_numbers_are_the_engines(fleet: Fleet, page: str) -> None:
    engine = fleet.replica("chat-0").engine
    assert engine is not None
    found = samples(page)
    assert found["vllm:generation_tokens_total"] == engine.meters.generation_tokens > 0
    assert found["vllm:request_success_total|stop"] == engine.meters.finished["stop"] > 0
    assert found["vllm:prompt_tokens_by_source_total|local_cache_hit"] == engine.meters.prompt_tokens_cached > 0
    assert found["vllm:num_requests_running"] == engine.running
    assert found["vllm:kv_cache_usage_perc"] == engine.kv.usage_ratio
    ttft = engine.meters.ttft_s.histogram()
    assert found["vllm:time_to_first_token_seconds_bucket|0.5"] == ttft.counts[ttft.le.index(0.5)]
    assert found["vllm:time_to_first_token_seconds_bucket|+Inf"] == ttft.count
    assert found["vllm:time_to_first_token_seconds_sum"] == ttft.sum
    assert found["process_start_time_seconds"] == START_MS / 1000 - 45
    assert found["http_request_duration_highr_seconds_count"] == engine.meters.e2e_s.count + 1


def test_counters_never_fall_from_page_to_page(fleet: Fleet) -> None:
    other = Fleet(tuple(fleet.workloads.values()), seed=2, start_ms=START_MS)
    before: dict[str, float] = {}
    for at_s in (10, 20, 30, 60, 90, 120, 180):
        other.advance(START_MS + at_s * 1000)
        now = samples(render(other.replica("chat-0"), other.now_ms).decode())
        for name, value in before.items():
            if re.search(r"_(total|count|sum)$|_bucket", name.split("|")[0]):
                assert now[name] >= value, name
        before = now


def test_a_replica_without_a_process_has_no_page(fleet: Fleet) -> None:
    other = Fleet(tuple(fleet.workloads.values()), seed=2, start_ms=START_MS)
    other.fail("chat-0")
    with pytest.raises(ValueError, match="no page while it is failed"):
        render(other.replica("chat-0"), other.now_ms)
