"""What happens before and after an `up` runs: the lock, the clock, the plan, the topics, the report."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import ConfigError, Unavailable
from optiinfra import logs
from optiinfra.plan import STAGES, make_plan
from optiinfra.redis_child import find_redis
from optiinfra.report import Report, check_path
from optiinfra.run import Run
from optiinfra.settings import Settings
from optiinfra.statedir import StateDir
from optiinfra.wiring import count_targets
from streams.brokers import admin

AHEAD_MS = 60_000
"""Event time of a state directory may be so far ahead of the wall when real servers are watched."""


async def run_up(
    settings: Settings, console: Console, *, headless: bool, for_s: float | None, report_path: Path | None
) -> Report:
    """One `up`, whole. Raises Conflict (second `up`, port), Unavailable (Kafka, disk) or ConfigError (targets, report);
    what ends a run before its time is raised after its report is written."""
    if report_path is not None:
        check_path(report_path)
    state = StateDir(settings.state)
    with state.owned(), logs.logging_to("supervisor", state.logs, settings.log_level):
        anchor = state.anchor(int(time.time() * 1000), settings.speed)
        targets = count_targets(settings.targets)
        if settings.targets and not targets:
            files = ", ".join(str(path) for path in settings.targets)
            console.print(f"warning: no server is named in {files}; it is read again when it changes", style="yellow")
        _check_time(settings, state, anchor)
        clock = EventClock(anchor, time.time, time.monotonic)
        state.reserve(clock.now_ms(), anchor.speed)
        redis = await asyncio.to_thread(find_redis, settings.redis)
        plan = make_plan(settings, state, anchor, redis, targets)
        if settings.kafka:
            await asyncio.to_thread(_prepare_kafka, settings.kafka)
        parts = f"broker {plan.broker} · store {plan.store} · redis {plan.redis} · fleet {plan.fleet}"
        console.print(parts, soft_wrap=True, markup=False)
        console.print(plan.acting, soft_wrap=True, markup=False)
        if for_s is None:
            console.print("starting; Ctrl-C stops everything")
        run = Run(settings, state, plan, clock, console, headless=headless)
        report = await run.run(for_s)
    console.print("stopped; nothing is left running")
    if report_path is not None:
        report.write(report_path)
        console.print(f"report: {report_path}")
    if run.failure is not None:
        raise run.failure
    return report


def _check_time(settings: Settings, state: StateDir, anchor: ClockAnchor) -> None:
    """Real servers live in wall time: neither speed nor the future of a simulation suits them."""
    if not settings.targets:
        return
    if settings.speed != 1.0:
        raise ConfigError(
            f"--speed {settings.speed:g} cannot speed up real servers",
            where="targets",
            fix="Leave --speed out, or leave --targets out to simulate a fleet.",
        )
    ahead_ms = anchor.event_anchor_ms - anchor.wall_anchor_ms
    if ahead_ms > AHEAD_MS:
        raise ConfigError(
            f"a simulation here has run {ahead_ms / 3_600_000:.1f} h ahead of the wall clock, and event time never "
            "goes back",
            where=str(state.path),
            fix="Use a directory of its own with --state DIR, or `optiinfra reset`.",
        )


def _prepare_kafka(bootstrap: str) -> None:
    """Make the topics on a cluster of one's own."""
    if not admin.reachable(bootstrap, timeout_s=5.0):
        raise Unavailable(
            "Kafka does not answer",
            where=bootstrap,
            fix="Start it (`make kafka`), correct OPTIINFRA_KAFKA, or unset it to use the embedded broker.",
        )
    admin.apply_topics(bootstrap, STAGES)
