"""Plays the prompts of a trace against tiers of KV cache: what each holds and a policy writes, prompt by prompt.

A prompt goes to a replica: its GPU's cache answers first (LRU), then the host's memory (LRU), then a disk. It hits
the blocks from its first up to the first that no tier holds, as engines match prefixes; all others are computed, kept
above, and offered to the disk. With `gpu_slots` and `memory_slots` 0 all hits are the disk's to give.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvtier.policies.base import Key, Policy

Prompt = tuple[Sequence[Key], int]
"""The keys of a prompt's blocks in order, and its tokens; the last block may be a partial one."""

Progress = Callable[[float], None]
"""Told now and then which share of the trace is done."""

_TOLD_EVERY = 500


class Run(NamedTuple):
    """How far a prompt was held, in tokens from its first: by the GPU, by that or memory, by those or a disk."""

    tokens: int
    gpu_tokens: int
    memory_tokens: int
    held_tokens: int


@dataclass
class Played:
    """What came of a trace. `hits`: blocks of the disk's by (tokens before the block, tokens in it). `runs`: one for
    each prompt, in order. `late_written_blocks`: by the second half of the prompts."""

    asked_blocks: int = 0
    gpu_hit_blocks: int = 0
    memory_hit_blocks: int = 0
    written_blocks: int = 0
    late_written_blocks: int = 0
    evicted_blocks: int = 0
    hits: Counter[tuple[int, int]] = field(default_factory=Counter)
    runs: list[Run] = field(default_factory=list)

    @property
    def hit_blocks(self) -> int:
        """Blocks that the disk held when a prompt could use them."""
        return self.hits.total()

    @property
    def saved_tokens(self) -> int:
        """Tokens of those blocks."""
        return sum(tokens * times for (_, tokens), times in self.hits.items())


class Lru:
    """A tier that keeps what was used last, leaves first to go: so it holds whole prefixes, as an engine's cache."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._here = OrderedDict[Key, None]()

    def __contains__(self, key: object) -> bool:
        return key in self._here

    def use(self, keys: Sequence[Key]) -> None:
        """A prompt's blocks are here now, as far as there is room."""
        if not self.slots:
            return
        here = self._here
        for key in reversed(keys):
            here[key] = None
            here.move_to_end(key)
        while len(here) > self.slots:
            here.popitem(last=False)


@dataclass(frozen=True)
class Tiers:
    """What one replica sees. Replicas may share `disk`; None where there is none."""

    gpu: Lru
    memory: Lru
    disk: Policy | None


def play(
    prompts: Sequence[Prompt],
    policy: Policy,
    block_tokens: int,
    *,
    gpu_slots: int = 0,
    memory_slots: int = 0,
    progress: Progress | None = None,
) -> Played:
    """Play all prompts in order on one replica. The policy's own slots are the disk's."""
    return play_at(prompts, [Tiers(Lru(gpu_slots), Lru(memory_slots), policy)], block_tokens, progress=progress)


def play_at(
    prompts: Sequence[Prompt],
    replicas: Sequence[Tiers],
    block_tokens: int,
    *,
    places: Sequence[int] = (),
    progress: Progress | None = None,
) -> Played:
    """Play all prompts in order on several replicas: `places` numbers the replica of each prompt, else they take
    turns."""
    done = Played()
    early = 0
    for number, (keys, tokens) in enumerate(prompts):
        if number == len(prompts) // 2:
            early = done.written_blocks
        tiers = replicas[places[number] if places else number % len(replicas)]
        _prompt(keys, tokens, tiers, block_tokens, done)
        tiers.gpu.use(keys)
        tiers.memory.use(keys)
        if progress and number % _TOLD_EVERY == 0:
            progress(number / len(prompts))
    done.late_written_blocks = done.written_blocks - early
    return done


def _prompt(keys: Sequence[Key], tokens: int, tiers: Tiers, size: int, done: Played) -> None:
    """One prompt's blocks in order. A disk is told of those that nothing above it answers for."""
    gpu, memory, disk = tiers.gpu, tiers.memory, tiers.disk
    done.asked_blocks += len(keys)
    if disk is not None:
        disk.expect(keys)
    by_gpu = _leading(keys, gpu, 0)
    by_memory = _leading(keys, memory, by_gpu)
    done.gpu_hit_blocks += by_gpu
    done.memory_hit_blocks += by_memory - by_gpu
    held = by_memory
    if disk is not None:
        held = _below(keys, tokens, by_memory, disk, size, done)
    done.runs.append(Run(tokens, *(min(tokens, blocks * size) for blocks in (by_gpu, by_memory, held))))


def _leading(keys: Sequence[Key], tier: Lru, start: int) -> int:
    """The first block from `start` on that the tier does not hold."""
    if not tier.slots:
        return start
    return next((place for place in range(start, len(keys)) if keys[place] not in tier), len(keys))


def _below(keys: Sequence[Key], tokens: int, start: int, disk: Policy, size: int, done: Played) -> int:
    """Tell the disk of the blocks from `start` on; the first that it does not hold."""
    held = len(keys)
    for place in range(start, len(keys)):
        key, position = keys[place], place * size
        inside = min(size, tokens - position)
        if key in disk:
            disk.touch(key)
            if place < held:
                done.hits[position, inside] += 1
            continue
        held = min(held, place)
        parent = keys[place - 1] if place else None
        if disk.admit(key, parent, position, inside) and _room(disk, done):
            disk.insert(key, parent, position, inside)
            done.written_blocks += 1
    return held


def _room(policy: Policy, done: Played) -> bool:
    while len(policy) >= policy.slots:
        if policy.evict() is None:
            return False
        done.evicted_blocks += 1
    return True
