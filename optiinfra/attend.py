"""Attending: background work of the supervisor is begun anew when it fails, and given up with an error when it keeps
failing; it never ends unseen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from contracts.errors import OptiInfraError

AGAIN_AFTER_S = 1.0
FAILURES_WITHIN_S = 60.0
FAILURES = 3
"""So many failures within so many wall seconds are a fault that does not go away by itself."""

Work = Callable[[], Coroutine[Any, Any, None]]


class GaveUp(OptiInfraError):
    """Work that an `up` cannot do without failed again and again."""


async def attend(
    name: str, work: Work, failed: Callable[[str, str], object], *, again_after_s: float = AGAIN_AFTER_S
) -> None:
    """Keep `work` running until cancelled. `failed` is told of each failure: the name and what happened.

    Raises what the work raised when it is an error for people (OptiInfraError), and GaveUp after `FAILURES` others.
    The work runs in a task of its own: Kafka clients let stray cancellations out, which are failures too.
    """
    log = structlog.get_logger("attend")
    recent_s: list[float] = []
    while True:
        task = asyncio.create_task(work(), name=name)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        error = None if task.cancelled() else task.exception()
        what = "was cancelled from within" if task.cancelled() else "ended" if error is None else _words(error)
        log.error("background work failed", work=name, what=what, exc_info=error)
        failed(name, what)
        if isinstance(error, OptiInfraError):
            raise error
        now_s = time.monotonic()
        recent_s = [*(s for s in recent_s if now_s - s < FAILURES_WITHIN_S), now_s]
        if len(recent_s) >= FAILURES:
            fix = "This is a fault of optiinfra: see logs/supervisor.jsonl in the state directory."
            raise GaveUp(f"{name} failed {FAILURES} times, last: {what}", where="supervisor", fix=fix) from error
        await asyncio.sleep(again_after_s)


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, OptiInfraError) else f"{type(error).__name__}: {error}"
