"""Every `vllm:` family of a 0.32 page in the page's order: name, type, labels, and where the twin reads its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from connectors.twin.engine import Engine
from connectors.twin.meters import Bins


class Kind(StrEnum):
    """Prometheus types on the page."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Family:
    """One family. `name` is without `_total`. `read` gives a number, numbers by the values of `label`, or bins.

    `engine_label` is False for the one family that the front end counts, not an engine.
    """

    name: str
    kind: Kind
    doc: str
    read: Callable[[Engine], float | Mapping[str, float] | Bins]
    label: str = ""
    engine_label: bool = True


def _zero(_: Engine) -> float:
    return 0.0


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES: tuple[Family, ...] = (
    Family("vllm:estimated_flops_per_gpu", _C, "Arithmetic per GPU, estimated.", _zero),
    Family("vllm:estimated_read_bytes_per_gpu", _C, "Memory read per GPU, estimated.", _zero),
    Family("vllm:estimated_write_bytes_per_gpu", _C, "Memory written per GPU, estimated.", _zero),
    Family("vllm:num_requests_running", _G, "Requests in the batch.", lambda e: e.running),
    Family("vllm:num_requests_waiting", _G, "Requests in the queue.", lambda e: e.waiting),
    Family(
        "vllm:num_requests_waiting_by_reason",
        _G,
        "Requests in the queue, by what they wait for.",
        lambda e: {"capacity": e.waiting - e.deferred, "deferred": e.deferred},
        "reason",
    ),
    Family(
        "vllm:engine_sleep_state",
        _G,
        "Which sleep state holds: one of these is 1.",
        lambda e: {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0},
        "sleep_state",
    ),
    Family("vllm:kv_cache_usage_perc", _G, "Share of KV blocks in use, 0 to 1.", lambda e: e.kv.usage_ratio),
    Family(
        "vllm:prefix_cache_queries",
        _C,
        "Tokens looked up in the prefix cache.",
        lambda e: e.meters.prefix_queries_tokens,
    ),
    Family("vllm:prefix_cache_hits", _C, "Tokens found in the prefix cache.", lambda e: e.meters.prefix_hits_tokens),
    Family(
        "vllm:external_prefix_cache_queries",
        _C,
        "Tokens looked up beyond the GPU.",
        lambda e: e.meters.external_queries_tokens,
    ),
    Family(
        "vllm:external_prefix_cache_hits", _C, "Tokens found beyond the GPU.", lambda e: e.meters.external_hits_tokens
    ),
    Family("vllm:mm_cache_queries", _C, "Multi-modal items looked up.", _zero),
    Family("vllm:mm_cache_hits", _C, "Multi-modal items found.", _zero),
    Family("vllm:num_preemptions", _C, "Requests pushed out of the batch.", lambda e: e.meters.preemptions),
    Family("vllm:prompt_tokens", _C, "Prompt tokens handled.", lambda e: e.meters.prompt_tokens),
    Family(
        "vllm:prompt_tokens_by_source",
        _C,
        "Prompt tokens, by where their KV came from.",
        lambda e: {
            "local_compute": e.meters.prompt_tokens_computed,
            "local_cache_hit": e.meters.prompt_tokens_device,
            "external_kv_transfer": e.meters.prompt_tokens_host + e.meters.prompt_tokens_disk,
        },
        "source",
    ),
    Family("vllm:prompt_tokens_cached", _C, "Prompt tokens that were cached.", lambda e: e.meters.prompt_tokens_cached),
    Family(
        "vllm:prompt_tokens_cached_by_source",
        _C,
        "Cached prompt tokens, by tier.",
        lambda e: {
            "device": e.meters.prompt_tokens_device,
            "host": e.meters.prompt_tokens_host,
            "p2p": 0.0,
            "disk": e.meters.prompt_tokens_disk,
            "external_unspecified": 0.0,
        },
        "source",
    ),
    Family("vllm:generation_tokens", _C, "Tokens generated.", lambda e: e.meters.generation_tokens),
    Family("vllm:request_success", _C, "Requests ended, by reason.", lambda e: e.meters.finished, "finished_reason"),
    Family(
        "vllm:admission_rejections",
        _C,
        "Requests refused by a queue limit.",
        lambda e: {"max_num_queued_reqs": 0.0, "max_num_queued_tokens": 0.0},
        "reason",
        engine_label=False,
    ),
    Family("vllm:request_prompt_tokens", _H, "Prompt length.", lambda e: e.meters.request_prompt_tokens),
    Family("vllm:request_generation_tokens", _H, "Output length.", lambda e: e.meters.request_generation_tokens),
    Family("vllm:iteration_tokens_total", _H, "Tokens of one iteration.", lambda e: e.meters.iteration_tokens),
    Family(
        "vllm:request_max_num_generation_tokens",
        _H,
        "Longest output of a request's choices.",
        lambda e: e.meters.request_max_generation_tokens,
    ),
    Family("vllm:request_params_n", _H, "Choices asked for.", lambda e: e.meters.request_choices),
    Family("vllm:request_params_max_tokens", _H, "Output limit asked for.", lambda e: e.meters.request_max_tokens),
    Family("vllm:time_to_first_token_seconds", _H, "Arrival to first token.", lambda e: e.meters.ttft_s),
    Family("vllm:inter_token_latency_seconds", _H, "Token to token.", lambda e: e.meters.inter_token_s),
    Family(
        "vllm:request_time_per_output_token_seconds",
        _H,
        "A request's mean time from token to token.",
        lambda e: e.meters.per_output_token_s,
    ),
    Family("vllm:e2e_request_latency_seconds", _H, "Arrival to last token.", lambda e: e.meters.e2e_s),
    Family("vllm:request_queue_time_seconds", _H, "Time in the queue.", lambda e: e.meters.queue_s),
    Family("vllm:request_inference_time_seconds", _H, "Time in the batch.", lambda e: e.meters.inference_s),
    Family("vllm:request_prefill_time_seconds", _H, "Time in prefill.", lambda e: e.meters.prefill_s),
    Family("vllm:request_decode_time_seconds", _H, "Time in decode.", lambda e: e.meters.decode_s),
    Family("vllm:request_num_preemptions", _H, "Preemptions of a request.", lambda e: e.meters.request_preemptions),
    Family(
        "vllm:request_prefill_kv_computed_tokens",
        _H,
        "Prompt tokens computed, not cached.",
        lambda e: e.meters.request_computed_tokens,
    ),
    Family("vllm:kv_block_lifetime_seconds", _H, "Life of a KV block.", lambda e: e.meters.kv_block_lifetime_s),
    Family(
        "vllm:kv_block_idle_before_evict_seconds", _H, "Idle end of a KV block.", lambda e: e.meters.kv_block_idle_s
    ),
    Family("vllm:kv_block_reuse_gap_seconds", _H, "Gap between two uses.", lambda e: e.meters.kv_block_reuse_gap_s),
)


