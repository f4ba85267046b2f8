"""What no policy can beat: the hits of a tier that knows the future (Belady), with prefixes kept whole.

A block's next use is never before its parent's, so giving up the block that is needed last, the deepest first, keeps
every prefix whole at no cost: the bound for whole prefixes is the bound for blocks. A block that is not needed again is
never taken in, and only blocks that are hit before they leave count as written.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from kvtier.policies.base import Key
from kvtier.simulator import Played, Prompt, Run

NAME = "belady"
_NEVER = 1 << 62


def belady(prompts: Sequence[Prompt], slots: int, block_tokens: int) -> Played:
    """The bound for a tier of so many slots."""
    later = _later(prompts)
    here: dict[Key, int] = {}
    unused: set[Key] = set()
    heap: list[tuple[int, int, int, Key]] = []
    done, pushed = Played(), 0
    for (keys, tokens), uses in zip(prompts, later, strict=True):
        done.asked_blocks += len(keys)
        prefix, held = True, 0
        for depth, (key, use) in enumerate(zip(keys, uses, strict=True)):
            prefix = prefix and key in here
            if prefix:
                position = depth * block_tokens
                held = min(tokens, position + block_tokens)
                done.hits[position, held - position] += 1
                if key in unused:
                    unused.discard(key)
                    done.written_blocks += 1
            if key not in here:
                if use == _NEVER:
                    continue
                unused.add(key)
            here[key] = use
            pushed += 1
            heapq.heappush(heap, (-use, -depth, pushed, key))
        done.runs.append(Run(tokens, 0, 0, held))
        while len(here) > slots:
            use, _, _, key = heapq.heappop(heap)
            if here.get(key) == -use:
                del here[key]
                unused.discard(key)
                done.evicted_blocks += 1
    return done


def _later(prompts: Sequence[Prompt]) -> list[list[int]]:
    """For each block of each prompt, the number of the next prompt that has it."""
    then: dict[Key, int] = {}
    later: list[list[int]] = []
    for number in range(len(prompts) - 1, -1, -1):
        keys = prompts[number][0]
        later.append([then.get(key, _NEVER) for key in keys])
        then.update(dict.fromkeys(keys, number))
    later.reverse()
    return later
