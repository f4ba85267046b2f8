"""One worker of the counting stage, as a process of its own: `python -m tests.streams.worker_process --help`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable

from contracts.clock import ClockAnchor, EventClock
from contracts.stage import fold
from streams.faust_driver import run_stage_process
from tests.streams.counting_stage import Count, counting_stage, ticking


def crash_at(point: str, times: int) -> Callable[[str], None]:
    """A checkpoint that kills this process the `times`-th time the driver passes `point`."""
    passed: Counter[str] = Counter()

    def checkpoint(name: str) -> None:
        passed[name] += 1
        if name == point and passed[name] == times:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--ticking", action="store_true")
    parser.add_argument("--crash-at", default="")
    parser.add_argument("--fetch-wait-ms", type=int, default=20)
    # The mock cluster grants a shorter session than Kafka does, and a test need not wait for Kafka's.
    parser.add_argument("--session-timeout-s", type=float)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    clock = EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), time.time, time.monotonic)
    run_stage_process(
        counting_stage(options.stage, fold(ticking, Count) if options.ticking else None),
        bootstrap=options.bootstrap,
        embedded=options.embedded,
        clock=clock,
        worker_name=options.stage,
        checkpoint=crash_at(options.crash_at, 1),
        fetch_wait_ms=options.fetch_wait_ms,
        session_timeout_s=options.session_timeout_s or (1.5 if options.embedded else None),
    )


if __name__ == "__main__":
    main()
