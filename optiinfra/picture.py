"""The picture of a running platform: what health, status, the view and the report are told, from one place."""

from __future__ import annotations

import os
import time
from pathlib import Path

from contracts.catalog.findings import KINDS
from contracts.clock import EventClock
from optiinfra.guard import Guard
from optiinfra.health import Check, ChildView, Vitals
from optiinfra.live import LiveState
from optiinfra.plan import Plan
from optiinfra.report import LatencyReport, Report, attainment_of, workload_reports
from optiinfra.settings import Settings
from optiinfra.statedir import RunInfo
from optiinfra.supervisor import Phase, Supervisor
from optiinfra.view import About, Scene

FRESH_S = 60.0
"""An SLI counts as fresh for so many event seconds: the 10 s window, its grace, and room for a slow machine; at high
speed at least `FRESH_WALL_S` wall seconds, since stages do not run faster than the wall."""
FRESH_WALL_S = 10.0
SCORED_S = 2.0 * KINDS["pressure"]
"""A score of memory counts for so many event seconds, at high speed as long as an SLI does: two looks."""


class Picture:
    """Reads the parts of a run and changes none of them."""

    def __init__(
        self, settings: Settings, plan: Plan, clock: EventClock, live: LiveState, supervisor: Supervisor, guard: Guard
    ) -> None:
        self.settings, self.plan, self.clock = settings, plan, clock
        self.live, self.supervisor, self.guard = live, supervisor, guard
        anchor = clock.anchor
        ahead_ms = anchor.event_anchor_ms - anchor.wall_anchor_ms
        self.about = About(
            plan.broker, plan.store, plan.redis, plan.fleet, anchor.speed, settings.health_port, ahead_ms, plan.acting
        )
        self.started_s = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Wall seconds since the first child was started."""
        return time.monotonic() - self.started_s

    def run_info(self, logs: Path) -> RunInfo:
        """What `status` reads."""
        return RunInfo(
            pid=os.getpid(),
            started_wall_ms=int((time.time() - self.wall_s) * 1000),
            health_url=f"http://127.0.0.1:{self.settings.health_port}",
            broker=self.plan.broker,
            bootstrap=self.supervisor.endpoints.get("bootstrap", ""),
            store=self.plan.store,
            redis=self.plan.redis,
            fleet=self.plan.fleet,
            anchor=self.clock.anchor,
            pids=self.supervisor.pids,
            logs=str(logs),
            store_url=self.supervisor.endpoints.get("store_url", ""),
            twin_url=self.supervisor.endpoints.get("twin_url", ""),
            redis_url="" if self.settings.redis else self.supervisor.endpoints.get("redis_url", ""),
        )

    def counts(self) -> dict[str, int]:
        """Counts of this run."""
        counts = self.live.counts
        return {
            "scrapes": counts.scrapes,
            "slis": counts.slis,
            "alerts": counts.alerts,
            "dead_letters": counts.dead_letters,
            "restarts": self.supervisor.restarts,
        }

    def children(self) -> tuple[ChildView, ...]:
        """Every child, in the order of the plan."""
        pids, seen = self.supervisor.pids, self.guard.findings
        return tuple(
            ChildView(
                name=name,
                phase=kept.phase.value,
                pid=pids.get(name, 0),
                restarts=kept.restarts,
                up=kept.phase is Phase.RUNNING and not self.guard.finding(name).health.stuck,
                health=self.guard.finding(name).health.value if name in seen else "",
                lag=self.guard.finding(name).lag,
            )
            for name, kept in self.supervisor.kept.items()
        )

    def vitals(self) -> Vitals:
        """What health answers from."""
        children = self.children()
        checks = {"broker": self.guard.broker, "children": _children_check(children), "slis_fresh": self._fresh()}
        if self.guard.store is not None:
            checks["store"] = self.guard.store
        about = {
            "broker": self.plan.broker,
            "store": self.plan.store,
            "redis": self.plan.redis,
            "fleet": self.plan.fleet,
            "speed": self.clock.anchor.speed,
            "event_ms": self.clock.now_ms(),
            "workloads": {name: told.model_dump() for name, told in workload_reports(self.live).items()},
        }
        from_ms = self.clock.now_ms() - 1000 * max(SCORED_S, FRESH_WALL_S * self.clock.anchor.speed)
        pressure = self.live.deeds.memory(from_ms)
        return Vitals(checks, children, self.counts(), self.live.latency, about, pressure)

    def _fresh(self) -> Check:
        if self.live.newest_sli_ms == 0:
            return Check(False, "no SLI yet")
        age_s = (self.clock.now_ms() - self.live.newest_sli_ms) / 1000
        bound_s = max(FRESH_S, FRESH_WALL_S * self.clock.anchor.speed)
        return Check(age_s <= bound_s, f"newest SLI is {max(0.0, age_s):.0f} event seconds old, bound {bound_s:.0f}")

    def scene(self) -> Scene:
        """What a frame is drawn from."""
        return Scene(
            about=self.about,
            live=self.live,
            vitals=self.vitals(),
            objectives=self.settings.workloads,
            default=self.settings.objectives,
            now_ms=self.clock.now_ms(),
            wall_s=self.wall_s,
        )

    def report(self) -> Report:
        """The report as of now."""
        deeds, workloads = self.live.deeds, workload_reports(self.live)
        return Report(
            broker=self.plan.broker,
            **self.counts(),
            candidates=deeds.candidates,
            decisions=dict(sorted(deeds.decisions.items())),
            actions=dict(sorted(deeds.ended.items())),
            actions_under_way=deeds.unsettled,
            slo_attainment=attainment_of(workloads),
            latency_s=LatencyReport(**self.live.latency_s()),
            store=self.plan.store,
            redis=self.plan.redis,
            fleet=self.plan.fleet,
            speed=self.clock.anchor.speed,
            wall_s=round(self.wall_s, 3),
            alerts_by_name=dict(self.live.alerts_by_name),
            workloads=workloads,
        )


def _children_check(children: tuple[ChildView, ...]) -> Check:
    bad = [
        f"{child.name} is {child.phase}{', ' + child.health if child.health else ''}"
        for child in children
        if not child.up
    ]
    return Check(not bad, "; ".join(bad) or f"{len(children)} run")
