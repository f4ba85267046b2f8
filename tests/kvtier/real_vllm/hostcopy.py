"""For tests on machines without a GPU: the tiering spec with a worker that copies blocks in host memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from vllm.v1.kv_offload.base import CanonicalKVCaches, GPULoadStoreSpec, LoadStoreSpec, OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class HostCopyWorker(OffloadingWorker):
    """Copies at once, and says so at the next look. One group of layers, as a plain model has."""

    def __init__(self, caches: CanonicalKVCaches, region: SharedOffloadRegion, blocks_per_chunk: int) -> None:
        self._region, self._blocks = region, blocks_per_chunk
        self._device, self._host = [], []
        for cache in caches.tensors:
            page = cache.page_size_bytes
            tensor = cache.tensor
            self._device.append(tensor.view(-1).view(dtype=_int8()).view(-1, page).numpy())
            self._host.append(region.create_next_worker_view(page * blocks_per_chunk).numpy())
        self._done: list[TransferResult] = []

    def submit_store(self, job_id: int, src_spec: GPULoadStoreSpec, dst_spec: LoadStoreSpec) -> bool:
        return self._copy(job_id, src_spec, dst_spec, to_host=True)

    def submit_load(self, job_id: int, src_spec: LoadStoreSpec, dst_spec: GPULoadStoreSpec) -> bool:
        return self._copy(job_id, dst_spec, src_spec, to_host=False)

    def get_finished(self) -> list[TransferResult]:
        done, self._done = self._done, []
        return done

    def wait(self, job_ids: set[int]) -> None:
        """All jobs are done when they are submitted."""

    def shutdown(self) -> None:
        self._device.clear()
        self._host.clear()
        self._region.cleanup()

    def _copy(self, job_id: int, device: Any, host: Any, *, to_host: bool) -> bool:
        began_s, size = time.monotonic(), 0
        skip = int(device.block_indices[0]) % self._blocks if len(device.block_indices) else 0
        for number, block in enumerate(device.block_ids):
            chunk, part = divmod(number + skip, self._blocks)
            for mine, theirs in zip(self._device, self._host, strict=True):
                page = mine.shape[1]
                kept = theirs[int(host.block_ids[chunk]), part * page : (part + 1) * page]
                if to_host:
                    np.copyto(kept, mine[int(block)])
                else:
                    np.copyto(mine[int(block)], kept)
                size += page
        self._done.append(TransferResult(job_id, True, size, time.monotonic() - began_s))
        return True


class HostCopySpec(TieringOffloadingSpec):
    """The tiers of the real spec over host memory."""

    _worker: OffloadingWorker | None

    def get_worker(self, kv_caches: CanonicalKVCaches) -> OffloadingWorker:
        if self._worker is None:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=0,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = HostCopyWorker(kv_caches, region, self.blocks_per_chunk)
        return self._worker


def _int8() -> Any:
    import torch

    return torch.int8
