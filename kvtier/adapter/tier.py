"""The tier as vLLM calls it: lookups and jobs from the scheduler, where nothing may wait for the disk."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from vllm.v1.kv_offload.base import (
    LookupResult,
    Medium,
    OffloadingEvent,
    OffloadingMetricMetadata,
    OffloadKey,
    ReqContext,
    RequestOffloadingContext,
    ScheduleEndContext,
)
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager, TransferJob

from kvtier.adapter.layout import layout_of
from kvtier.adapter.metrics import Counted, definitions
from kvtier.engine.errors import TierError
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.terms import Settings, Why
from kvtier.engine.tier import DiskTier
from kvtier.serving.asked import GROUP_BYTES, Asked, chain, parents
from kvtier.serving.choice import Choice, Computing
from kvtier.serving.leftovers import told
from kvtier.serving.recorder import Recorder

_log = logging.getLogger("vllm.kvtier")


class OptiInfraDiskTier(SecondaryTierManager):
    """A bounded, checked, restart-safe disk tier.

    `cap_gb` (10^9 bytes) bounds the disk. `policy` chooses what stays. `wear_gb_a_day` bounds writes. `readers` and
    `writers` are threads. With `prefill_tokens_per_s`, and `prefill_doubles_at_tokens` where prompts are long
    (`Computing`), a prompt whose blocks are computed faster than loaded, as loads were measured, is computed; without,
    or where a model has several groups of layers or a sliding window, all that is here is loaded. `record` names a file
    for a trace of requests (`Recorder`), up to `record_mb`, with ids of `record_block_tokens` tokens.

    Each model, layout and version of vLLM, and each data-parallel rank, has a folder of its own below `root_dir`, and
    each folder has the whole cap: the log names others that are not in use, which nothing removes. A folder serves one
    process, another finds it locked. A setting that is unknown or wrong keeps the tier closed, and the log says why.
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
        prefill_tokens_per_s: float | None = None,
        prefill_doubles_at_tokens: float = float("inf"),
        record: str | None = None,
        record_mb: float = 100.0,
        record_block_tokens: int | None = None,
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
        self._recorder: Recorder | None = None
        self._shed: list[JobResult] = []
        self._counted = Counted()
        self._new: dict[str, ReqContext] = {}
        self._hinted: Asked | None = None
        self._recomputed = 0
        self._choice = Choice(None)
        try:
            if unknown:
                raise ValueError(f"it has no setting {', '.join(unknown)}")
            rank = offloading_spec.config.parallel.data_parallel_index
            computing: Computing | None = None
            if prefill_tokens_per_s is not None and len(offloading_spec.tokens_per_block) == 1:
                computing = Computing(prefill_tokens_per_s, prefill_doubles_at_tokens)
            self._choice = Choice(computing)
            layout = layout_of(root_dir, offloading_spec)
            settings = Settings(
                cap_bytes=int(cap_gb * 1e9),
                slot_bytes=self.block_size_bytes,
                layout=layout,
                policy=policy,
                wear_bytes_a_day=None if wear_gb_a_day is None else int(wear_gb_a_day * 1e9),
            )
            name = hashlib.sha256(layout.encode()).hexdigest()[:16]
            folder = Path(root_dir) / (f"{name}-rank{rank}" if rank else name)
            with ExitStack() as opened:
                tier = opened.enter_context(DiskTier(folder, settings))
                jobs = Jobs(tier, readers=readers, writers=writers)
                opened.callback(jobs.close)
                if record is not None:
                    file = Path(record)
                    file = file.with_stem(f"{file.stem}-rank{rank}") if rank else file
                    self._recorder = Recorder(file, self._tokens, int(record_mb * 1e6), record_block_tokens)
                opened.pop_all()
        except Exception as error:  # noqa: BLE001  whatever is wrong with the settings, the server lives
            traceback = not isinstance(error, TierError | OSError | ValueError)
            _log.error("The disk tier stays closed, and every lookup misses: %s", error, exc_info=traceback)
            return
        self._tier, self._jobs = tier, jobs
        found, others = tier.fill(), told(Path(root_dir), folder.name)
        _log.info("Disk tier at %s: %d of %d slots hold a block", folder, found.blocks, found.slots)
        if others:
            _log.warning("Disk tiers that nothing removes. Not in use now: %s", others)

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        req_context.set_state(Asked(time.time()))
        self._new[req_context.req_id] = req_context
        return RequestOffloadingContext()

    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        for req_id in context.new_req_ids:
            if new := self._new.pop(req_id, None):
                self._asked(new)  # the blocks that are known now are the prompt's

    def on_request_finished(self, req_context: ReqContext) -> None:
        self._new.pop(req_context.req_id, None)
        asked = self._asked(req_context)
        if self._recorder is not None:
            ends = req_context._offload_key_positions
            answered = len(chain(ends, self._tokens)) - len(asked.prompt)
            self._recorder.note(asked.arrived_s, asked.prompt, answered * self._tokens)

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        if self._choice.open and (end := req_context.get_offload_key_position(key)) is not None:
            self._choice.looked(req_context.req_id, end, self._tokens)
        if self._tier is None or not self._tier.holds(bytes(key)):
            return LookupResult.MISS
        asked = self._asked(req_context)
        if asked.load is None:
            asked.load = self._worth_loading(self._tier, bytes(key), asked)
        return LookupResult.HIT if asked.load or not self._choice.open else LookupResult.MISS

    def submit_store(self, job_metadata: TransferJob) -> None:
        blocks = self._blocks(job_metadata)
        self._hint(job_metadata.req_context)
        if self._tier is None or not self._jobs.store(job_metadata.job_id, blocks):
            self._shed.append(JobResult(job_metadata.job_id, success=False))

    def submit_load(self, job_metadata: TransferJob) -> None:
        if self._tier is None:
            self._shed.append(JobResult(job_metadata.job_id, success=False))
            return
        blocks = self._blocks(job_metadata)
        self._loads[job_metadata.job_id] = [OffloadKey(each.key) for each in blocks]
        self._hint(job_metadata.req_context)
        self._jobs.load(job_metadata.job_id, blocks)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        results, self._shed = self._shed, []
        for ended in self._jobs.ended() if self._tier is not None else ():
            keys = self._loads.pop(ended.job_id, [])
            if not ended.store and ended.success:
                self._choice.saw(keys, ended.moved_bytes, ended.took_s)
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
        if self._recorder is not None:
            self._recorder.close()
        self._memory.release()

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, OffloadingMetricMetadata]:
        return definitions()

    def get_stats(self) -> Any:
        if self._tier is None:
            return None
        unrecorded = 0 if self._recorder is None else self._recorder.unrecorded
        own = {"recomputed_blocks": self._recomputed, "unrecorded_requests": unrecorded}
        return self._counted.since_then(vars(self._tier.counters()) | own, vars(self._tier.fill()))

    def _asked(self, context: ReqContext) -> Asked:
        """What is noted of a request. Until it is scheduled its blocks are its prompt's."""
        asked: Asked | None = context.get_state(Asked)
        if asked is None:
            context.set_state(asked := Asked(time.time()))
        if not asked.known:
            asked.prompt, asked.known = chain(context._offload_key_positions, self._tokens), True
        return asked

    def _worth_loading(self, tier: DiskTier, key: bytes, asked: Asked) -> bool:
        """Whether to load what is here of a prompt from this block on: all of it is, or none."""
        if not self._choice.open or key not in asked.prompt:
            return True
        first = asked.prompt.index(key)
        count = tier.leading(asked.prompt[first:])
        start, end = first * self._tokens, (first + count) * self._tokens
        if self._choice.load(key, start, end, count * self.block_size_bytes):
            return True
        self._recomputed += count
        return False

    def _hint(self, context: ReqContext) -> None:
        """Tell the policy of a request, before its blocks are touched or offered."""
        asked = self._asked(context)
        if self._tier is not None and asked is not self._hinted:
            self._tier.expect(asked.prompt)
            self._hinted = asked

    def _blocks(self, job: TransferJob) -> list[Block]:
        """The blocks of a job with their places in memory, in the order of the prompt: vLLM keeps the keys of a store
        in a set. What came before each is read from the positions that the scheduler noted for the request."""
        context = job.req_context
        before = parents(context._offload_key_positions)
        blocks: list[Block] = []
        for key, chunk in zip(job.keys, job.chunk_ids, strict=True):
            end = context.get_offload_key_position(key)
            start = 0 if end is None else max(0, end - self._tokens)
            parent = before.get((start, bytes(key)[-GROUP_BYTES:])) if start else None
            at = int(chunk) * self.block_size_bytes
            data = self._memory[at : at + self.block_size_bytes]
            blocks.append(Block(bytes(key), data, parent, start, self._tokens))
        return sorted(blocks, key=lambda each: each.position)
