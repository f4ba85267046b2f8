"""What each scaling policy costs on ServeGen m-large beside the tuned reactive one, and how fast replay is."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.report import Row, report
from connectors.traces import reading
from optiinfra.replay import frontier
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.frontier import GOALS, Reached
from optiinfra.replay.peers import reactive
from optiinfra.replay.registry import POLICIES

TRACES = Path(os.environ.get("OPTIINFRA_TRACES", "../shared/traces"))
WORKLOAD = "language/m-large"
STARTUPS_S = (60.0, 180.0, 360.0)
PEER = reactive.POLICY.name


def costs(race: Race, startup_s: float) -> list[Row]:
    """A row for each policy and objective: the least cost that keeps it."""
    found = {policy.name: frontier.reached(frontier.points(race, policy, startup_s)) for policy in POLICIES}
    return [
        {
            "name": f"{name}, start-up {startup_s:g} s, ≥{goal * 100:g} %",
            "value": (cost := _cost(each, number)),
            "unit": "× oracle",
            "peer": PEER,
            "peer_value": (peer := _cost(found[PEER], number)),
            "ratio": peer / cost if peer and cost else None,
        }
        for number, goal in enumerate(GOALS)
        for name, each in found.items()
    ]


def _cost(each: Reached, number: int) -> float | None:
    point = each.cheapest[number]
    return None if point is None else point.cost_vs_oracle


def speed(race: Race) -> Row:
    """One run of the tuned reactive scaler over all that is replayed of the trace, as seconds for 14 days."""
    began_s = time.process_time()
    outcome = race.run(reactive.POLICY, reactive.POLICY.grid[0], 180.0)
    took_s = (time.process_time() - began_s) * 14 * 86_400 / len(outcome.queue)
    return {
        "name": "one policy, 14 days in seconds, a decision every 15 s",
        "value": took_s,
        "unit": "s of one core",
        "peer": None,
        "peer_value": None,
        "ratio": None,
    }


def main() -> None:
    """Every policy at every start-up; some ten minutes."""
    folder = TRACES / "servegen"
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds servegen/")
        return
    race = Race(reading.load(folder, WORKLOAD, 0), Fleet())
    report("scaling", [speed(race), *(row for startup_s in STARTUPS_S for row in costs(race, startup_s))])


if __name__ == "__main__":
    main()
