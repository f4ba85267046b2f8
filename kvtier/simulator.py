"""Plays the prompts of a trace against a disk tier: what a policy hits and writes, and what that saves.

The disk lies below an optional memory tier (LRU), which answers first. A prompt hits the blocks from its first up to
the first that no tier holds, as engines match prefixes; all others are computed, and offered to the disk. In a real
engine the GPU's own blocks come first: with `memory_slots` 0 there are none, so that all hits are the disk's to give.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvtier.policies.base import Key, Policy

Prompt = tuple[Sequence[Key], int]
"""The keys of a prompt's blocks in order, and its tokens; the last block may be a partial one."""

Progress = Callable[[float], None]
"""Told now and then which share of the trace is done."""


@dataclass
class Played:
    """What came of a trace. `hits`: blocks of the disk's by (tokens before the block, tokens in it)."""

    asked_blocks: int = 0
    memory_hit_blocks: int = 0
    written_blocks: int = 0
    evicted_blocks: int = 0
    hits: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def hit_blocks(self) -> int:
        """Blocks that the disk held when a prompt could use them."""
        return self.hits.total()

    @property
    def saved_tokens(self) -> int:
        """Tokens of those blocks."""
        return sum(tokens * times for (_, tokens), times in self.hits.items())


def play(
    prompts: Sequence[Prompt],
    policy: Policy,
    block_tokens: int,
    *,
    memory_slots: int = 0,
    progress: Progress | None = None,
) -> Played:
    """Play all prompts in order. The policy's own slots are the disk's."""
    done, memory = Played(), OrderedDict[Key, None]()
    for number, (keys, tokens) in enumerate(prompts):
        policy.expect(keys)
        done.asked_blocks += len(keys)
        _prompt(keys, tokens, policy, block_tokens, done, memory)
        for key in reversed(keys) if memory_slots else ():
            memory[key] = None
            memory.move_to_end(key)
        while len(memory) > memory_slots:
            memory.popitem(last=False)
        if progress and number % 500 == 0:
            progress(number / len(prompts))
    return done


def _prompt(
    keys: Sequence[Key], tokens: int, policy: Policy, size: int, done: Played, memory: OrderedDict[Key, None]
) -> None:
    prefix, parent, position = True, None, 0
    for key in keys:
        held = min(size, tokens - position)
        if prefix and key in memory:
            done.memory_hit_blocks += 1
        elif key in policy:
            policy.touch(key)
            if prefix:
                done.hits[position, held] += 1
        else:
            prefix = False
            if policy.admit(key, parent, position, held) and _room(policy, done):
                policy.insert(key, parent, position, held)
                done.written_blocks += 1
        parent, position = key, position + size


def _room(policy: Policy, done: Played) -> bool:
    while len(policy) >= policy.slots:
        if policy.evict() is None:
            return False
        done.evicted_blocks += 1
    return True
