"""Findings: what agents conclude from SLIs, in numbers that rules may speak of beside the SLIs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class FindingDef:
    """One number of a finding: its kind, unit, range, and meaning."""

    name: str
    kind: str
    unit: str
    doc: str
    high: float = inf


KINDS: dict[str, int] = {
    "sizing": 15,
    "balance": 30,
    "pressure": 45,
    "tuning": 120,
    "tiers": 600,
    "routing": 900,
    "context": 1200,
}
"""Kinds of findings and how many seconds each speaks for: the next is due so much later. To rules and in bounds, that
is the length of its window, so no two kinds have the same, and none that of an SLI's window."""

_ALL = (
    FindingDef("replicas_wanted", "sizing", "replicas", "Replicas that there should be, serving or ordered."),
    FindingDef("replicas_ordered", "sizing", "replicas", "Replicas that serve, and those ordered that do not yet."),
    FindingDef("replicas_short", "sizing", "replicas", "Wanted and not ordered; 0 where there are enough."),
    FindingDef("replicas_spare", "sizing", "replicas", "Ordered and not wanted; 0 where there are too few."),
    FindingDef("expected_rps", "sizing", "1/s", "Requests expected when a replica ordered now begins to serve."),
    FindingDef("capacity_rps", "sizing", "1/s", "Requests that one replica serves within the objective, as learnt."),
    FindingDef("capacity_error_ratio", "sizing", "ratio", "How far off the learnt capacity usually is."),
    FindingDef("startup_s", "sizing", "s", "From the order of a replica until it serves: p90 of those seen."),
    FindingDef(
        "imbalance_ratio", "balance", "ratio", "Unfairness of load for capacity over replicas; 1: one has all.", 1.0
    ),
    FindingDef("busiest_load_ratio", "balance", "ratio", "Load for capacity of the busiest replica, over the mean."),
    FindingDef(
        "duration_variation_ratio", "balance", "ratio", "Deviation of the durations of requests over their mean."
    ),
    FindingDef("share_moved_ratio", "balance", "ratio", "Largest change of a replica's share that is asked for.", 1.0),
    FindingDef("waiting_share_ratio", "balance", "ratio", "Share of the outstanding requests that wait.", 1.0),
    FindingDef("pools_wanted", "routing", "pools", "Pools by length of the prompt; 1 where no split pays."),
    FindingDef("replicas_saved_by_pools", "routing", "replicas", "Replicas fewer than one pool for all needs."),
    FindingDef("replicas_in_one_pool", "routing", "replicas", "Replicas that one pool for all needs."),
    FindingDef("goodput_per_gpu_rps", "tuning", "1/s", "Requests served within the objective, at the best setting."),
    FindingDef("goodput_gain_ratio", "tuning", "ratio", "Goodput per GPU of the best setting above the present one's."),
    FindingDef("trials_made", "tuning", "trials", "Settings that were tried, the present one included."),
    FindingDef("trials_broken", "tuning", "trials", "Trials that broke the objective at the live rate."),
    FindingDef("seqs_wanted", "tuning", "sequences", "`max_num_seqs` that the named replicas should have."),
    FindingDef(
        "batched_tokens_wanted", "tuning", "tokens", "`max_num_batched_tokens` that the named replicas should have."
    ),
    FindingDef(
        "tier_stage",
        "tuning",
        "stage",
        "The same of a trial of KV tiers, with both of those: 0 none; 1 try; 2 give to the rest; 3 take back.",
        3.0,
    ),
    FindingDef("host_gib_wanted", "tuning", "GiB", "Host memory for KV blocks that the named replicas should have."),
    FindingDef("disk_gb_wanted", "tuning", "GB", "Disk for KV blocks that the named replicas should have."),
    FindingDef("tier_tokens_ratio", "tuning", "ratio", "Prompt tokens that came from the canary's KV tiers.", 1.0),
    FindingDef("canary_ttft_ratio", "tuning", "ratio", "Mean TTFT of the canary over that of the rest."),
    FindingDef("trial_stage", "tuning", "stage", "0 none; 1 try on one replica; 2 give to the rest; 3 take back.", 3.0),
    FindingDef("pressure_score", "pressure", "points", "How short memory is: 40 medium, 60 high, 80 critical.", 100.0),
    FindingDef("pressure_level", "pressure", "level", "0 low, 1 medium, 2 high, 3 critical.", 3.0),
    FindingDef(
        "pressure_known_ratio",
        "pressure",
        "ratio",
        "Share of the points of which anything was told; the rest is unknown.",
        1.0,
    ),
    FindingDef("pressure_kv_points", "pressure", "points", "Points of the score for the use of the KV cache.", 100.0),
    FindingDef("pressure_preemption_points", "pressure", "points", "Points for preemptions.", 100.0),
    FindingDef("pressure_allocation_points", "pressure", "points", "Points for KV transfers without room.", 100.0),
    FindingDef("pressure_truncation_points", "pressure", "points", "Points for answers cut at a limit.", 100.0),
    FindingDef("kv_p95_ratio", "pressure", "ratio", "p95 of the share of KV blocks in use, over five minutes.", 1.0),
    FindingDef("kv_above_s", "pressure", "s", "For how long KV use has been above 80 % without a break."),
    FindingDef("kv_rise_per_min_ratio", "pressure", "ratio/min", "How fast KV use rises, where it does beyond chance."),
    FindingDef("kv_full_in_s", "pressure", "s", "Until the KV cache is full if it goes on rising like this."),
    FindingDef("preempted_ratio", "pressure", "ratio", "Preemptions over preemptions and finished requests.", 1.0),
    FindingDef("restarts_seen", "pressure", "restarts", "Engines that began anew in five minutes, unordered."),
    FindingDef("queue_advised", "pressure", "bool", "1 while a gateway should let requests queue.", 1.0),
    FindingDef("breaker_advised", "pressure", "bool", "1 while a gateway should answer 503.", 1.0),
    FindingDef("context_cut_tokens", "pressure", "tokens", "Longest requests to be taken while KV use is above 90 %."),
    FindingDef(
        "in_flight_wanted",
        "pressure",
        "requests",
        "Requests at once that fill four fifths of the cache; never more than the gateway lets through.",
    ),
    FindingDef("gateway_in_flight", "pressure", "requests", "Most at once at the replicas, by a rule; 0: none set it."),
    FindingDef("in_flight_before", "pressure", "requests", "What that rule found at the gateway; 0: no limit."),
    FindingDef("gateway_context_tokens", "pressure", "tokens", "Longest that is taken, by a rule; 0: none set it."),
    FindingDef("context_tokens_before", "pressure", "tokens", "What that rule found at the gateway; 0: no limit."),
    FindingDef(
        "in_flight_restored",
        "pressure",
        "requests",
        "What that queue may be set to: 0 or what was before where it holds nobody back, else what fits more.",
    ),
    FindingDef(
        "context_tokens_restored",
        "pressure",
        "tokens",
        "What that limit on length may be set back to; not while engines die, a breaker is open, or was a minute ago.",
    ),
    FindingDef(
        "oom_prevented", "pressure", "cases", "Memory forecast to fill in ten minutes; our rules acted; it did not."
    ),
    FindingDef("oom_not_prevented", "pressure", "cases", "The same, and it filled."),
    FindingDef("oom_forecasts_false", "pressure", "cases", "Forecast to fill, nobody acted, and it did not."),
    FindingDef("oom_forecasts_true", "pressure", "cases", "Forecast to fill, nobody acted, and it did."),
    FindingDef("oom_actions_unforeseen", "pressure", "actions", "Acts of those rules while no forecast stood."),
    FindingDef(
        "tier_worth_trying", "tiers", "bool", "1 where a trial of KV tiers is worth it, 0 where it is not.", 1.0
    ),
    FindingDef("tiers_there", "tiers", "bool", "1 where KV tiers beyond the GPU answer already.", 1.0),
    FindingDef("tier_gpu_hit_ratio", "tiers", "ratio", "Tokens found in the GPU's prefix cache, over hours.", 1.0),
    FindingDef(
        "tier_external_hit_ratio", "tiers", "ratio", "Tokens found beyond the GPU, of those looked up there.", 1.0
    ),
    FindingDef("tier_host_hit_ratio", "tiers", "ratio", "Chunks found in CPU memory, of those asked.", 1.0),
    FindingDef("tier_disk_hit_ratio", "tiers", "ratio", "Chunks found below CPU memory, of those asked.", 1.0),
    FindingDef("tier_context_ratio", "tiers", "ratio", "Mean length of requests over `max_model_len`.", 1.0),
    FindingDef("tier_eviction_age_s", "tiers", "s", "Mean age of unused blocks that the GPU gave up."),
    FindingDef("context_now_tokens", "context", "tokens", "The present `max_model_len`."),
    FindingDef("context_p95_tokens", "context", "tokens", "Prompt and output, longest p95 of five minutes in a day."),
    FindingDef("context_wanted_tokens", "context", "tokens", "The same and a fifth: what would be enough."),
    FindingDef("context_saving_ratio", "context", "ratio", "By how much smaller than the present one that is.", 1.0),
    FindingDef("context_refused_ratio", "context", "ratio", "At most this share of requests would be refused.", 1.0),
    FindingDef("context_room_ratio", "context", "ratio", "About this share of the KV in use they hold.", 1.0),
    FindingDef("context_guarantee_ratio", "context", "ratio", "How many more requests of full length surely fit."),
    FindingDef("context_worth_setting", "context", "bool", "1 where people should consider it, 0 where not.", 1.0),
)

FINDINGS: dict[str, FindingDef] = {each.name: each for each in _ALL}


def span_s(name: str) -> int:
    """Seconds that a number of a finding speaks for. Raises KeyError for an unknown one."""
    return KINDS[FINDINGS[name].kind]
