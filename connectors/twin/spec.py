"""The settings of one replica, named as vLLM's flags, refused where they cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.twin.coefficients import LLAMA_70B_4XH100, Coefficients, kv_blocks
from connectors.twin.kv import blocks_of
from contracts.errors import ConfigError


@dataclass(frozen=True)
class EngineSpec:
    """One replica's settings, named as vLLM's flags. A budget of 512 tokens keeps an iteration below 100 ms, so that
    prompt chunks do not hold up decoding requests beyond the default inter-token objective."""

    coefficients: Coefficients = LLAMA_70B_4XH100
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int = 16_384
    kv_blocks: int = field(default_factory=kv_blocks)

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens <= self.max_num_seqs:
            raise ConfigError(
                f"a budget of {self.max_num_batched_tokens} tokens leaves no room for prompts beside"
                f" {self.max_num_seqs} decoding requests",
                where="max_num_batched_tokens",
                fix=f"Set it above {self.max_num_seqs}.",
            )
        if self.kv_blocks < blocks_of(self.max_model_len):
            raise ConfigError(
                f"{self.kv_blocks} KV blocks cannot hold one request of {self.max_model_len} tokens",
                where="kv_blocks",
                fix=f"Give at least {blocks_of(self.max_model_len)} blocks, or lower max_model_len.",
            )
