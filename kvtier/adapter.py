"""vLLM's face of the disk tier: a secondary tier of `TieringOffloadingSpec`, named in `--kv-transfer-config` alone.

    {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": "/mnt/nvme/kv", "cap_gb": 500}

Written for and run on the API of vLLM 0.32 (`SecondaryTierManager` with `LookupResult`, `TransferJob`, `chunk_ids`); it
refuses others by name. The scheduler calls it, so nothing here waits for the disk. A tier that cannot be opened, or
whose disk fails, is one that never has a block: the server lives.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import vllm
from vllm.v1.kv_offload.base import (
    LookupResult,
    Medium,
    OffloadingCounterMetadata,
    OffloadingEvent,
    OffloadingGaugeMetadata,
    OffloadingMetricMetadata,
    OffloadKey,
    ReqContext,
    RequestOffloadingContext,
)
from vllm.v1.kv_offload.file_mapper import FileMapper
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob

from kvtier.engine.errors import TierError
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.terms import Settings, Why
from kvtier.engine.tier import DiskTier

_log = logging.getLogger("vllm.kvtier")

_METRICS = {
    "evicted_blocks": "Blocks that the disk tier gave up for others.",
    "corrupt_blocks": "Blocks of the disk tier whose sum was wrong: none was served.",
    "recovered_blocks": "Blocks that the disk tier found when it was opened.",
    "write_errors": "Writes that the disk refused.",
    "read_errors": "Reads that the disk refused.",
}
_GROUP_BYTES = 4
"""A key ends with the number of its group of layers."""
_PREFIX = "vllm:kv_offload_optiinfra_disk_"


class OptiInfraDiskTier(SecondaryTierManager):
    """A bounded, checked, restart-safe disk tier.

    `cap_gb` (10^9 bytes) bounds the disk. `policy` chooses what stays. `wear_gb_a_day` bounds writes. `readers` and
    `writers` are threads. Every block that is here is loaded: whether computing is faster is not weighed, since vLLM
    stops at the first block that is refused, and the first ones are the cheapest to compute.

    Each model, layout and version of vLLM has a folder of its own below `root_dir`, and each folder has the whole cap:
    remove those of a former version. A setting that is unknown or wrong keeps the tier closed, and the log says why.
    """

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        root_dir: str,
        cap_gb: float,
        policy: str = "optiinfra",
        readers: int = 8,
        writers: int = 4,
        wear_gb_a_day: float | None = None,
        enable_kv_events: bool = False,
        locality: str | None = None,
        backpressure_detector: Any = None,
        **unknown: Any,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        self._tokens = offloading_spec.tokens_per_block[0] * offloading_spec.blocks_per_chunk
        self._events_on = enable_kv_events and offloading_spec.kv_events_config.enable_kv_cache_events
        self._memory = primary_kv_view.cast("B")
        self._loads: dict[int, list[OffloadKey]] = {}
        self._tier: DiskTier | None = None
        self._shed: list[JobResult] = []
        self._told: dict[str, int] = {}
        try:
            if unknown:
                raise ValueError(f"it has no setting {', '.join(unknown)}")
            layout = _layout(root_dir, offloading_spec)
            settings = Settings(
                cap_bytes=int(cap_gb * 1e9),
                slot_bytes=self.block_size_bytes,
                layout=layout,
                policy=policy,
                wear_bytes_a_day=None if wear_gb_a_day is None else int(wear_gb_a_day * 1e9),
            )
            folder = Path(root_dir) / hashlib.sha256(layout.encode()).hexdigest()[:16]
            with ExitStack() as opened:
                tier = opened.enter_context(DiskTier(folder, settings))
                self._jobs = Jobs(tier, readers=readers, writers=writers)
                opened.pop_all()
        except Exception as error:  # noqa: BLE001  whatever is wrong with the settings, the server lives
            traceback = not isinstance(error, TierError | OSError | ValueError)
            _log.error("The disk tier stays closed, and every lookup misses: %s", error, exc_info=traceback)
            return
        self._tier = tier
        found = tier.fill()
        _log.info("Disk tier at %s: %d of %d slots hold a block", folder, found.blocks, found.slots)

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        return LookupResult.HIT if self._tier is not None and self._tier.holds(bytes(key)) else LookupResult.MISS

    def submit_store(self, job_metadata: TransferJob) -> None:
        blocks = self._blocks(job_metadata)
        if self._tier is None or not self._jobs.store(job_metadata.job_id, blocks):
            self._shed.append(JobResult(job_metadata.job_id, success=False))

    def submit_load(self, job_metadata: TransferJob) -> None:
        if self._tier is None:
            self._shed.append(JobResult(job_metadata.job_id, success=False))
            return
        self._loads[job_metadata.job_id] = list(job_metadata.keys)
        self._jobs.load(job_metadata.job_id, self._blocks(job_metadata))

    def get_finished_jobs(self) -> Iterable[JobResult]:
        results, self._shed = self._shed, []
        for ended in self._jobs.ended() if self._tier is not None else ():
            keys = self._loads.pop(ended.job_id, [])
            loaded = [key for key, why in zip(keys, ended.answers, strict=False) if why is Why.DONE]
            results.append(
                JobResult(
                    ended.job_id,
                    success=ended.success,
                    successful_keys=tuple(loaded) if loaded and not ended.success else None,
                    transfer_time=ended.took_s,
                    transfer_bytes=ended.moved_bytes,
                )
            )
        return results

    def has_pending_work(self) -> bool:
        return bool(self._shed) or (self._tier is not None and self._jobs.pending)

    def take_events(self) -> Iterable[OffloadingEvent]:
        if self._tier is None or not self._events_on:
            return
        for event in self._tier.events():
            yield OffloadingEvent(
                keys=[OffloadKey(event.key)], medium=self.medium, removed=not event.stored, ownership=self.tier_type
            )

    def drain_jobs(self) -> None:
        if self._tier is not None:
            self._jobs.drain()

    def shutdown(self) -> None:
        if self._tier is not None:
            self._jobs.close()
            self._tier.close()
        self._memory.release()

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, OffloadingMetricMetadata]:
        counters: dict[str, OffloadingMetricMetadata] = {
            _PREFIX + name: OffloadingCounterMetadata(documentation=doc) for name, doc in _METRICS.items()
        }
        gauges = {"blocks": "Blocks that the disk tier holds.", "slots": "Slots of the disk tier."}
        return counters | {_PREFIX + name: OffloadingGaugeMetadata(documentation=doc) for name, doc in gauges.items()}

    def get_stats(self) -> Any:
        if self._tier is None:
            return None
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats

        stats, counted, fill = OffloadingConnectorStats(), self._tier.counters(), self._tier.fill()
        for name in _METRICS:
            value = getattr(counted, name)
            stats.increase_counter(_PREFIX + name, value - self._told.get(name, 0))
            self._told[name] = value
        stats.set_gauge(_PREFIX + "blocks", fill.blocks)
        stats.set_gauge(_PREFIX + "slots", fill.slots)
        return stats

    def _blocks(self, job: TransferJob) -> list[Block]:
        """The blocks of a job with their places in memory. What came before each in the prompt is read from the
        positions that the scheduler noted for the request."""
        context = job.req_context
        ends = getattr(context, "_offload_key_positions", {})
        before = {(end, bytes(key)[-_GROUP_BYTES:]): key for key, end in ends.items()}
        blocks: list[Block] = []
        for key, chunk in zip(job.keys, job.chunk_ids, strict=True):
            end = context.get_offload_key_position(key)
            start = 0 if end is None else max(0, end - self._tokens)
            parent = before.get((start, bytes(key)[-_GROUP_BYTES:])) if start else None
            at = int(chunk) * self.block_size_bytes
            data = self._memory[at : at + self.block_size_bytes]
            blocks.append(Block(bytes(key), data, None if parent is None else bytes(parent), start, self._tokens))
        return blocks


def _layout(root_dir: str, spec: Any) -> str:
    """What the bytes of a block depend on: blocks are shared by servers for which all of this is the same."""
    fields = FileMapper.from_offloading_spec(
        root_dir, spec, spec.blocks_per_chunk, parallel_agnostic=True
    ).get_run_config()
    fields["kv_cache_layout"] = getattr(spec.config, "kv_cache_layout", None)
    fields["model_revision"] = getattr(spec.config.model, "revision", None)
    fields["vllm_version"] = getattr(vllm, "__version__", None)
    return json.dumps(fields, sort_keys=True, default=str)
