"""Health and metrics over HTTP: /health/live, /health/ready with every check, /metrics for Prometheus."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.errors import Conflict
from contracts.laws.histogram import Histogram


@dataclass(frozen=True)
class Check:
    """One thing that must hold for the platform to be ready."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class ChildView:
    """A child as health and status show it."""

    name: str
    phase: str
    pid: int
    restarts: int
    up: bool
    health: str = ""
    lag: int | None = None


@dataclass(frozen=True)
class Vitals:
    """Everything that health answers from: built on each request, from what is known already."""

    checks: Mapping[str, Check]
    children: tuple[ChildView, ...]
    counts: Mapping[str, int]
    latency: Histogram
    about: Mapping[str, Any]
    pressure: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The newest numbers on memory, by workload."""

    @property
    def ready(self) -> bool:
        return all(check.ok for check in self.checks.values())


class HealthServer:
    """Listens on 127.0.0.1 from before the first child is started, so that a port in use is told at once."""

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        self._vitals = vitals
        self._registry = CollectorRegistry()
        self._registry.register(_Vitals(vitals))
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Bind. Raises Conflict when the port is in use."""
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", port).start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise Conflict(
                f"port {port} cannot be taken ({error.strerror})",
                where="health",
                fix=f"Choose another with --port, e.g. --port {port + 1}, or OPTIINFRA_HEALTH_PORT.",
            ) from error

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text="/health/live\n/health/ready\n/metrics\n")

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        vitals = self._vitals()
        body = {
            "ready": vitals.ready,
            "checks": {name: asdict(check) for name, check in vitals.checks.items()},
            "children": [asdict(child) for child in vitals.children],
            "counts": dict(vitals.counts),
            **vitals.about,
        }
        return web.json_response(body, status=200 if vitals.ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4"})


class _Vitals(Collector):
    """Own metrics, read off the vitals at scrape time: there is no second set of counters to drift away."""

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        self._read = vitals

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not need a running platform

    def collect(self) -> Iterable[Metric]:
        vitals = self._read()
        for name, count in vitals.counts.items():
            yield CounterMetricFamily(f"optiinfra_{name}", f"{name} since start, each once.", value=count)
        up = GaugeMetricFamily("optiinfra_child_up", "1 while the child is ready.", labels=["child"])
        restarts = CounterMetricFamily("optiinfra_child_restarts", "Starts beyond the first.", labels=["child"])
        lag = GaugeMetricFamily("optiinfra_stage_lag_messages", "Written and not yet handled.", labels=["stage"])
        for child in vitals.children:
            up.add_metric([child.name], float(child.up))
            restarts.add_metric([child.name], child.restarts)
            if child.lag is not None:
                lag.add_metric([child.name], child.lag)
        yield from (up, restarts, lag)
        yield from _memory(vitals.pressure)
        yield GaugeMetricFamily("optiinfra_ready", "1 when every check holds.", value=float(vitals.ready))
        edges = [*(f"{edge:g}" for edge in vitals.latency.le), "+Inf"]
        yield HistogramMetricFamily(
            "optiinfra_scrape_to_sli_seconds",
            "Wall time from the scrape that closed a window to its SLIs, first revisions.",
            buckets=[(edge, float(count)) for edge, count in zip(edges, vitals.latency.counts, strict=True)],
            sum_value=vitals.latency.sum,
        )


OOM_COUNTS = {
    "oom_prevented": "prevented",
    "oom_not_prevented": "not_prevented",
    "oom_forecasts_false": "unanswered_false",
    "oom_forecasts_true": "unanswered_true",
    "oom_actions_unforeseen": "unforeseen",
}
"""Numbers of a finding on pressure that count cases, and what became of them."""


def _memory(pressure: Mapping[str, Mapping[str, float]]) -> Iterable[Metric]:
    """How short memory is, where that is known, and what rules prevented, by workload."""
    score = GaugeMetricFamily("optiinfra_memory_pressure_score", "0 to 100, newest finding.", labels=["workload"])
    cases = CounterMetricFamily(
        "optiinfra_oom_cases", "Forecasts that memory fills, by what became of them.", labels=["workload", "result"]
    )
    for workload, values in pressure.items():
        if "pressure_score" in values:
            score.add_metric([workload], values["pressure_score"])
        for name, result in OOM_COUNTS.items():
            if name in values:
                cases.add_metric([workload, result], values[name])
    yield from (score, cases)
