"""GPUs as a plan needs them: memory, speed and price of each kind, from data sheets and a price list.

Speeds: NVIDIA's data sheets (A100, H100, H200, HGX B200, L4, L40S, A10G), dense 16-bit tensor operations, which are
half of the figures with sparsity. Memory in MiB as drivers report it; of L4, A10G and L40S what the EC2 API lists, some
hundred MiB less than the driver. Prices: AWS on demand, us-east-1, 2026-07 (p4d,
p4de, p5, p5en, p6-b200, g6, g6e, g5), an instance's price shared by its GPUs. Link to the host: four fifths of what one
direction of PCIe 4 or 5 with 16 lanes carries.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import ConfigError

_PCIE4, _PCIE5 = 25e9, 50e9


@dataclass(frozen=True)
class Gpu:
    """One GPU. `flops_per_s`: dense 16-bit peak; `fp8_times` that is its peak in 8-bit floats; `usd_per_h`: a typical
    list price."""

    name: str
    memory_bytes: int
    flops_per_s: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    usd_per_h: float
    fp8_times: float = 2.0


GPUS = {
    each.name: each
    for each in (
        Gpu("A100-40", 40_960 * 2**20, 312e12, 1.555e12, _PCIE4, 2.745, fp8_times=1.0),
        Gpu("A100-80", 81_920 * 2**20, 312e12, 2.039e12, _PCIE4, 3.431, fp8_times=1.0),
        Gpu("H100", 81_559 * 2**20, 989e12, 3.35e12, _PCIE5, 6.88),
        Gpu("H200", 143_771 * 2**20, 989e12, 4.8e12, _PCIE5, 7.912),
        Gpu("B200", 183_359 * 2**20, 2.25e15, 8e12, _PCIE5, 14.242),
        Gpu("L4", 22_888 * 2**20, 121e12, 0.3e12, _PCIE4, 0.8048),
        Gpu("L40S", 45_776 * 2**20, 362e12, 0.864e12, _PCIE4, 1.861),
        Gpu("A10G", 22_888 * 2**20, 70e12, 0.6e12, _PCIE4, 1.006, fp8_times=1.0),
    )
}
"""By name, as `--gpu` takes it."""


def gpu(name: str) -> Gpu:
    """A GPU by name, in any case. Raises ConfigError, which names those there are.

    >>> gpu("h100").flops_per_s
    989000000000000.0
    """
    found = {each.lower(): one for each, one in GPUS.items()}.get(name.strip().lower())
    if found is None:
        raise ConfigError(f"no GPU {name!r}", where="--gpu", fix=f"One of {', '.join(GPUS)}.")
    return found
