"""Stores and loads in the background: jobs of several blocks, taken at once or shed, and told of when they end."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from kvtier.engine.pools import started
from kvtier.engine.terms import Why
from kvtier.engine.tier import DiskTier

_log = logging.getLogger("vllm.kvtier")


@dataclass(frozen=True)
class Block:
    """One block of a job: `data` is read by a store and filled by a load. What it is, as in `DiskTier.store`."""

    key: bytes
    data: memoryview
    parent: bytes | None = None
    position: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Ended:
    """A job that ended: what became of each block, in order; bytes moved; seconds from its submission."""

    job_id: int
    store: bool
    answers: tuple[Why, ...]
    moved_bytes: int
    took_s: float

    @property
    def success(self) -> bool:
        """Whether every block of a load is there. A store succeeds: a block not worth a write is no failure."""
        return self.store or all(each is Why.DONE for each in self.answers)


class Jobs:
    """Runs jobs over a tier. Stores are shed while more than `most_queued_bytes` of them wait: a disk that is slow
    must not hold the memory that they are read from. Loads are never shed; a load stops at its first missing block,
    since what follows is no use without it. Raises TierError where its threads cannot be started."""

    def __init__(self, tier: DiskTier, *, readers: int = 8, writers: int = 4, most_queued_bytes: int = 2 << 30) -> None:
        self._tier, self._most = tier, most_queued_bytes
        self._readers = started(readers, "kvtier-read")
        try:
            self._writers = started(writers, "kvtier-write")
        except BaseException:
            self._readers.shutdown()
            raise
        self._lock, self._ended, self._queued = Lock(), deque[Ended](), 0
        self._open: set[Future[None]] = set()

    def store(self, job_id: int, blocks: Sequence[Block]) -> bool:
        """Begin to store blocks, in the order of their prompt. False: shed, nothing will be told of it.

        Which are worth a write is decided here, one job after another: a block may stand on one that is yet to be
        written by another thread."""
        began_s, size = monotonic(), sum(each.data.nbytes for each in blocks)
        with self._lock:
            if self._queued and self._queued + size > self._most:
                return False
            self._queued += size
        asked = [
            self._tier.offer(each.key, each.data.nbytes, each.parent, each.position, each.tokens) for each in blocks
        ]
        wanted = dict.fromkeys(each.key for each, why in zip(blocks, asked, strict=True) if why is Why.DONE)

        def forgone() -> None:
            for key in wanted:
                self._tier.forgo(key)

        self._begin(self._writers, lambda: self._run(job_id, began_s, blocks, self._store, asked), size, forgone)
        return True

    def load(self, job_id: int, blocks: Sequence[Block]) -> None:
        """Begin to load blocks, in the order of their prompt. They were needed: those that are here count as hits."""
        began_s = monotonic()
        self._tier.touch(each.key for each in blocks)
        self._begin(self._readers, lambda: self._run(job_id, began_s, blocks, self._load), 0)

    def ended(self) -> list[Ended]:
        """The jobs that ended since the last call."""
        with self._lock:
            told = list(self._ended)
            self._ended.clear()
        return told

    @property
    def pending(self) -> bool:
        """Whether a job is under way, or its end was not yet told."""
        with self._lock:
            return bool(self._open or self._ended)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until all jobs have ended, or the time is over."""
        with self._lock:
            left = tuple(self._open)
        return not wait(left, timeout_s).not_done

    def close(self) -> None:
        """Finish the jobs that have begun, forget the others. The tier stays open."""
        for pool in (self._readers, self._writers):
            pool.shutdown(cancel_futures=True)

    def _begin(
        self, pool: ThreadPoolExecutor, run: Callable[[], None], size: int, forgone: Callable[[], None] | None = None
    ) -> None:
        with self._lock:
            job = pool.submit(run)
            self._open.add(job)

        def over(ended: Future[None]) -> None:
            with self._lock:
                self._open.discard(ended)
                self._queued -= size
            if forgone and ended.cancelled():
                forgone()

        job.add_done_callback(over)

    def _run(
        self,
        job_id: int,
        began_s: float,
        blocks: Sequence[Block],
        one: Callable[[Block], Why],
        asked: Sequence[Why] | None = None,
    ) -> None:
        """All blocks of a job, submitted at `began_s`. `asked`: of a store, what was said to each; those that were
        accepted are written."""
        answers = list[Why]()
        for block, said in zip(blocks, asked or [Why.DONE] * len(blocks), strict=True):
            answers.append(said if said is not Why.DONE else self._tried(one, block))
            if asked is None and answers[-1] is not Why.DONE:
                break
        answers += [Why.NOT_HERE] * (len(blocks) - len(answers))
        moved = sum(block.data.nbytes for block, why in zip(blocks, answers, strict=True) if why is Why.DONE)
        with self._lock:
            self._ended.append(Ended(job_id, asked is not None, tuple(answers), moved, monotonic() - began_s))

    def _tried(self, one: Callable[[Block], Why], block: Block) -> Why:
        try:
            return one(block)
        except Exception:  # noqa: BLE001  a job that ends without a word would keep its memory for ever
            _log.exception("A block could not be moved")
            return Why.DISK

    def _store(self, block: Block) -> Why:
        try:
            return self._tier.write(block.key, block.data, block.parent, block.position, block.tokens)
        except BaseException:
            self._tier.forgo(block.key)
            raise

    def _load(self, block: Block) -> Why:
        return self._tier.load(block.key, block.data)
