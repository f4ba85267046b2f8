"""The stage `arbiter` as a process of its own: `python -m tests.optiinfra.arbiter_process --help`."""

from __future__ import annotations

import argparse
import logging
import time

from agents.core.arbiter_settings import ArbiterSettings, Limits
from agents.stages import stages
from contracts.clock import ClockAnchor, EventClock
from contracts.events import Mode
from streams.faust_driver import run_stage_process

TTL_WALL_S = 60.0
"""For how long people may answer, wall seconds."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--anchor-ms", type=int, required=True, help="event time and wall time of the beginning")
    parser.add_argument("--no-controller", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    anchor = ClockAnchor(wall_anchor_ms=options.anchor_ms, event_anchor_ms=options.anchor_ms, speed=1.0)
    (stage,) = stages(
        ArbiterSettings(
            anchor=anchor,
            default_mode=Mode.AUTONOMOUS,
            has_controller=not options.no_controller,
            default_limits=Limits(min_replicas=2, max_replicas=8),
            approval_ttl_wall_s=TTL_WALL_S,
        )
    )
    run_stage_process(
        stage,
        bootstrap=options.bootstrap,
        embedded=options.embedded,
        clock=EventClock(anchor, time.time, time.monotonic),
        worker_name="arbiter",
        session_timeout_s=1.5 if options.embedded else None,
    )


if __name__ == "__main__":
    main()
