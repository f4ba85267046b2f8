"""One worker of a real stage under a name of a test's own: `python -m tests.streams.sli_worker --help`."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time

from contracts.clock import ClockAnchor, EventClock
from streams.core.slis import SliSettings
from streams.faust_driver import run_stage_process
from streams.stages import stages


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--group", required=True, help="names group and changelog")
    parser.add_argument("--name", required=True, help="the worker's name")
    parser.add_argument("--embedded", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    stage = next(stage for stage in stages(SliSettings()) if stage.name == options.stage)
    run_stage_process(
        dataclasses.replace(stage, name=options.group),
        bootstrap=options.bootstrap,
        embedded=options.embedded,
        clock=EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), time.time, time.monotonic),
        worker_name=options.name,
        session_timeout_s=1.5 if options.embedded else 6.0,
    )


if __name__ == "__main__":
    main()
