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
    Metric("requests_truncated", _C, "requests", "Requests that ended because they reached a limit of tokens."),
    Metric("kv_allocation_failures", _C, "failures", "KV stores for which the CPU tier had no room."),
    Metric("host_chunk_queries", _C, "chunks", "Chunks looked up in the KV tier in CPU memory."),
    Metric("host_chunk_hits", _C, "chunks", "Chunks found in the KV tier in CPU memory."),
    Metric("disk_chunk_queries", _C, "chunks", "Chunks looked up in KV tiers below CPU memory, as a disk."),
    Metric("disk_chunk_hits", _C, "chunks", "Chunks found in KV tiers below CPU memory."),
    Metric("host_cached_tokens", _C, "tokens", "Prompt tokens whose KV came from CPU memory."),
    Metric("disk_cached_tokens", _C, "tokens", "Prompt tokens whose KV came from a disk."),
    Metric("host_read_bytes", _C, "bytes", "KV bytes copied from CPU memory to the GPU."),
    Metric("host_write_bytes", _C, "bytes", "KV bytes copied from the GPU to CPU memory."),
    Metric("disk_read_bytes", _C, "bytes", "KV bytes read from tiers below CPU memory: promotions."),
    Metric("disk_write_bytes", _C, "bytes", "KV bytes written to tiers below CPU memory: demotions."),
    Metric("promotion_failures", _C, "failures", "Reads from tiers below CPU memory that failed."),
    Metric("promotion_allocation_failures", _C, "failures", "Such reads for which CPU memory had no room."),
    Metric("demotion_failures", _C, "failures", "Writes to tiers below CPU memory that failed."),
    Metric("demotions_dropped", _C, "stores", "Writes to such tiers given up because these were too slow."),
    Metric("disk_corrupt_blocks", _C, "blocks", "Blocks on disk whose checksum was wrong: none was served."),
    Metric("disk_evicted_blocks", _C, "blocks", "Blocks that the disk tier gave up for others."),
    Metric("ttft_s", _H, "s", "Time to first token, from arrival."),
    Metric("inter_token_latency_s", _H, "s", "Time between two tokens of a request."),
    Metric("e2e_latency_s", _H, "s", "Request latency from arrival to last token."),
    Metric("queue_time_s", _H, "s", "Time in the waiting queue."),
    Metric("prefill_time_s", _H, "s", "Time in prefill."),
    Metric("decode_time_s", _H, "s", "Time in decode."),
    Metric("prompt_tokens_per_request", _H, "tokens", "Prompt length of finished requests."),
    Metric("generation_tokens_per_request", _H, "tokens", "Output length of finished requests."),
    Metric("kv_idle_before_evict_s", _H, "s", "How long KV blocks lay unused when the GPU gave them up, sampled."),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
