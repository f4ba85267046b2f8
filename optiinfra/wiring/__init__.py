"""Wiring: the one place where real objects are built and put together, process by process."""

from __future__ import annotations

from contracts.errors import ConfigError
from optiinfra.orders import Entry
from optiinfra.wiring import acting, sensing
from optiinfra.wiring.common import (
    endpoint,
    is_ours,
    make_clock,
    open_publisher,
    settings_of,
    twin_workloads,
    worker_name,
)
from optiinfra.wiring.sensing import count_targets
from optiinfra.wiring.stages import default_stages, make_stages

_ENTRIES: dict[str, Entry] = {
    "broker": sensing.broker,
    "store": sensing.store,
    "twin": sensing.twin,
    "windows": sensing.stage("windows"),
    "slis": sensing.stage("slis"),
    "latest": sensing.stage("latest"),
    "sizing": sensing.stage("sizing"),
    "steering": sensing.stage("steering"),
    "resource": sensing.stage("resource"),
    "rules": acting.rules,
    "reviewer": acting.reviewer,
    "arbiter": sensing.stage("arbiter"),
    "executor": acting.executor,
    "alerts": acting.alerts,
    "sink": sensing.sink,
    "scraper": sensing.scraper,
    "ticker": sensing.ticker,
}


def entry_of(name: str) -> Entry:
    """The coroutine of a process. Raises ConfigError for a name that is none."""
    found = _ENTRIES.get(name)
    if found is None:
        raise ConfigError(f"no process is called {name!r}", where="wiring", fix=f"Known: {', '.join(_ENTRIES)}.")
    return found


__all__ = [
    "count_targets",
    "default_stages",
    "endpoint",
    "entry_of",
    "is_ours",
    "make_clock",
    "make_stages",
    "open_publisher",
    "settings_of",
    "twin_workloads",
    "worker_name",
]
