"""Pools whose threads have all begun: at a limit of threads a tier cannot be opened, and what is open needs no more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from kvtier.engine.errors import TierError


def started(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool of so many threads. Raises TierError where one of them cannot be started.

    A pool of the standard library starts a thread when a job comes, after it has queued the job: where that fails the
    job may still run, in memory that its caller has given to something else by then."""
    pool, gate = ThreadPoolExecutor(threads, thread_name_prefix=name), Event()
    try:
        for _ in range(threads):
            pool.submit(gate.wait)
    except RuntimeError as error:
        pool.shutdown(wait=False)
        fix = "Raise the limit of threads (ulimit -u, or the container's pids), or give fewer readers and writers."
        raise TierError(f"not all of {threads} threads can be started: {error}.", where=name, fix=fix) from error
    finally:
        gate.set()
    return pool
