"""Engine settings, what a trial of one shows, and who runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, order=True)
class Setting:
    """One replica's settings, named as vLLM's flags; `tensor_parallel` is also how many GPUs it takes. Its KV tiers:
    `kv_offloading_size`, GiB of host memory, and `kv_disk_gb`, GB of disk behind that; 0 is none."""

    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel: int
    kv_offloading_size: int = 0
    kv_disk_gb: int = 0

    def __str__(self) -> str:
        words = f"{self.max_num_seqs} seqs, {self.max_num_batched_tokens} tokens, TP {self.tensor_parallel}"
        return f"{words}, {in_words(self.tiers)}" if any(self.tiers) else words

    @property
    def tiers(self) -> tuple[int, int]:
        """GiB of host memory, and GB of disk, for KV blocks."""
        return self.kv_offloading_size, self.kv_disk_gb


def in_words(tiers: tuple[int, int]) -> str:
    """Tiers as they are spoken of.

    >>> in_words((64, 500)), in_words((0, 0))
    ('KV tiers of 64 GiB host memory and 500 GB disk', 'no KV tiers')
    """
    return f"KV tiers of {tiers[0]} GiB host memory and {tiers[1]} GB disk" if any(tiers) else "no KV tiers"


@dataclass(frozen=True)
class Measured:
    """What a trial of one replica showed.

    `goodput_rps`: the most requests a second at which the objective was kept. `ttft_ratio`, `itl_ratio`: at the rate of
    live traffic, the latency at the objective's quantile over its limit; above 1 the objective is broken.
    `running`: requests in the batch at the live rate, on average. `noise_ratio`: the relative standard error of each;
    `latency_noise_ratio`: of the two latencies, where that is another.
    """

    goodput_rps: float
    ttft_ratio: float
    itl_ratio: float
    running: float = 0.0
    noise_ratio: float = 0.03
    latency_noise_ratio: float | None = None

    @property
    def kept(self) -> bool:
        """Whether live traffic would have had its objective."""
        return max(self.ttft_ratio, self.itl_ratio) <= 1.0


class Runner(Protocol):
    """Tries a setting, on a simulation or on one replica beside the rest."""

    def run(self, setting: Setting) -> Measured:
        """What this setting showed."""
        ...


@dataclass(frozen=True)
class Tried:
    """A setting and what it showed."""

    setting: Setting
    measured: Measured

    @property
    def per_gpu_rps(self) -> float:
        """Goodput for each GPU."""
        return self.measured.goodput_rps / self.setting.tensor_parallel