_PRIMARY, _SECONDARY = "0:primary", "1:fs"


def _by_tier(count: str, *names: str) -> Callable[[Engine], Mapping[str, float]]:
    """A count of the tiers by vLLM's labels for them, and only of tiers that there are."""

    def read(engine: Engine) -> Mapping[str, float]:
        tiers = engine.tiers
        if tiers is None:
            return {}
        there = {_PRIMARY: tiers.counts["host"]} | ({_SECONDARY: tiers.counts["disk"]} if tiers.disk.room else {})
        return {name: float(getattr(there[name], count)) for name in names if name in there}

    return read


def _transferred(engine: Engine) -> Mapping[str, float]:
    """Bytes between GPU and host memory: what comes from disk goes through it."""
    if engine.tiers is None:
        return {}
    host, disk = engine.tiers.counts["host"], engine.tiers.counts["disk"]
    return {"CPU_to_GPU": float(host.read_bytes + disk.read_bytes), "GPU_to_CPU": float(host.written_bytes)}


TIER_FAMILIES: tuple[Family, ...] = (
    Family(
        "vllm:kv_offload_total_bytes", _C, "Bytes moved between GPU and host memory.", _transferred, "transfer_type"
    ),
    Family(
        "vllm:kv_offload_tiering_read_bytes", _C, "Bytes read from disk.", _by_tier("read_bytes", _SECONDARY), "tier"
    ),
    Family(
        "vllm:kv_offload_tiering_read_time", _C, "Seconds of reading from disk.", _by_tier("read_s", _SECONDARY), "tier"
    ),
    Family(
        "vllm:kv_offload_tiering_write_bytes",
        _C,
        "Bytes written to disk.",
        _by_tier("written_bytes", _SECONDARY),
        "tier",
    ),
    Family(
        "vllm:kv_offload_tiering_chunk_queries",
        _C,
        "Chunks looked up in a tier.",
        _by_tier("queries", _PRIMARY, _SECONDARY),
        "tier",
    ),
    Family(
        "vllm:kv_offload_tiering_chunk_hits",
        _C,
        "Chunks found in a tier.",
        _by_tier("hits", _PRIMARY, _SECONDARY),
        "tier",
    ),
)
"""What a page has before the others where there are tiers."""


def cache_config(engine: Engine, block_tokens: int, utilization: float) -> dict[str, str]:
    """The labels of `vllm:cache_config_info`, alphabetical, with the engine's own figures where it has some."""
    tokens = engine.spec.kv_blocks * block_tokens
    known = {
        "block_size": str(block_tokens),
        "effective_attention_block_size": str(block_tokens),
        "gpu_memory_utilization": str(utilization),
        "kv_cache_max_concurrency": str(round(tokens / engine.spec.max_model_len, 2)),
        "kv_cache_memory_bytes": str(tokens * engine.spec.profile.kv_bytes_per_token),
        "kv_cache_size_tokens": str(tokens),
        "num_gpu_blocks": str(engine.spec.kv_blocks),
    }
    if engine.tiers is not None:
        known["kv_offloading_size"] = str(float(engine.spec.kv_offloading_size))
    return dict(sorted((_CACHE_DEFAULTS | known).items()))


_CACHE_DEFAULTS = {
    "_block_size_resolved": "True",
    "cache_dtype": "auto",
    "cache_hit_alignment_tokens": "None",
    "enable_mamba_shared_prefix_checkpoint": "False",
    "enable_prefix_caching": "True",
    "engine": "0",
    "hash_block_size": "None",
    "is_attention_free": "False",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_cache_layout": "None",
    "kv_offloading_backend": "native",
    "kv_offloading_size": "None",
    "kv_sharing_fast_prefill": "False",
    "mamba_block_size": "None",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_page_size_padded": "None",
    "mamba_ssm_cache_dtype": "float32",
    "num_cpu_blocks": "None",
    "num_gpu_blocks_override": "None",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "prefix_match_unit": "None",
    "replayssm_buffer_len": "16",
    "skip_page_size_padded": "None",
    "sliding_window": "None",
    "swa_bounded_replay": "True",
    "use_kda_recoverssm": "False",
    "use_replayssm": "False",
    "user_specified_block_size": "False",
}
