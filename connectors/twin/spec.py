"""The settings of one replica, named as vLLM's flags, refused where they cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from connectors.twin.kv import blocks_of
from connectors.twin.profiles import BLOCK_TOKENS, LLAMA_70B_4XH100, PROFILES, Profile, profile
from contracts.errors import ConfigError

FLAGS = ("max_num_seqs", "max_num_batched_tokens")
"""Settings that one replica can be given by itself."""


@dataclass(frozen=True)
class EngineSpec:
    """One replica's settings, named as vLLM's flags. A budget of 512 tokens keeps an iteration below 100 ms, so that
    prompt chunks do not hold up decoding requests beyond the default inter-token objective.

    `hash_tokens` are the tokens that one block hash of a request stands for, whole KV blocks."""

    profile: Profile = LLAMA_70B_4XH100
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int = 16_384
    kv_blocks: int = field(default_factory=LLAMA_70B_4XH100.kv_blocks)
    hash_tokens: int = BLOCK_TOKENS

    @classmethod
    def of(
        cls,
        name: str,
        *,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 512,
        max_model_len: int = 16_384,
        hash_tokens: int = BLOCK_TOKENS,
    ) -> EngineSpec:
        """Settings on the profile of that name, with all the KV blocks that it has room for."""
        chosen = profile(name)
        return cls(chosen, max_num_seqs, max_num_batched_tokens, max_model_len, chosen.kv_blocks(), hash_tokens)

    @classmethod
    def holding(
        cls, name: str, longest_tokens: int, *, max_num_batched_tokens: int = 512, hash_tokens: int | None = None
    ) -> EngineSpec:
        """The same for requests of up to so many tokens, prompt and answer, or as many as the cache can hold of one."""
        room = profile(name).kv_blocks() * BLOCK_TOKENS
        return cls.of(
            name,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=min(room, max(cls.max_model_len, longest_tokens)),
            hash_tokens=hash_tokens or BLOCK_TOKENS,
        )

    def having(self, settings: Mapping[str, float]) -> EngineSpec:
        """The same with other flags; ConfigError for one that there is not, and for values that cannot work."""
        if unknown := settings.keys() - set(FLAGS):
            what = f"no engine setting {', '.join(map(repr, sorted(unknown)))}"
            raise ConfigError(what, where="twin", fix=f"There are {', '.join(FLAGS)}.")
        if odd := {flag: value for flag, value in settings.items() if value != int(value) or value < 1}:
            raise ConfigError(f"engine settings {odd}", where="twin", fix="Give whole numbers above zero.")
        flags = {**self.flags, **settings}
        return replace(
            self,
            max_num_seqs=int(flags["max_num_seqs"]),
            max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
        )

    @property
    def flags(self) -> dict[str, float]:
        """The settings of FLAGS as they are."""
        return {flag: float(getattr(self, flag)) for flag in FLAGS}

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
        if self.hash_tokens < BLOCK_TOKENS or self.hash_tokens % BLOCK_TOKENS:
            raise ConfigError(
                f"a block hash cannot stand for {self.hash_tokens} tokens",
                where="hash_tokens",
                fix=f"Give a multiple of {BLOCK_TOKENS}.",
            )


def degrees(engine: str) -> tuple[int, ...]:
    """The degrees of tensor parallelism that were measured for `model/hardware`; ConfigError names those there are.

    >>> degrees("llama2-70b/h100-80gb")
    (2, 4, 8)
    """
    found = sorted(int(name.rpartition("/tp")[2]) for name in PROFILES if name.startswith(f"{engine}/tp"))
    if not found:
        known = sorted({name.rpartition("/tp")[0] for name in PROFILES})
        raise ConfigError(f"no engine {engine!r}", where="twin", fix=f"Engines: {', '.join(known)}.")
    return tuple(found)
