"""What 30 minutes without measurements at each day's peak do to fleets of our scaler, KPA, HPA and the whole policy.

Every scaler has the knobs that keep 99 % in time at the least cost where nothing is amiss, as
`optiinfra replay --policy all --startup 3m` finds them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench.report import Row, report
from connectors.traces import reading
from connectors.traces.shape import Load
from optiinfra.replay.course import Fleet, Race, outages
from optiinfra.replay.peers import hpa, kpa, reactive
from optiinfra.replay.policy import Knobs, Policy
from optiinfra.replay.registry import OURS, WHOLE
from optiinfra.replay.whole import Asked
from optiinfra.replay.whole import run as run_whole

TRACES = Path(os.environ.get("OPTIINFRA_TRACES", "../shared/traces"))
WORKLOAD = "language/m-large"
STARTUP_S, LENGTH_S = 180.0, 1800.0
TUNED: tuple[tuple[Policy, Knobs], ...] = (
    (OURS, {"target": 0.9875, "turns_a_day": 36.0}),
    (kpa.POLICY, {"target_ratio": 0.775, "hold_s": 120.0}),
    (hpa.POLICY, {"target_ratio": 0.7125, "metric": "rate"}),
    (reactive.POLICY, {"margin_ratio": 1.2, "window_s": 60.0, "hold_s": 900.0, "clear_s": 30.0}),
)
PEER = hpa.POLICY.name

Figures = tuple[int, float | None, float | None, float]
"""Replicas given up, attainment in the outages, in the hours after them, and over all that is scored."""


def scaler(race: Race, policy: Policy, knobs: Knobs) -> Figures:
    """One scaler under the outages."""
    outcome = race.run(policy, knobs, STARTUP_S)
    return outcome.removed_blind, *race.in_outage(outcome), outcome.attainment_ratio


def whole(race: Race) -> Figures:
    """The whole policy under the outages."""
    point = run_whole(race, Asked(), STARTUP_S).point
    return point.removed_blind, point.attainment_in_outage, point.attainment_hour_after, point.attainment


def rows(found: dict[str, Figures]) -> list[Row]:
    """Beside HPA; a ratio above 1 is better: of what is late, the peer's over ours."""
    told: list[Row] = []
    names = ("replicas given up blind", "in time in outages", "in time in the hour after", "in time, all")
    for place, what in enumerate(names):
        peer = found[PEER][place]
        for name, figures in found.items():
            value = figures[place]
            late = None if not place or value is None or peer is None or value == 1 else (1 - peer) / (1 - value)
            told.append(
                {
                    "name": f"{name}: {what}",
                    "value": value,
                    "unit": "share" if place else "replicas",
                    "peer": PEER,
                    "peer_value": peer,
                    "ratio": late,
                }
            )
    return told


def race_of(load: Load) -> Race:
    """With an outage around the busiest ten minutes of each scored day."""
    race = Race(load, Fleet())
    return Race(load, race.fleet, outages(load, None, LENGTH_S, race.scored))


def main() -> None:
    """Some four minutes, two of them the whole policy."""
    folder = TRACES / "servegen"
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds servegen/", file=sys.stderr)
        return
    race = race_of(reading.load(folder, WORKLOAD, 0))
    found = {policy.name: scaler(race, policy, knobs) for policy, knobs in TUNED}
    report("outage", rows(found | {WHOLE: whole(race)}))


if __name__ == "__main__":
    main()
