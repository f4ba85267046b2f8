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


KINDS: dict[str, int] = {"sizing": 15, "balance": 30, "routing": 900, "tuning": 120}
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
    FindingDef("canary_ttft_ratio", "tuning", "ratio", "TTFT of the canary over that of the rest, at the objective."),
    FindingDef("trial_stage", "tuning", "stage", "0 none; 1 try on one replica; 2 give to the rest; 3 take back.", 3.0),
)

FINDINGS: dict[str, FindingDef] = {each.name: each for each in _ALL}


def span_s(name: str) -> int:
    """Seconds that a number of a finding speaks for. Raises KeyError for an unknown one."""
    return KINDS[FINDINGS[name].kind]
