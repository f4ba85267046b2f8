"""Several traces in one report: what each came to, the mean over them, and what is known of single requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optiinfra.replay.course import Race
from optiinfra.replay.frontier import AT_COST, GOALS, Point, reached
from optiinfra.replay.report import COLUMNS, cost_cell, lines, results, share_cell, summary
from optiinfra.replay.whole import Whole

MEASURES = ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "itl_p50_s", "itl_p99_s")
MEASURED_COLUMNS = (
    "policy",
    "start-up",
    "in time",
    "TTFT p50",
    "p95",
    "p99",
    "ITL p50",
    "p99",
    "preempted",
    "prefix hits",
    "goodput",
)
_SHARED = ("seed", "startups_s", "policies", "clairvoyant", "decide_s", "version")
"""What `meta` says once for all traces."""


@dataclass(frozen=True)
class Run:
    """One trace that was replayed. `about`: where its numbers come from."""

    race: Race
    found: Sequence[Point]
    wholes: Sequence[Whole]
    about: Mapping[str, Any]


def written(runs: Sequence[Run], whole: str | None) -> dict[str, Any]:
    """The report for programs. One trace stands by itself; of several, rows follow one another, each with its
    `workload`, `meta` has a part for each, and `mean` is over them. `whole`: the name of the whole policy's account.
    """
    rows = [row for run in runs for row in summary(run.race, run.found)]
    data: dict[str, Any] = {"meta": _meta(runs), "summary": rows}
    if len(runs) > 1:
        data["mean"] = mean(rows)
    data["results"] = [row for run in runs for row in results(run.race, run.found)]
    if whole:
        named = [
            ({"workload": run.race.load.workload} if len(runs) > 1 else {}, each) for run in runs for each in run.wholes
        ]
        data[whole] = [name | each.row() for name, each in named]
    return data


def table(runs: Sequence[Run]) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Columns and lines for people: one for each policy and start-up, of several traces with the mean at the end."""
    if len(runs) == 1:
        return COLUMNS, [*lines(runs[0].found)]
    told: list[Sequence[object]] = [(run.race.load.workload, *line) for run in runs for line in lines(run.found)]
    rows = [row for run in runs for row in summary(run.race, run.found)]
    told += [(f"mean of {len(runs)}", *line) for line in mean_lines(mean(rows))]
    return ("workload", *COLUMNS), told


def measured(runs: Sequence[Run]) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Columns and lines of what is known of single requests, at the cheapest point of each policy that keeps the first
    objective, or at its best."""
    named = len(runs) > 1
    told: list[Sequence[object]] = []
    for run in runs:
        groups: dict[tuple[float, str], list[Point]] = {}
        for point in run.found:
            groups.setdefault((point.startup_s, point.policy), []).append(point)
        for group in groups.values():
            best = reached(group).cheapest[0] or max(group, key=lambda point: point.attainment)
            told.append(((run.race.load.workload,) if named else ()) + _measured(best))
    return (("workload",) if named else ()) + MEASURED_COLUMNS, told


def _measured(point: Point) -> tuple[object, ...]:
    seen = point.measures
    return (
        point.policy,
        f"{point.startup_s:g} s",
        share_cell(seen.get("attainment_played", point.attainment)),
        *(_milliseconds(seen[name]) for name in MEASURES),
        f"{seen['preemptions']:g}",
        share_cell(seen["prefix_hit_ratio"]),
        f"{seen['goodput_rps']:.3f}/s",
    )


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _meta(runs: Sequence[Run]) -> dict[str, Any]:
    if len(runs) == 1:
        return dict(runs[0].about)
    shared = {key: runs[0].about[key] for key in _SHARED}
    return shared | {"traces": [{k: v for k, v in run.about.items() if k not in _SHARED} for run in runs]}


def mean(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean of `summary` rows of several traces, by policy and start-up; None where a trace has none to add."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["policy"], row["startup_s"]), []).append(row)
    keys = (*(f"cost_at_{goal:g}" for goal in GOALS), f"attainment_at_{AT_COST:g}")
    return [
        {"policy": policy, "startup_s": startup_s, "traces": len(group), **{key: _mean(group, key) for key in keys}}
        for (policy, startup_s), group in groups.items()
    ]


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows]
    return None if None in values else round(sum(values) / len(values), 8)


def mean_lines(rows: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    """Cells of COLUMNS but for the last two, which have no mean."""
    return [
        (
            row["policy"],
            f"{row['startup_s']:g} s",
            *(cost_cell(row[f"cost_at_{goal:g}"]) for goal in GOALS),
            share_cell(row[f"attainment_at_{AT_COST:g}"]),
            None,
            None,
        )
        for row in rows
    ]
