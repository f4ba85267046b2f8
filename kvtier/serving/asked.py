"""What a tier notes of a request while it lives: its prompt's blocks in order, and whether they are to be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GROUP_BYTES = 4
"""A key ends with the number of its group of layers."""


@dataclass
class Asked:
    """One request. `arrived_s`: seconds since 1970. `prompt`: keys of the prompt's whole blocks, once they are
    `known`. `load`: whether to load what the disk has of it, None until that was asked."""

    arrived_s: float
    prompt: tuple[bytes, ...] = ()
    known: bool = False
    load: bool | None = None


def chain(ends: Mapping[bytes, int], tokens: int) -> tuple[bytes, ...]:
    """The keys of a request's blocks in order, of the group of layers that was noted first. `ends`: the token after
    each block, for every block that is known; those that end between blocks of `tokens` tokens are left out."""
    if not ends:
        return ()
    group = next(iter(ends))[-GROUP_BYTES:]
    own = [key for key, end in ends.items() if key.endswith(group) and not end % tokens]
    return tuple(sorted(own, key=ends.__getitem__))


def parents(ends: Mapping[bytes, int]) -> dict[tuple[int, bytes], bytes]:
    """Which block ends at a token, by that token and the group of layers."""
    return {(end, key[-GROUP_BYTES:]): key for key, end in ends.items()}


def thinned(keys: Sequence[bytes], every: int) -> list[bytes]:
    """Every so many-th key and the last: each stands for all before it, so they are the keys of longer blocks."""
    kept = list(keys[every - 1 :: every])
    if len(keys) % every:
        kept.append(keys[-1])
    return kept
