"""Canonical metrics: what connectors translate upstream names into, once, at the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf


class Kind(StrEnum):
    """Prometheus types that we carry."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One canonical metric; `low..high` is what a sane value lies in (of observations, for a histogram)."""

    name: str
    kind: Kind
    unit: str
    doc: str
    low: float = 0.0
    high: float = inf


_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM

_ALL = (
    Metric("requests_running", _G, "requests", "Requests in the engine's running batch."),
    Metric("requests_waiting", _G, "requests", "Requests queued for admission to the batch."),
    Metric("requests_swapped", _G, "requests", "Requests swapped to CPU memory (V0 engines only)."),
    Metric("kv_cache_usage_ratio", _G, "ratio", "Share of KV blocks in use; upstream says `perc`.", high=1.0),
    Metric("cpu_kv_cache_usage_ratio", _G, "ratio", "Share of CPU KV blocks in use (V0 engines only).", high=1.0),
    Metric("prefix_cache_hit_ratio", _G, "ratio", "Prefix-cache hit rate as V0 reports it, a gauge.", -1.0, 1.0),
    Metric("engine_awake", _G, "bool", "1 unless the engine is put to sleep.", high=1.0),
    Metric("prompt_tokens", _C, "tokens", "Prompt tokens processed."),
    Metric("generation_tokens", _C, "tokens", "Tokens generated."),
    Metric("requests_finished", _C, "requests", "Requests that ended, for whatever reason."),
    Metric("requests_failed", _C, "requests", "Requests that ended with reason `error`."),
    Metric("requests_aborted", _C, "requests", "Requests that the client gave up."),
    Metric("requests_rejected", _C, "requests", "Requests refused at admission by a queue limit."),
    Metric("requests_corrupted", _C, "requests", "Requests whose logits held NaN."),
    Metric("preemptions", _C, "preemptions", "Requests pushed out of the batch for lack of KV blocks."),
    Metric("prefix_cache_queries_tokens", _C, "tokens", "Tokens looked up in the prefix cache."),
    Metric("prefix_cache_hits_tokens", _C, "tokens", "Tokens found in the prefix cache."),
    Metric("external_prefix_cache_queries_tokens", _C, "tokens", "Tokens looked up in KV tiers beyond the GPU."),
    Metric("external_prefix_cache_hits_tokens", _C, "tokens", "Tokens found in KV tiers beyond the GPU."),
    Metric("ttft_s", _H, "s", "Time to first token, from arrival."),
    Metric("inter_token_latency_s", _H, "s", "Time between two tokens of a request."),
    Metric("e2e_latency_s", _H, "s", "Request latency from arrival to last token."),
    Metric("queue_time_s", _H, "s", "Time in the waiting queue."),
    Metric("prefill_time_s", _H, "s", "Time in prefill."),
    Metric("decode_time_s", _H, "s", "Time in decode."),
    Metric("prompt_tokens_per_request", _H, "tokens", "Prompt length of finished requests."),
    Metric("generation_tokens_per_request", _H, "tokens", "Output length of finished requests."),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
