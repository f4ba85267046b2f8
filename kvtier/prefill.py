"""How long a block takes to compute, and to load: which of the two is faster depends on where in the prompt it lies.

Computing a token costs two operations for each active parameter, and its attention four for each earlier token and each
number of a query. So a block far into a prompt costs more to compute, while its bytes, and the time to load them, are
the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.laws.kv_bytes import kv_shape
from kvtier.simulator import Played
from kvtier.sizes import active_parameters, need, text_of

FLOPS_PER_S = 8 * 989e12 * 0.5
"""Eight H100 at half of their dense 16-bit peak (NVIDIA's data sheet: 989 TFLOP/s each)."""


@dataclass(frozen=True)
class Prefill:
    """Operations of a model's prompts, and how many a second the GPUs of a replica do."""

    token_flops: float
    full_pair_flops: float
    sliding_pair_flops: float = 0.0
    window: int = 0
    flops_per_s: float = FLOPS_PER_S

    def block_s(self, position: int, tokens: int) -> float:
        """Seconds to compute `tokens` tokens that come after `position` others."""
        pairs = self.full_pair_flops * position + self.sliding_pair_flops * min(position, self.window)
        return tokens * (self.token_flops + pairs) / self.flops_per_s


def prefill_of(config: Mapping[str, Any], flops_per_s: float = FLOPS_PER_S, where: str = "config.json") -> Prefill:
    """From a configuration. Raises ConfigError, which names the key that is missing.

    Of Llama-3-70B, block i of 512 tokens takes 7.2e13 + 6.9e11 i operations.
    """
    shape, text = kv_shape(config, where=where), text_of(config)
    heads = need(text, "num_attention_heads", where)
    size = shape.head_dim or need(text, "qk_nope_head_dim", where) + need(text, "qk_rope_head_dim", where)
    pair = 4.0 * heads * size
    return Prefill(
        2.0 * active_parameters(config, where),
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


def saved_s(done: Played, prefill: Prefill, disk: Disk, *, choose: bool) -> float:
    """Seconds of prefill that the hits save, their loading taken off. `choose`: a block that is faster to compute is
    computed, and saves nothing; else all are loaded, and such a block costs time."""
    total = 0.0
    for (position, tokens), times in done.hits.items():
        gain = prefill.block_s(position, tokens) - disk.load_s(tokens)
        total += times * (max(0.0, gain) if choose else gain)
    return total


def loaded_blocks(done: Played, prefill: Prefill, disk: Disk) -> int:
    """Hits that are faster to load than to compute."""
    return sum(
        times
        for (position, tokens), times in done.hits.items()
        if prefill.block_s(position, tokens) > disk.load_s(tokens)
    )
