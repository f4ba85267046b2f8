"""What the tier tells vLLM's /metrics page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.v1.kv_offload.base import OffloadingCounterMetadata, OffloadingGaugeMetadata, OffloadingMetricMetadata

PREFIX = "vllm:kv_offload_optiinfra_disk_"
COUNTERS = {
    "evicted_blocks": "Blocks that the disk tier gave up for others.",
    "corrupt_blocks": "Blocks of the disk tier whose sum was wrong: none was served.",
    "recovered_blocks": "Blocks that the disk tier found when it was opened.",
    "write_errors": "Writes that the disk refused.",
    "read_errors": "Reads that the disk refused.",
    "recomputed_blocks": "Blocks that the disk tier holds, and that were computed since that is faster.",
    "unrecorded_requests": "Requests that the recording left out.",
}
GAUGES = {"blocks": "Blocks that the disk tier holds.", "slots": "Slots of the disk tier."}


def definitions() -> dict[str, OffloadingMetricMetadata]:
    """Every metric of the tier by its name."""
    counters: dict[str, OffloadingMetricMetadata] = {
        PREFIX + name: OffloadingCounterMetadata(documentation=doc) for name, doc in COUNTERS.items()
    }
    return counters | {PREFIX + name: OffloadingGaugeMetadata(documentation=doc) for name, doc in GAUGES.items()}


class Counted:
    """Counters as what came since the last time, which is how vLLM wants them."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def since_then(self, counters: Mapping[str, int], gauges: Mapping[str, int]) -> Any:
        """vLLM's own object, from the values of all metrics by name."""
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats

        stats = OffloadingConnectorStats()
        for name in COUNTERS:
            stats.increase_counter(PREFIX + name, counters[name] - self._told.get(name, 0))
            self._told[name] = counters[name]
        for name in GAUGES:
            stats.set_gauge(PREFIX + name, gauges[name])
        return stats
