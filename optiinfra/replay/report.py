"""What replay says: rows for programs, one for each operating point; a table for people, one line for each policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from connectors.twin.fluid import DRAIN_S, LATE_AFTER_S
from optiinfra import __version__
from optiinfra.replay.course import WARM_START_RATIO, Race
from optiinfra.replay.frontier import AT_COST, GOALS, Point, Reached, reached
from optiinfra.replay.oracle import SLOT_S
from optiinfra.replay.policy import DAY_S, Policy

COLUMNS = (
    "policy",
    "start-up",
    *(f"cost at ≥{goal * 100:g} %" for goal in GOALS),
    f"attainment at {AT_COST:g}×",
    "turns a day",
    "knobs",
)
ORACLE = "oracle"


def results(race: Race, found: Iterable[Point]) -> list[dict[str, Any]]:
    """A row for each operating point. Where an outage was asked for, what was given up in it stands there
    (`removed_blind`), and attainment in it and in the hour after it."""
    rows = []
    for point in found:
        row: dict[str, Any] = {
            "policy": point.policy,
            "workload": race.load.workload,
            "startup_s": _short(point.startup_s),
            "cost_vs_oracle": round(point.cost_vs_oracle, 6),
            "attainment": round(point.attainment, 8),
            "knobs": dict(point.knobs),
            "direction_changes_per_day": round(point.direction_changes_per_day, 3),
        }
        if race.blind:
            row["removed_blind"] = point.removed_blind
            row["attainment_in_outage"] = point.attainment_in_outage
            row["attainment_hour_after"] = point.attainment_hour_after
        row.update(point.measures)
        rows.append(row)
    return rows


def oracle_point(race: Race, startup_s: float) -> Point:
    """The oracle itself: cost 1 and all in time, by what it is."""
    scored = race.scored
    ready = race.plan(startup_s).ready[scored.begin_s // SLOT_S : scored.end_s // SLOT_S]
    steps = np.diff(ready)
    signs = np.sign(steps[steps != 0])
    turns = int((signs[1:] != signs[:-1]).sum())
    a_day = turns * DAY_S / (scored.end_s - scored.begin_s)
    return Point(ORACLE, startup_s, {}, 1.0, 1.0, a_day, 0, measures=race.oracle_measures(startup_s))


def meta(
    race: Race, docs: Mapping[str, str], policies: Sequence[Policy], startups_s: Sequence[float], seed: int
) -> dict[str, Any]:
    """Where the numbers come from: nothing of this machine and nothing of the clock, so that it repeats."""
    load, scored = race.load, race.scored
    size = len(load.per_second)
    return {
        "trace": load.origin,
        "workload": load.workload,
        "generated": load.generated or None,
        "seed": seed,
        "span_s": size,
        "scored_s": [scored.begin_s, scored.end_s],
        "scored": "days 8 to 14" if size >= 14 * DAY_S else "the second half: the trace is shorter than 14 days",
        "requests": int(load.per_second.sum()),
        "instances": race.fleet.instances,
        "capacity_rps": round(race.capacity_rps, 6),
        "service_s": race.fleet.service_s,
        "drain_s": DRAIN_S,
        "in_time": f"begins service within {LATE_AFTER_S} s",
        "oracle": f"every request in time, capacity in {SLOT_S}-s slots, start-up and drain billed, knows the future",
        "warm_start": f"{WARM_START_RATIO:g} × what the first minute asks for",
        "attainment_at_cost": f"at {AT_COST:g} × the oracle, on straight lines between points that no other beats",
        "startups_s": [_short(each) for each in startups_s],
        "policies": dict(docs),
        "clairvoyant": [policy.name for policy in policies if policy.clairvoyant],
        "decide_s": {policy.name: policy.decide_s for policy in policies},
        "outages_s": [[span.begin_s, span.end_s] for span in race.blind],
        "version": __version__,
        **race.about(),
    }


def summary(race: Race, found: Iterable[Point]) -> list[dict[str, Any]]:
    """A row for each policy and start-up: least cost at each objective and attainment at AT_COST."""
    return [
        {
            "policy": each.policy,
            "workload": race.load.workload,
            "startup_s": _short(each.startup_s),
            **{
                f"cost_at_{goal:g}": None if point is None else round(point.cost_vs_oracle, 6)
                for goal, point in zip(GOALS, each.cheapest, strict=True)
            },
            f"attainment_at_{AT_COST:g}": None if each.at_cost is None else round(each.at_cost, 8),
        }
        for each in _reached(found)
    ]


def cost_cell(ratio: float | None) -> str:
    """A cost in units of the oracle's, for people."""
    return "never" if ratio is None else f"{ratio:.3f}"


def share_cell(ratio: float | None) -> str:
    """A share of requests, for people."""
    return "–" if ratio is None else f"{ratio * 100:.2f} %"


def lines(found: Iterable[Point]) -> list[tuple[object, ...]]:
    """Cells of COLUMNS; turns and knobs are those of the cheapest point that keeps the first objective."""
    return [_line(each) for each in _reached(found)]


def _reached(found: Iterable[Point]) -> list[Reached]:
    groups: dict[tuple[float, str], list[Point]] = {}
    for point in found:
        groups.setdefault((point.startup_s, point.policy), []).append(point)
    return [reached(group) for group in groups.values()]


def _line(each: Reached) -> tuple[object, ...]:
    best = each.cheapest[0]
    return (
        each.policy,
        f"{each.startup_s:g} s",
        *(cost_cell(None if point is None else point.cost_vs_oracle) for point in each.cheapest),
        share_cell(each.at_cost),
        None if best is None else f"{best.direction_changes_per_day:.0f}",
        "–" if best is None else knobs_line(best.knobs),
    )


def knobs_line(knobs: Mapping[str, float | str]) -> str:
    """`target=0.99, hold_s=300`."""
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in knobs.items()
    )


def _short(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds
