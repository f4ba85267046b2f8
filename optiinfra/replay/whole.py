"""The whole policy as it stands in life, from metrics to outcomes, as one line beside the scalers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.twin.fluid import DRAIN_S
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.counterfactual import Counterfactual, counterfactuals
from optiinfra.replay.course import Race
from optiinfra.replay.frontier import Point
from optiinfra.replay.options import Outage, PipelineOptions
from optiinfra.replay.pipeline import Surroundings, replay_pipeline
from optiinfra.replay.registry import WHOLE
from optiinfra.replay.spot import SteadyZone, read_zone

DOC = "the whole policy in life: metrics, SLIs, rule packs, review, arbiter, saga, outcome"

MOST_MOMENTS = 1500
"""So many points the timeline has in the scored span, at the most about; more than a picture can show."""


@dataclass(frozen=True)
class Asked:
    """What the command line says of it. `packs`: rule files, none for the built-in ones. `spot`: a zone's record, and
    the share of replicas that are spot in it. `scrape_s`: seconds between two scrapes."""

    packs: tuple[Path, ...] = ()
    spot: Path | None = None
    spot_ratio: float = 0.5
    scrape_s: int = 5
    counterfactuals: bool = False


@dataclass(frozen=True)
class Whole:
    """What came of it at one start-up."""

    startup_s: float
    point: Point
    result: PipelineResult
    without: tuple[Counterfactual, ...]

    def row(self) -> dict[str, Any]:
        """For the report: the account without its timeline, and what each rule did to it."""
        account = self.result.model_dump(mode="json", exclude={"timeline", "workload"})
        return {
            "startup_s": self.startup_s,
            **account,
            "without": [each.model_dump(mode="json") for each in self.without],
        }

    def lines(self) -> list[str]:
        """For people."""
        result, static = self.result, self.result.static_p99
        ends = ", ".join(f"{count} {name}" for name, count in result.actions.items()) or "none"
        share = result.cost.replica_s / static.cost.replica_s
        told = [
            f"{WHOLE}, start-up {self.startup_s:g} s: actions {ends}; {result.undone} undone, {result.held} held; "
            f"{share:.1%} of the cost of {static.replicas} static replicas (p99), which keep "
            f"{static.cost.attainment_ratio:.2%} in time"
        ]
        told += [f"  rests: {rule}: {why}" for rule, why in result.resting.items()]
        told += [
            f"  without {each.rule}: cost {each.replica_s / result.cost.replica_s:+.1%}, "
            f"in time {each.attainment_ratio * 100:+.2f} points"
            for each in self.without
        ]
        return told


def run(race: Race, asked: Asked, startup_s: float, progress: Callable[[int, int], None] | None = None) -> Whole:
    """Replay it on the race's trace. Raises ConfigError for rules or a zone that cannot be read."""
    scored = race.scored
    options = PipelineOptions(
        workload=race.load.workload,
        capacity_rps=race.capacity_rps,
        startup_s=round(startup_s),
        drain_s=DRAIN_S,
        scrape_s=asked.scrape_s,
        scored_from_s=scored.begin_s,
        rules=asked.packs,
        outages=tuple(Outage(begin_s=span.begin_s, end_s=span.end_s) for span in race.blind),
        spot_ratio=asked.spot_ratio if asked.spot else 0.0,
        timeline_s=max(asked.scrape_s, (scored.end_s - scored.begin_s) // MOST_MOMENTS),
    )
    around = Surroundings(zone=read_zone(asked.spot) if asked.spot else SteadyZone())
    arrivals = race.load.per_second[: scored.end_s]
    result = replay_pipeline(arrivals, options, around, progress=progress)
    without = counterfactuals(arrivals, options, result, around) if asked.counterfactuals else ()
    point = Point(
        WHOLE,
        startup_s,
        {"scrape_s": asked.scrape_s},
        result.cost.replica_s / race.plan(startup_s).billed_s,
        result.cost.attainment_ratio,
        result.turns_per_day,
        0,
    )
    return Whole(startup_s, point, result, without)
