"""What each scaling policy costs on ServeGen m-large beside the tuned reactive one, and how long decisions take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from agents.performance.core.scaler import PredictiveScaler
from bench.report import Row, report
from connectors.traces import reading
from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay import frontier
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.frontier import GOALS, Reached
from optiinfra.replay.peers import reactive
from optiinfra.replay.policy import DAY_S, Policy
from optiinfra.replay.registry import OURS, POLICIES

TRACES = Path(os.environ.get("OPTIINFRA_TRACES", "../shared/traces"))
WORKLOAD = "language/m-large"
STARTUPS_S = (60.0, 180.0, 360.0)
PEER = reactive.POLICY
COPIES = 1000


def costs(race: Race, policies: Iterable[Policy], startup_s: float, where: str = "") -> list[Row]:
    """A row for each policy and objective: the least cost that keeps it. `where`: what rows begin with."""
    found = {policy.name: frontier.reached(frontier.points(race, policy, startup_s)) for policy in policies}
    return [
        {
            "name": f"{where}{name}, start-up {startup_s:g} s, ≥{goal * 100:g} %",
            "value": (cost := _cost(each, number)),
            "unit": "× oracle",
            "peer": PEER.name,
            "peer_value": (peer := _cost(found[PEER.name], number)),
            "ratio": peer / cost if peer and cost else None,
        }
        for number, goal in enumerate(GOALS)
        for name, each in found.items()
    ]


def _cost(each: Reached, number: int) -> float | None:
    point = each.cheapest[number]
    return None if point is None else point.cost_vs_oracle


def fortnight_s(race: Race, policy: Policy) -> float:
    """Processor time of one run over all that is replayed of the trace for this policy, as seconds for 14 days."""
    began_s = time.process_time()
    outcome = race.run(policy, policy.grid[0], 180.0)
    return (time.process_time() - began_s) * 14 * 86_400 / len(outcome.queue)


def decision_us(race: Race) -> tuple[float, float]:
    """Processor time of a decision of the predictive scaler on its second day, and of a copy of it then."""
    facts = FleetFacts(race.capacity_rps, race.fleet.service_s, 180.0)
    scaler, have = PredictiveScaler(facts), round(race.fleet.instances)
    seconds = race.load.per_second[: 2 * DAY_S].tolist()
    looks = [seconds[at_s : at_s + facts.decide_s] for at_s in range(0, len(seconds), facts.decide_s)]
    began_s = 0.0
    for number, arrived in enumerate(looks, 1):
        if number == len(looks) // 2 + 1:
            began_s = time.process_time()
        have = scaler.decide(LoadSeen(number * facts.decide_s, arrived, 0.0, 0.0, have, 0))
    took_s = time.process_time() - began_s
    began_s = time.process_time()
    for _ in range(COPIES):
        scaler.copy()
    return took_s / (len(looks) / 2) * 1e6, (time.process_time() - began_s) / COPIES * 1e6


def speed(race: Race) -> list[Row]:
    """Rows of what is fast or slow, in processor time of one core."""
    one_us, copy_us = decision_us(race)
    name = "one policy, 14 days in seconds, a decision every 15 s"
    return [
        _row(name, fortnight_s(race, PEER), "s of one core"),
        _row(f"{name}: {OURS.name}", fortnight_s(race, OURS), "s of one core"),
        _row("a decision of the predictive scaler", one_us, "µs of one core"),
        _row("a copy of the predictive scaler after two days", copy_us, "µs of one core"),
    ]


def _row(name: str, value: float, unit: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": None, "peer_value": None, "ratio": None}


def main() -> None:
    """Every policy at every start-up; some ten minutes."""
    folder = TRACES / "servegen"
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds servegen/")
        return
    race = Race(reading.load(folder, WORKLOAD, 0), Fleet())
    report("scaling", [*speed(race), *(row for startup_s in STARTUPS_S for row in costs(race, POLICIES, startup_s))])


if __name__ == "__main__":
    main()
