"""Tries tiers of some sizes on recorded traffic: who holds what, what loading saves, what is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvtier.planner_replica import Replica, Traffic
from kvtier.policies import make
from kvtier.policies.base import Key
from kvtier.prefill import Disk, weigh
from kvtier.simulator import Lru, Played, Progress, Prompt, Tiers, play_at

POLICY = "optiinfra"
_FOLLOWS = 0.5
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Fleet:
    """`shared`: one disk for all replicas, else each its own. `sticky`: a prompt goes where its beginning was served
    last, else replicas take turns."""

    replicas: int = 1
    shared: bool = False
    sticky: bool = False

    @property
    def disks(self) -> int:
        """Disks there are."""
        return 1 if self.shared else self.replicas


@dataclass(frozen=True)
class Reuse:
    """What there is to be held. `reused_ratio`: blocks that came before, with all before them, of all; `distinct`
    blocks."""

    distinct: int
    reused_ratio: float


@dataclass(frozen=True)
class Trial:
    """Tiers of `memory_bytes` for each replica and `disk_bytes` for each disk. Ratios are of all blocks that prompts
    asked for; seconds of prefill over the whole trace; TTFT without queueing. What is written a day is at the pace of
    the second half, with the tiers filled; it and the time for which a disk reads are at the pace that the fleet keeps,
    which is below the trace's where that is too much for it."""

    memory_bytes: int
    disk_bytes: int
    gpu_hit_ratio: float
    memory_hit_ratio: float
    disk_hit_ratio: float
    prefill_s: float
    saved_s: float
    saved_always_loading_s: float
    saved_ratio: float
    saved_ratio_second_half: float
    ttft_mean_without_s: float
    ttft_mean_s: float
    ttft_p95_without_s: float
    ttft_p95_s: float
    written_bytes_a_day: float
    drive_writes_a_day: float
    disk_read_busy_ratio: float


def reuse(prompts: Sequence[Prompt]) -> Reuse:
    """What a tier without bounds would hit."""
    seen: set[Key] = set()
    asked = hits = 0
    for keys, _ in prompts:
        asked += len(keys)
        hits += next((place for place, key in enumerate(keys) if key not in seen), len(keys))
        seen.update(keys)
    return Reuse(len(seen), hits / max(1, asked))


def places(prompts: Sequence[Prompt], fleet: Fleet) -> list[int]:
    """The replica of each prompt. Sticky: where its longest known beginning was served last, if that is half of it, as
    routers by prefix do; else in turns."""
    if not fleet.sticky:
        return [number % fleet.replicas for number in range(len(prompts))]
    served: dict[Key, int] = {}
    chosen: list[int] = []
    turn = 0
    for keys, _ in prompts:
        known = next((place for place in range(len(keys) - 1, -1, -1) if keys[place] in served), -1)
        if (known + 1) >= _FOLLOWS * len(keys) and known >= 0:
            where = served[keys[known]]
        else:
            where, turn = turn, (turn + 1) % fleet.replicas
        served.update(dict.fromkeys(keys, where))
        chosen.append(where)
    return chosen


def played(
    traffic: Traffic,
    replica: Replica,
    fleet: Fleet,
    where: Sequence[int],
    memory_bytes: int,
    disk_slots: int,
    progress: Progress | None = None,
) -> Played:
    """The trace on the fleet. The disk's policy goes for hits, so that what it holds does not hang on bandwidth."""
    memory_slots = memory_bytes // replica.block_bytes
    one = make(POLICY, disk_slots) if disk_slots and fleet.shared else None
    tiers = [
        Tiers(
            Lru(replica.gpu_slots),
            Lru(memory_slots),
            one if fleet.shared or not disk_slots else make(POLICY, disk_slots),
        )
        for _ in range(fleet.replicas)
    ]
    return play_at(traffic.prompts, tiers, replica.block_tokens, places=where, progress=progress)


def measured(
    done: Played,
    traffic: Traffic,
    replica: Replica,
    fleet: Fleet,
    memory_bytes: int,
    disk_bytes: int,
    bytes_per_s: float,
    latency_s: float,
) -> Trial:
    """What came of it on disks that read so fast."""
    disk = disk_of(replica, bytes_per_s, latency_s)
    best = weigh(done.runs, replica.prefill, disk, choose=True, memory=replica.memory)
    always = weigh(done.runs, replica.prefill, disk, choose=False, memory=replica.memory)
    asked, half = max(1, done.asked_blocks), len(done.runs) // 2
    without, left = (np.maximum(each, replica.step_s) for each in (best.without_s, best.with_s))
    prefill_s, late_s = float(best.without_s.sum()), float(best.without_s[half:].sum())
    saved_s = float(best.saved_s.sum())
    took_s = max(traffic.span_s, (prefill_s - saved_s + replica.decode_s(traffic)) / fleet.replicas)
    written = 2 * done.late_written_blocks * replica.block_bytes * _DAY_S / took_s
    return Trial(
        memory_bytes=memory_bytes,
        disk_bytes=disk_bytes,
        gpu_hit_ratio=done.gpu_hit_blocks / asked,
        memory_hit_ratio=done.memory_hit_blocks / asked,
        disk_hit_ratio=done.hit_blocks / asked,
        prefill_s=prefill_s,
        saved_s=saved_s,
        saved_always_loading_s=float(always.saved_s.sum()),
        saved_ratio=saved_s / prefill_s if prefill_s else 0.0,
        saved_ratio_second_half=float(best.saved_s[half:].sum()) / late_s if late_s else 0.0,
        ttft_mean_without_s=float(without.mean()),
        ttft_mean_s=float(left.mean()),
        ttft_p95_without_s=float(np.quantile(without, 0.95)),
        ttft_p95_s=float(np.quantile(left, 0.95)),
        written_bytes_a_day=written,
        drive_writes_a_day=written / (disk_bytes * fleet.disks) if disk_bytes else 0.0,
        disk_read_busy_ratio=best.disk_s / took_s / fleet.disks if disk_bytes else 0.0,
    )


def disk_of(replica: Replica, bytes_per_s: float, latency_s: float) -> Disk:
    """Loading from the disk goes over the host's memory and the link to the GPUs: the slower of both sets the pace."""
    slower = min(bytes_per_s, replica.memory.bytes_per_s)
    return Disk(replica.block_bytes, replica.block_tokens, slower, latency_s)
