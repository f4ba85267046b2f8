"""How long a block takes to compute, and to load: which of the two is faster depends on where in the prompt it lies.

Computing a token costs two operations for each active parameter, and its attention four for each earlier token and each
number of a query. So a block far into a prompt costs more to compute, while its bytes, and the time to load them, are
the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.laws.kv_bytes import kv_shape
from kvtier.simulator import Run
from kvtier.sizes import FLOPS_PER_S, active_parameters, need, text_of

Seconds = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Prefill:
    """Operations of a model's prompts, and how many a second the GPUs of a replica do; those that run at twice the
    speed count half."""

    token_flops: float
    full_pair_flops: float
    sliding_pair_flops: float = 0.0
    window: int = 0
    flops_per_s: float = FLOPS_PER_S

    def block_s(self, position: int, tokens: int) -> float:
        """Seconds to compute `tokens` tokens that come after `position` others."""
        pairs = self.full_pair_flops * position + self.sliding_pair_flops * min(position, self.window)
        return tokens * (self.token_flops + pairs) / self.flops_per_s


def prefill_of(
    config: Mapping[str, Any],
    flops_per_s: float = FLOPS_PER_S,
    where: str = "config.json",
    *,
    weights_times: float = 1.0,
) -> Prefill:
    """From a configuration. `weights_times`: how much faster products with weights run, as in 8 bits; attention does
    not. Raises ConfigError, which names the key that is missing.

    Of Llama-3-70B, block i of 512 tokens takes 7.2e13 + 6.9e11 i operations.
    """
    shape, text = kv_shape(config, where=where), text_of(config)
    heads = need(text, "num_attention_heads", where)
    size = shape.head_dim or need(text, "qk_nope_head_dim", where) + need(text, "qk_rope_head_dim", where)
    pair = 4.0 * heads * size
    return Prefill(
        2.0 * active_parameters(config, where) / weights_times,
        pair * shape.full_layers,
        pair * shape.sliding_layers,
        shape.window,
        flops_per_s,
    )


@dataclass(frozen=True)
class Disk:
    """What loading costs: a block's bytes at the bandwidth, and a latency for each block."""

    block_bytes: int
    block_tokens: int
    bytes_per_s: float
    latency_s: float = 0.0001

    def load_s(self, tokens: int) -> float:
        """Seconds to load a block that holds so many tokens."""
        return self.latency_s + self.block_bytes * tokens / self.block_tokens / self.bytes_per_s

    def run_s(self, begin: Tokens, end: Tokens) -> Seconds:
        """Seconds to load the blocks from token `begin` up to `end`, of many prompts at once."""
        blocks = -(-end // self.block_tokens) + begin // -self.block_tokens
        seconds: Seconds = self.latency_s * blocks + (end - begin) * self.block_bytes / (
            self.block_tokens * self.bytes_per_s
        )
        return seconds


@dataclass(frozen=True, eq=False)
class Weighed:
    """Prefill of each prompt in seconds, [prompts]: `without_s` what is computed without the tiers that are weighed,
    `saved_s` what they take off that, their loading counted; the blocks that are loaded, and the seconds for which the
    disk reads."""

    without_s: Seconds
    saved_s: Seconds
    loaded_blocks: int
    disk_s: float

    @property
    def with_s(self) -> Seconds:
        """Seconds of loading and computing that are left, [prompts]."""
        return self.without_s - self.saved_s


def weigh(runs: Sequence[Run], prefill: Prefill, disk: Disk, *, choose: bool, memory: Disk | None = None) -> Weighed:
    """What loading saves. An engine loads a leading run of blocks and computes the rest. `choose`: it loads as many of
    those that are held as save the most, or none; else all of them, and may lose time.

    `memory`: what loading from the host's memory costs; without, what memory holds is there for nothing. Within a tier
    a later block saves no less than an earlier one, for loading costs the same and computing more: so the best run
    ends where a tier's whole blocks end, or its partial one, and no other end need be tried.
    """
    if not runs:
        return Weighed(np.zeros(0), np.zeros(0), 0, 0.0)
    tokens, by_gpu, by_memory, held = np.array(runs, dtype=np.int64).T
    begin = by_memory if memory is None else by_gpu
    size = disk.block_tokens
    computing = _Computing(prefill, size, int(tokens.max()))

    def gain(end: Tokens) -> Seconds:
        loads = disk.run_s(np.minimum(end, by_memory), end)
        if memory is not None:
            loads = loads + memory.run_s(by_gpu, np.minimum(end, by_memory))
        return computing.to(end) - computing.to(begin) - loads

    best, most = held, gain(held)
    if choose:
        for end in (held // size * size, by_memory, by_memory // size * size, begin):
            end = np.maximum(end, begin)
            saved = gain(end)
            better = saved >= most
            best, most = np.where(better, end, best), np.where(better, saved, most)
    blocks = int((-(-best // size) + (begin // -size)).sum())
    disk_s = float(disk.run_s(np.minimum(best, by_memory), best).sum())
    return Weighed(computing.to(tokens) - computing.to(begin), most, blocks, disk_s)


class _Computing:
    """Seconds to compute a prompt up to some token, from sums over its blocks."""

    def __init__(self, prefill: Prefill, block_tokens: int, most_tokens: int) -> None:
        self._prefill, self._size = prefill, block_tokens
        begins = range(0, most_tokens + block_tokens, block_tokens)
        self._sums = np.cumsum([0.0, *(prefill.block_s(begin, block_tokens) for begin in begins)])
        self._token_s = np.array([prefill.block_s(begin, 1) for begin in (*begins, 0)])

    def to(self, end: Tokens) -> Seconds:
        """Seconds for the tokens before `end`."""
        blocks, rest = end // self._size, end % self._size
        seconds: Seconds = self._sums[blocks] + rest * self._token_s[blocks]
        return seconds
