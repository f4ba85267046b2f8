"""The settings of one replica, named as vLLM's flags, refused where they cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from connectors.twin.kv import blocks_of
from connectors.twin.profiles import BLOCK_TOKENS, LLAMA_70B_4XH100, PROFILES, Profile, profile
from connectors.twin.tiers import GB, GIB, Store, Tiers, TierSpec
from contracts.errors import ConfigError

TIER_FLAGS = ("kv_offloading_size", "kv_disk_gb")
FLAGS = ("max_num_seqs", "max_num_batched_tokens", *TIER_FLAGS)
"""Settings that one replica can be given by itself; of those for KV tiers 0 is none."""


@dataclass(frozen=True)
class EngineSpec:
    """One replica's settings, named as vLLM's flags. A budget of 512 tokens keeps an iteration below 100 ms, so that
    prompt chunks do not hold up decoding requests beyond the default inter-token objective.

    `hash_tokens` are the tokens that one block hash of a request stands for, whole KV blocks. `kv_offloading_size`: GiB
    of host memory for KV blocks (vLLM's flag), `kv_disk_gb`: GB of disk behind it (no flag of vLLM's: the cap of a
    secondary tier); `below`: what the machine makes of them."""

    profile: Profile = LLAMA_70B_4XH100
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_model_len: int = 16_384
    kv_blocks: int = field(default_factory=LLAMA_70B_4XH100.kv_blocks)
    hash_tokens: int = BLOCK_TOKENS
    kv_offloading_size: int = 0
    kv_disk_gb: int = 0
    below: TierSpec = field(default_factory=TierSpec)

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
        least = {flag: 0 if flag in TIER_FLAGS else 1 for flag in FLAGS}
        if odd := {flag: value for flag, value in settings.items() if value != int(value) or value < least[flag]}:
            raise ConfigError(
                f"engine settings {odd}", where="twin", fix="Give whole numbers: above 0, of tiers 0 or more."
            )
        flags = {**{flag: getattr(self, flag) for flag in FLAGS}, **settings}
        return replace(
            self,
            max_num_seqs=int(flags["max_num_seqs"]),
            max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
            kv_offloading_size=int(flags["kv_offloading_size"]),
            kv_disk_gb=int(flags["kv_disk_gb"]),
        )

    @property
    def flags(self) -> dict[str, float]:
        """The settings of FLAGS as they are; tiers only where there are any."""
        found = {flag: float(getattr(self, flag)) for flag in FLAGS}
        return {flag: value for flag, value in found.items() if value or flag not in TIER_FLAGS}

    @property
    def starts(self) -> bool:
        """Whether the machine has the host memory that it asks for."""
        return self.kv_offloading_size <= self.below.host_room_gib

    def tiers(self, disk: Store | None = None) -> Tiers | None:
        """The KV tiers of a new process, with what an earlier one left on disk; None without tiers."""
        if not self.kv_offloading_size:
            return None
        hash_bytes = self.hash_tokens * self.profile.kv_bytes_per_token
        host_room, disk_room = self.kv_offloading_size * GIB // hash_bytes, self.kv_disk_gb * GB // hash_bytes
        return Tiers(self.below, hash_bytes, host_room, disk_room, disk)

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
        if self.kv_disk_gb and not self.kv_offloading_size:
            raise ConfigError(
                f"{self.kv_disk_gb} GB of disk without host memory to load through",
                where="kv_disk_gb",
                fix="Set kv_offloading_size too.",
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
