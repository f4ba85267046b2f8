"""One replica as a plan sees it: how fast it computes, what fits in its GPUs' cache, and how fast memory is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import ConfigError
from contracts.laws.kv_bytes import kv_shape
from kvtier.planner_gpus import Gpu
from kvtier.prefill import Disk, Prefill, prefill_of
from kvtier.simulator import Prompt
from kvtier.sizes import computes_in_fp8, room

PEAK_SHARE = 0.5
"""Of a GPU's peak that prefill reaches."""

READ_SHARE = 0.7
"""Of a GPU's memory bandwidth that decoding reaches."""

MOST_SEQUENCES = 256
"""Requests that are decoded together at most: vLLM's default."""

_LINK_LATENCY_S = 0.00002


@dataclass(frozen=True)
class Traffic:
    """The prompts of all replicas in order, the seconds that they span, and the tokens that each was answered with."""

    prompts: Sequence[Prompt]
    span_s: float
    output_tokens: Sequence[int]


@dataclass(frozen=True)
class Replica:
    """`gpu_kv_bytes` over all its GPUs. `memory`: what loading a block from the host costs. `step_s`: reading all
    weights once, less than which no prompt takes."""

    gpus: int
    tensor_parallel: int
    usd_per_h: float
    prefill: Prefill
    memory: Disk
    weight_bytes: int
    gpu_kv_bytes: int
    gpu_kv_tokens: int
    token_bytes: int
    memory_bytes_per_s: float

    @property
    def block_bytes(self) -> int:
        """Of a block as tiers store it."""
        return self.memory.block_bytes

    @property
    def block_tokens(self) -> int:
        """Of a block as the trace tells it."""
        return self.memory.block_tokens

    @property
    def gpu_slots(self) -> int:
        """Blocks that fit in the GPUs' cache."""
        return self.gpu_kv_tokens // self.block_tokens

    @property
    def step_s(self) -> float:
        """Seconds to read all weights once."""
        return self.weight_bytes / self.memory_bytes_per_s

    def decode_s(self, traffic: Traffic) -> float:
        """GPU seconds of all answers: weights are read once for all requests that fit together, each request's own
        cache once a token. An estimate, for what share of the GPUs' time prefill is."""
        count = len(traffic.prompts)
        if not count:
            return 0.0
        context = sum(tokens for _, tokens in traffic.prompts) / count + sum(traffic.output_tokens) / count / 2
        together = min(MOST_SEQUENCES, max(1.0, self.gpu_kv_tokens / max(1.0, context)))
        token_bytes = self.weight_bytes / together + context * self.token_bytes
        return sum(traffic.output_tokens) * token_bytes / (self.memory_bytes_per_s * READ_SHARE)


def replica_of(
    config: Mapping[str, Any],
    gpu: Gpu,
    block_tokens: int,
    *,
    gpus: int = 1,
    tensor_parallel: int = 0,
    utilization: float = 0.9,
    peak_share: float = PEAK_SHARE,
    kv_dtype: str = "auto",
    usd_per_gpu_h: float | None = None,
    where: str = "config.json",
) -> Replica:
    """A replica over so many GPUs; `tensor_parallel` 0 is all of them, else the rest is pipeline stages.

    Raises ConfigError where the weights do not fit, or GPUs are no multiple of `tensor_parallel`.
    """
    ranks = tensor_parallel or gpus
    if gpus % ranks:
        raise ConfigError(
            f"{gpus} GPUs are no multiple of {ranks}",
            where="--tensor-parallel",
            fix="Name a degree that divides --gpus, which are the GPUs of one replica.",
        )
    shape = kv_shape(config, kv_dtype=kv_dtype, where=where)
    found = room(
        config,
        gpu.memory_bytes,
        tensor_parallel=ranks,
        pipeline_parallel=gpus // ranks,
        utilization=utilization,
        kv_dtype=kv_dtype,
        where=where,
    )
    links = gpus // ranks if shape.latent else gpus  # MLA's vector goes over each link whole
    block_bytes = shape.block_bytes(block_tokens)
    return Replica(
        gpus=gpus,
        tensor_parallel=ranks,
        usd_per_h=gpus * (gpu.usd_per_h if usd_per_gpu_h is None else usd_per_gpu_h),
        prefill=prefill_of(
            config,
            gpus * gpu.flops_per_s * peak_share,
            where,
            weights_times=gpu.fp8_times if computes_in_fp8(config) else 1.0,
        ),
        memory=Disk(block_bytes, block_tokens, links * gpu.link_bytes_per_s, _LINK_LATENCY_S),
        weight_bytes=found.weights,
        gpu_kv_bytes=found.kv * gpus,
        gpu_kv_tokens=found.kv_tokens,
        token_bytes=shape.token_bytes,
        memory_bytes_per_s=gpus * gpu.memory_bytes_per_s,
    )
