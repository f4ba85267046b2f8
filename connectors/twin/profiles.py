"""The kinds of replica that were measured: a model, the GPUs it is spread over, its times, and its room for KV cache.

The twin's answer key: nothing outside `connectors/twin` may read it.

Source of times: `perf_model.csv` of shashwatj07/SageServe (MIT, SplitwiseSim lineage): prompts of 128 to 8192 tokens
at batch 1, batches of 2 to 64 at 512 tokens, outputs of 128 to 8192 tokens. `make bench NAME=calibration` makes these
numbers again, and tells their error on measurements kept out of the fit. Relative least squares, each (prompt, batch)
counting the same; the terms are told in `coefficients`. The table varies the context at batch 1 only, so the context
term is weak evidence: from 1.1 to 1.8 times what reading the cache at a GPU's memory bandwidth would cost on two GPUs,
on four H100 and for BLOOM, and 9 to 17 times for the others.

Source of sizes: the models' published shapes, weights and cache in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.twin.coefficients import Coefficients
from contracts.errors import ConfigError
from contracts.laws.kv_bytes import KvShape

BLOCK_TOKENS = 16
"""Tokens in a KV block: vLLM's default on CUDA."""

GPU_MEMORY_UTILIZATION = 0.9
"""Share of the GPUs' memory that an engine takes: vLLM's default at the time of the pages the twin copies."""

READ_BYTES_PER_S = 5_000_000_000
"""An assumption: weights come from a local NVMe disk or a fast object store."""

BEGIN_S = 17.0
"""An assumption: seconds from the start of the process that are not reading weights (imports, graph capture)."""

_KV_SHAPE = {
    "llama2-70b": KvShape(full_layers=80, heads=8, head_dim=128),  # 320 KiB a token (GQA)
    "bloom-176b": KvShape(full_layers=70, heads=112, head_dim=128),  # every head has its own: 3.8 MiB
}
_WEIGHT_BYTES = {"llama2-70b": 140_000_000_000, "bloom-176b": 352_000_000_000}


@dataclass(frozen=True)
class Profile:
    """One kind of replica. `gpu_bytes` is the memory of all its GPUs."""

    name: str
    coefficients: Coefficients
    gpu_bytes: int
    weight_bytes: int
    kv_bytes_per_token: int

    def kv_blocks(self, utilization: float = GPU_MEMORY_UTILIZATION) -> int:
        """KV blocks that fit beside the weights; activations are left out, as small against either.

        >>> profile("llama2-70b/h100-80gb/tp4").kv_blocks() * BLOCK_TOKENS
        451648
        """
        room = int(self.gpu_bytes * utilization - self.weight_bytes)
        return max(0, room // (self.kv_bytes_per_token * BLOCK_TOKENS))

    def startup_s(self, read_bytes_per_s: float = READ_BYTES_PER_S) -> float:
        """Event seconds from the start of the process to its first answer, its weights read at that speed.

        Published figures run from under half a minute to several, by disk; every workload may set its own.

        >>> profile("llama2-70b/h100-80gb/tp4").startup_s()
        45.0
        """
        return BEGIN_S + self.weight_bytes / read_bytes_per_s


def _profile(model: str, hardware: str, gpus: int, coefficients: Coefficients) -> Profile:
    return Profile(
        f"{model}/{hardware}/tp{gpus}",
        coefficients,
        gpus * 80_000_000_000,
        _WEIGHT_BYTES[model],
        _KV_SHAPE[model].token_bytes,
    )


# In the order of the fields: prefill (floor, constant, token, pair, token beyond 2048 and 4096), decode (constant,
# request, request beyond 32, token of context); ms.
_MEASURED = (
    _profile(
        "bloom-176b",
        "a100-80gb",
        8,
        Coefficients(76.511, 41.979, 0.23345, 1.7056e-05, 0.15112, -0.011765, 48.138, 0.34775, 0.39439, 0.00036936),
    ),
    _profile(
        "bloom-176b",
        "h100-80gb",
        8,
        Coefficients(48.418, 23.621, 0.10363, 8.5368e-06, 0.085739, -0.037305, 35.745, 0.22737, 0.23829, 0.00016552),
    ),
    _profile(
        "llama2-70b",
        "a100-80gb",
        2,
        Coefficients(81.099, 19.549, 0.35882, 0.0, 0.017253, 0.023231, 55.504, 0.48983, 0.0, 0.0001414),
    ),
    _profile(
        "llama2-70b",
        "a100-80gb",
        4,
        Coefficients(65.673, 24.845, 0.2071, 0.0, 0.096847, 0.038118, 43.624, 0.077757, 0.3384, 0.00036078),
    ),
    _profile(
        "llama2-70b",
        "a100-80gb",
        8,
        Coefficients(66.032, 31.497, 0.12365, 0.0, 0.081082, 0.032609, 44.089, 0.11009, 0.23116, 0.00034399),
    ),
    _profile(
        "llama2-70b",
        "h100-80gb",
        2,
        Coefficients(48.894, 16.017, 0.13642, 4.6283e-06, 0.012827, -0.0059311, 36.894, 0.40734, 0.0, 5.6413e-05),
    ),
    _profile(
        "llama2-70b",
        "h100-80gb",
        4,
        Coefficients(50.997, 15.139, 0.087678, 2.2497e-06, 0.033088, -0.015364, 29.146, 0.21684, 0.22862, 4.4257e-05),
    ),
    _profile(
        "llama2-70b",
        "h100-80gb",
        8,
        Coefficients(53.753, 22.139, 0.053491, 2.2086e-06, 0.062961, -0.022503, 29.654, 0.17263, 0.04936, 0.00020777),
    ),
)

PROFILES = {each.name: each for each in _MEASURED}
"""By name: `model/hardware/tpN`."""


def profile(name: str) -> Profile:
    """A profile by name; ConfigError names those there are."""
    if name not in PROFILES:
        raise ConfigError(f"no profile {name!r}", where="twin", fix=f"Profiles: {', '.join(PROFILES)}.")
    return PROFILES[name]


LLAMA_70B_4XH100 = PROFILES["llama2-70b/h100-80gb/tp4"]
"""What the fleet that comes with OptiInfra runs on."""
