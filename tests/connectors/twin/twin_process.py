"""A twin as a process of its own: `twin_process.py FOLDER CONTROL_PORT SPEED EVENT_ANCHOR_MS WALL_ANCHOR_MS`.

It prints a line `ready CONTROL_URL`, among those of its log.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from connectors.twin.server import run_twin
from contracts.clock import ClockAnchor, EventClock
from tests.connectors.twin.running import WORKLOADS


def main() -> None:
    folder, port, speed, event_ms, wall_ms = sys.argv[1:]
    anchor = ClockAnchor(wall_anchor_ms=int(wall_ms), event_anchor_ms=int(event_ms), speed=float(speed))
    work = run_twin(
        clock=EventClock(anchor, time.time, time.monotonic),
        file_sd=Path(folder) / "targets.json",
        journal=Path(folder) / "journal.jsonl",
        control_port=int(port),
        workloads=WORKLOADS,
        on_ready=lambda info: print(f"ready {info.control_url}", flush=True),
    )
    asyncio.run(work)


if __name__ == "__main__":
    main()
