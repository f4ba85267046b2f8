"""The report of one `up`: what `--json FILE` writes when it ends."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from contracts.catalog.slis import SLIS
from contracts.errors import ConfigError
from optiinfra.live import LiveState, Subject
from optiinfra.statedir import disk_errors


def check_path(path: Path) -> None:
    """Raises ConfigError when a report could not be written there: better before a long run than after it."""
    folder = path.parent
    if path.is_dir():
        problem = "it is a directory"
    elif not folder.is_dir():
        problem = f"{folder} is not a directory"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        problem = "it is not writable"
    else:
        return
    raise ConfigError(f"no report can be written to {path}: {problem}", where="--json", fix="Name another file.")


class LatencyReport(BaseModel):
    """Wall seconds; None when no window closed, or no action began."""

    model_config = ConfigDict(frozen=True)

    scrape_to_sli_p50: float | None
    scrape_to_sli_p99: float | None
    scrape_to_action_p50: float | None = None
    scrape_to_action_p99: float | None = None


class WorkloadReport(BaseModel):
    """A workload as it stood at the end; `slis` are those that had a value."""

    model_config = ConfigDict(frozen=True)

    replicas: int
    replicas_up: int
    attainment_ratio: dict[str, float | None]
    observations: dict[str, int]
    slis: dict[str, float]


class Report(BaseModel):
    """Counts are of this run, each id once. `wall_s` runs from the first child's start.

    `decisions` are by code, `actions` by end state; `slo_attainment` is by workload, of its worst latency family.
    """

    model_config = ConfigDict(frozen=True)

    broker: str
    scrapes: int
    slis: int
    alerts: int
    dead_letters: int
    restarts: int
    candidates: int = 0
    decisions: dict[str, int] = {}
    actions: dict[str, int] = {}
    actions_under_way: int = 0
    slo_attainment: dict[str, float | None] = {}
    latency_s: LatencyReport
    store: str
    redis: str
    fleet: str
    speed: float
    wall_s: float
    alerts_by_name: dict[str, int]
    workloads: dict[str, WorkloadReport]

    def write(self, path: Path) -> None:
        """Write it as JSON. Raises Unavailable when the disk does not take it."""
        with disk_errors(path, "the report"):
            path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def workload_reports(live: LiveState) -> dict[str, WorkloadReport]:
    """The workloads of a live picture."""
    reports = {}
    for name, view in sorted(live.workloads.items()):
        newest = view.latest or view.window
        reports[name] = WorkloadReport(
            replicas=newest.instances if newest else 0,
            replicas_up=newest.instances_up if newest else 0,
            attainment_ratio={family: attained.ratio for family, attained in sorted(view.attained.items())},
            observations={family: attained.total for family, attained in sorted(view.attained.items())},
            slis=_values(view),
        )
    return reports


def _values(subject: Subject) -> dict[str, float]:
    return {name: value for name in SLIS if (value := subject.value(name)) is not None}


def attainment_of(workloads: dict[str, WorkloadReport]) -> dict[str, float | None]:
    """By workload: the attainment of the latency family that met its objective least; None where none was seen."""
    return {
        name: min((ratio for ratio in told.attainment_ratio.values() if ratio is not None), default=None)
        for name, told in workloads.items()
    }
