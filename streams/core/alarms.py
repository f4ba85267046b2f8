"""What stage `slis` tells people of a workload: silence, a stuck engine, an objective nobody can measure, a clock."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.events import Alert, InstanceWindow, Severity, Sli
from contracts.laws.attainment import nearest_edge
from contracts.objectives import Latency, Objectives
from streams.core.totals import Totals


def of_window(sli: Sli, totals: Totals, objectives: Objectives) -> Iterator[tuple[Alert, bool]]:
    """Every alert that a window can give, each with whether its condition holds."""
    workload = sli.workload

    def alert(name: str, severity: Severity, subject: str, summary: str, fix: str) -> Alert:
        return Alert(
            workload=workload, name=name, severity=severity, subject=subject, at_ms=sli.end_ms, summary=summary, fix=fix
        )

    yield (
        alert(
            "no_data",
            Severity.WARNING,
            workload,
            f"no readable scrape of {workload} in the {sli.size_s} s before this moment",
            "Check that the scraper runs (optiinfra status) and that the targets answer (optiinfra doctor).",
        ),
        totals.scrapes == 0,
    )
    yield (
        alert(
            "stalled",
            Severity.CRITICAL,
            workload,
            f"requests of {workload} run or wait, and no token came for {sli.size_s} s",
            "Look at the engine's log; a hung engine needs a restart.",
        ),
        sli.stalled,
    )
    for family in Latency:
        hist = totals.histograms.get(family.histogram)
        if hist is None or not hist.le:
            continue
        threshold_s = objectives.threshold_s(family)
        yield (
            alert(
                "objective_not_an_edge",
                Severity.WARNING,
                family.value,
                f"the {family} objective of {workload}, {threshold_s:g} s, is no bucket edge of its servers' "
                "histogram: attainment cannot be told",
                f"Set {family}_s to {nearest_edge(hist.le, threshold_s):g}, the nearest edge, in optiinfra.yaml.",
            ),
            threshold_s not in hist.le,
        )


def clock_ahead(part: InstanceWindow, tick_ms: int) -> Alert:
    """The scrapes of an instance are dated so far ahead that its evidence cannot be kept for the workload."""
    return Alert(
        workload=part.workload,
        name="clock_ahead",
        severity=Severity.WARNING,
        subject=part.instance_id,
        at_ms=part.cause_ms,
        summary=f"scrapes of {part.instance_id} are dated {(part.end_ms - tick_ms) / 1000:.0f} s ahead of event time; "
        f"they count for the instance and not for {part.workload}",
        fix="Set the clock of the machine that scrapes it, then restart its scraper.",
    )
