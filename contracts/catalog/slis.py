"""Service-level indicators: what stages compute and rules may speak of."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from contracts.objectives import Latency


@dataclass(frozen=True)
class SliDef:
    """One SLI: unit, range, which way is better (`lower`, `higher`, `-`), whether the latest value has it too, and
    whether windows have it."""

    name: str
    unit: str
    doc: str
    high: float = inf
    better: str = "lower"
    latest: bool = False
    windows: bool = True


QUANTILES: dict[str, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

_LATENCY_DOC = {
    Latency.TTFT: "time to first token",
    Latency.ITL: "inter-token latency",
    Latency.E2E: "end-to-end latency",
}

_LATENCIES = tuple(
    SliDef(f"{family}_{label}_s", "s", f"{label} of {_LATENCY_DOC[family]}, interpolated inside its bucket.")
    for family in Latency
    for label in QUANTILES
)
_ATTAINMENTS = tuple(
    SliDef(
        f"{family}_attainment_ratio",
        "ratio",
        f"Share of observations whose {_LATENCY_DOC[family]} met the workload's threshold; exact.",
        1.0,
        "higher",
    )
    for family in Latency
)
_BURN_RATES = tuple(
    SliDef(
        f"{family}_burn_rate",
        "budgets",
        f"How fast the error budget of {_LATENCY_DOC[family]} burns: the share of observations that missed the "
        "threshold, over the share that may. 1 spends the budget exactly (SRE workbook, chapter 5).",
    )
    for family in Latency
)

_TIERS = (
    SliDef(
        "external_hit_ratio", "ratio", "Tokens found in KV tiers beyond the GPU, of those looked up.", 1.0, "higher"
    ),
    SliDef("host_hit_ratio", "ratio", "Chunks found in the KV tier in CPU memory, of those asked.", 1.0, "higher"),
    SliDef("disk_hit_ratio", "ratio", "Chunks found in KV tiers below CPU memory, of those asked.", 1.0, "higher"),
    SliDef("host_tokens_ratio", "ratio", "Prompt tokens whose KV came from CPU memory, of all.", 1.0, "higher"),
    SliDef("disk_tokens_ratio", "ratio", "Prompt tokens whose KV came from a disk, of all.", 1.0, "higher"),
    SliDef("host_read_bytes_per_s", "bytes/s", "KV copied from CPU memory to GPUs.", better="-"),
    SliDef("host_write_bytes_per_s", "bytes/s", "KV copied from GPUs to CPU memory.", better="-"),
    SliDef("disk_read_bytes_per_s", "bytes/s", "KV promoted from tiers below CPU memory.", better="-"),
    SliDef("disk_write_bytes_per_s", "bytes/s", "KV demoted to tiers below CPU memory.", better="-"),
    SliDef(
        "tier_failures_per_s",
        "1/s",
        "Promotions and demotions that failed, and blocks on disk whose checksum was wrong, as far as they are told.",
    ),
    SliDef("tier_drops_per_s", "1/s", "Demotions given up because a tier was too slow."),
    SliDef("disk_evictions_per_s", "1/s", "Blocks that our own disk tier gave up for others.", better="-"),
    SliDef("kv_allocation_failures_per_s", "1/s", "KV transfers for which CPU memory had no room."),
    SliDef(
        "kv_idle_before_evict_mean_s", "s", "Mean time that KV blocks lay unused when GPUs gave them up.", better="-"
    ),
)
_LENGTHS = (
    SliDef("request_tokens_mean", "tokens", "Mean of prompt and output of finished requests.", better="-"),
    SliDef(
        "request_tokens_p95",
        "tokens",
        "Prompt and output of finished requests: upper edges at p97.5 of each, added. At most 5 % are longer.",
        better="-",
    ),
    SliDef(
        "request_tokens_p99", "tokens", "The same with p99.5 of each: at most 1 % of requests are longer.", better="-"
    ),
    SliDef("truncated_ratio", "ratio", "Requests that ended at a limit of tokens, of those that finished.", 1.0),
)

_ALL = (
    *_LATENCIES,
    SliDef("ttft_mean_s", "s", "Mean time to first token; exact."),
    *_ATTAINMENTS,
    *_BURN_RATES,
    SliDef("queue_time_p95_s", "s", "p95 of the time in the waiting queue."),
    SliDef("requests_per_s", "1/s", "Requests finished a second.", better="-"),
    SliDef(
        "arrivals_per_s",
        "1/s",
        "Requests that arrived a second: those that ended and the change of those that run or wait. Samples are the "
        "instances that told; nothing is added for the others.",
        better="-",
        latest=True,
        windows=False,
    ),
    SliDef("prompt_tokens_per_s", "tokens/s", "Prompt tokens processed a second.", better="-"),
    SliDef("generation_tokens_per_s", "tokens/s", "Tokens generated a second.", better="-"),
    SliDef("requests_waiting", "requests", "Mean queue length, summed over instances.", latest=True),
    SliDef("requests_waiting_max", "requests", "Longest queue seen by a scrape, summed over instances."),
    SliDef("requests_running", "requests", "Mean batch, summed over instances.", better="-", latest=True),
    SliDef("kv_cache_usage_ratio", "ratio", "Mean share of KV blocks in use, over instances.", 1.0, latest=True),
    SliDef("kv_cache_usage_max_ratio", "ratio", "Fullest KV cache that a scrape saw, of any instance.", 1.0),
    SliDef("prefix_cache_hit_ratio", "ratio", "Tokens found in the prefix cache, of those looked up.", 1.0, "higher"),
    SliDef("preemptions_per_s", "1/s", "Preemptions a second."),
    *_TIERS,
    *_LENGTHS,
    SliDef("restarts", "restarts", "Engines whose counters began anew, planned or not, over instances."),
    SliDef("error_ratio", "ratio", "Requests failed or rejected, of all that ended.", 1.0),
    SliDef("up_ratio", "ratio", "Scrapes that were answered, of those due.", 1.0, "higher", latest=True),
    SliDef("replicas_up", "replicas", "Replicas whose scrapes are answered.", better="-", latest=True),
    SliDef(
        "load_per_replica", "requests", "Requests that run or wait, over replicas that answer.", better="-", latest=True
    ),
    SliDef("stalled", "bool", "1 when requests wait or run and no token came.", 1.0, latest=True),
)

SLIS: dict[str, SliDef] = {sli.name: sli for sli in _ALL}
