"""Policies side by side on one trace: for each capacity and bandwidth what each hits, writes and saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kvtier import bound
from kvtier.policies import NAMES, Policy, Renting, make
from kvtier.policies.base import Worth
from kvtier.prefill import Disk, Prefill, weigh
from kvtier.simulator import Played, Progress, Prompt, play

OURS = "optiinfra"
ALL = (*NAMES, bound.NAME)
RECOMPUTE_SHARE = 0.25
"""With the goal `time`, a hit that is no faster than computing still counts so much of its computing: it frees GPUs."""


TIME_WEAR = 0.0
"""With the goal `time`, writes are not spared: one must bring `LEAST_HITS` and what its slot costs."""


@dataclass(frozen=True)
class Row:
    """One policy at one capacity and bandwidth. Classic policies load every hit, so that `saved_s` may be negative;
    `optiinfra` and the bound load the leading run of a prompt's hits that saves the most, or none, as an engine can:
    `saved_choosing_s` is that for all. `ttft_*`: modelled seconds to the first token over all prompts, of prefill alone
    (no queueing), without the disk and with it."""

    policy: str
    capacity_bytes: int
    bandwidth_bytes_per_s: float
    slots: int
    asked_blocks: int
    hit_blocks: int
    memory_hit_blocks: int
    loaded_blocks: int
    written_blocks: int
    saved_tokens: int
    saved_s: float
    saved_choosing_s: float
    ttft_mean_without_s: float
    ttft_mean_s: float
    ttft_p95_without_s: float
    ttft_p95_s: float
    hits_of_belady_ratio: float | None = None
    writes_of_lru_ratio: float | None = None


@dataclass(frozen=True)
class Setting:
    """What is compared: block sizes, capacities and bandwidths, and whether ours goes for hits or for `time`."""

    block_tokens: int
    block_bytes: int
    capacities: Sequence[int]
    bandwidths: Sequence[float]
    policies: Sequence[str] = ALL
    memory_slots: int = 0
    latency_s: float = 0.0001
    for_time: bool = False


def compare(
    prompts: Sequence[Prompt],
    prefill: Prefill,
    setting: Setting,
    progress: Callable[[str, float], None] | None = None,
) -> list[Row]:
    """Rows by capacity, then policy, then bandwidth. `progress` is told what runs and the share of all that is done."""
    rows: list[Row] = []
    runs = len(setting.capacities) * len(setting.policies)
    for place, capacity in enumerate(setting.capacities):
        slots = capacity // setting.block_bytes
        found: list[Row] = []
        for number, name in enumerate(setting.policies):
            done = place * len(setting.policies) + number
            told: Progress | None = None
            if progress:
                told = partial(_told, progress, f"{name} at {capacity / 1e9:g} GB", done, runs)
                told(0.0)
            found += _rows(prompts, prefill, setting, name, capacity, slots, told)
        rows += list(_with_ratios(found, bounded=not setting.memory_slots))
    return rows


def _told(progress: Callable[[str, float], None], what: str, done: int, runs: int, share: float) -> None:
    progress(what, (done + share) / runs)


def _rows(
    prompts: Sequence[Prompt],
    prefill: Prefill,
    setting: Setting,
    name: str,
    capacity: int,
    slots: int,
    progress: Progress | None,
) -> Iterator[Row]:
    played: Played | None = None
    for bandwidth in setting.bandwidths:
        disk = Disk(setting.block_bytes, setting.block_tokens, bandwidth, setting.latency_s)
        if name == bound.NAME:
            played = played or bound.belady(prompts, slots, setting.block_tokens)
        elif played is None or (name == OURS and setting.for_time):
            policy = _policy(name, slots, prefill, disk, for_time=setting.for_time)
            played = play(prompts, policy, setting.block_tokens, memory_slots=setting.memory_slots, progress=progress)
        chosen = weigh(played.runs, prefill, disk, choose=True)
        done = chosen if name in (OURS, bound.NAME) else weigh(played.runs, prefill, disk, choose=False)
        yield Row(
            policy=name,
            capacity_bytes=capacity,
            bandwidth_bytes_per_s=bandwidth,
            slots=slots,
            asked_blocks=played.asked_blocks,
            hit_blocks=played.hit_blocks,
            memory_hit_blocks=played.memory_hit_blocks,
            loaded_blocks=done.loaded_blocks,
            written_blocks=played.written_blocks,
            saved_tokens=played.saved_tokens,
            saved_s=float(done.saved_s.sum()),
            saved_choosing_s=float(chosen.saved_s.sum()),
            ttft_mean_without_s=float(done.without_s.mean()),
            ttft_mean_s=float(done.with_s.mean()),
            ttft_p95_without_s=float(np.quantile(done.without_s, 0.95)),
            ttft_p95_s=float(np.quantile(done.with_s, 0.95)),
        )


def _policy(name: str, slots: int, prefill: Prefill, disk: Disk, *, for_time: bool) -> Policy:
    worth = _worth(name, prefill, disk, for_time=for_time)
    return Renting(slots, worth, wear=TIME_WEAR) if name == OURS and for_time else make(name, slots, worth)


def _worth(name: str, prefill: Prefill, disk: Disk, *, for_time: bool) -> Worth | None:
    """What a hit saves at a position: GDSF counts the computing; ours, for time, what is left of it after loading."""
    whole = disk.block_tokens
    if name == OURS and not for_time:
        return None
    if name != OURS:
        return lambda position: prefill.block_s(position, whole)

    def net(position: int) -> float:
        computing = prefill.block_s(position, whole)
        return max(computing - disk.load_s(whole), RECOMPUTE_SHARE * computing)

    return net


def _with_ratios(rows: Sequence[Row], *, bounded: bool) -> Iterator[Row]:
    """Hits as a share of the bound's and writes as a share of LRU's, where those were played too. The bound knows no
    memory above the disk: below one it bounds nothing (`bounded`)."""
    best = next((row.hit_blocks for row in rows if bounded and row.policy == bound.NAME), 0)
    most = next((row.written_blocks for row in rows if row.policy == "lru"), 0)
    for row in rows:
        yield replace(
            row,
            hits_of_belady_ratio=row.hit_blocks / best if best else None,
            writes_of_lru_ratio=row.written_blocks / most if most else None,
        )
