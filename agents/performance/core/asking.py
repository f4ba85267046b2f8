"""What the tuning part of stage `steering` asks for: the numbers of its finding, the replicas, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.performance.core.steering_state import TuningState
from agents.performance.core.trials import Setting

ONE, REST, BACK = 1.0, 2.0, 3.0
"""Stages that a finding asks for: try on one replica, give to the rest, take back."""
TENFOLD = 10
"""What the stage of a trial of KV tiers is told as, among those of engine settings."""
ROOM = 0.8
"""Share of the batches of the others that may be full when a replica is taken out to be set anew."""


@dataclass(frozen=True)
class Asked:
    """What a look came to: the numbers of the finding, the replicas that are to be set anew, and why."""

    values: Mapping[str, float]
    replicas: tuple[str, ...]
    words: str

    @property
    def mark(self) -> tuple[int, tuple[str, ...]]:
        """What tells it from another: the stage, and the replicas."""
        stage = self.values.get("trial_stage", 0.0) + TENFOLD * self.values.get("tier_stage", 0.0)
        return round(stage), self.replicas


def wanted(stage: float, setting: Setting, *, tiers: bool) -> dict[str, float]:
    """The numbers by which rules ask for a setting, with its KV tiers where those are to be set too."""
    if tiers:
        stages = {"trial_stage": 0.0, "tier_stage": stage}
        tiered = {"host_gib_wanted": float(setting.kv_offloading_size), "disk_gb_wanted": float(setting.kv_disk_gb)}
    else:
        stages, tiered = {"trial_stage": stage}, {}
    return {
        **stages,
        **tiered,
        "seqs_wanted": float(setting.max_num_seqs),
        "batched_tokens_wanted": float(setting.max_num_batched_tokens),
    }


def numbers(state: TuningState) -> dict[str, float]:
    """How many trials there were."""
    broken = sum(not each.kept for each in state.past)
    return {"trials_made": float(len(state.past)), "trials_broken": float(broken)}


def crowded(present: Setting, answering: Mapping[str, float]) -> str:
    """Why no replica can be spared while it restarts; empty where one can."""
    held, room = sum(answering.values()), ROOM * present.max_num_seqs * (len(answering) - 1)
    return f"{held:.0f} requests, and one replica fewer has room for {room:.0f}" if held > room else ""
