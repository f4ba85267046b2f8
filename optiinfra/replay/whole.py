"""The whole policy as it stands in life, from metrics to outcomes, as one line beside the scalers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from connectors.prices.listed import read_listed
from connectors.twin.fluid import DRAIN_S
from contracts.ports import Reviewer
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.blind import together
from optiinfra.replay.counterfactual import Counterfactual, counterfactuals
from optiinfra.replay.course import Race
from optiinfra.replay.frontier import Point
from optiinfra.replay.kv_tiers import NoTiers, StationaryTier, with_tier
from optiinfra.replay.mishaps import Mishaps
from optiinfra.replay.options import Outage, PipelineOptions
from optiinfra.replay.pipeline import Surroundings, replay_pipeline
from optiinfra.replay.prices import CatalogueBook
from optiinfra.replay.registry import WHOLE
from optiinfra.replay.spot import SteadyZone, Zone, read_zones

DOC = "the whole policy in life: metrics, SLIs, rule packs, review, arbiter, saga, outcome"

MOST_MOMENTS = 1500
"""So many points the timeline has in the scored span, at the most about; more than a picture can show."""


@dataclass(frozen=True)
class Asked:
    """What the command line says of it. `packs`: rule files, none for the built-in ones. `spot`: a zone's record or a
    folder of such, and the share of replicas that are spot there, above on-demand ones for `spot_floor` of the load;
    `spot_heed`: announced losses are replaced at the notice. `prices`: a catalogue, an instance in it, and the GPUs of
    a replica. `kv_hit`: the share of prompt work that an assumed KV tier saves. `own_usd_per_h`: what OptiInfra costs.
    `scrape_s`: seconds between two scrapes. `service_s`: how long a request is in service; None: as `PipelineOptions`.
    `review_log`: where a reviewer's answers are kept, and `reviewer` who is asked what is not there. `zones`: spot
    zones that are made up, beside the recorded ones; `mishaps`: what happens to the replicas."""

    packs: tuple[Path, ...] = ()
    spot: Path | None = None
    spot_ratio: float = 0.5
    scrape_s: int = 5
    counterfactuals: bool = False
    spot_floor: float = 0.0
    spot_heed: bool = True
    prices: tuple[Path, str, int] | None = None
    kv_hit: float = 0.0
    own_usd_per_h: float = 0.0
    service_s: int | None = None
    review_log: Path | None = None
    reviewer: Reviewer | None = None
    zones: Mapping[str, Zone] = field(default_factory=dict)
    mishaps: Mishaps = field(default_factory=Mishaps)

    def around(self) -> Surroundings:
        """Zones, prices and KV tiers. Raises ConfigError for what cannot be read."""
        zones: dict[str, Zone] = dict(self.zones)
        if self.spot is not None:
            zones |= read_zones(self.spot)
        book = None
        if self.prices is not None:
            path, instance, gpus = self.prices
            book = CatalogueBook(read_listed(path, instance), gpus, {})
        return Surroundings(
            zones=zones or {"steady": SteadyZone()},
            prices=book,
            kv_tier=StationaryTier(hit_ratio=self.kv_hit) if self.kv_hit else NoTiers(),
            reviewer=self.reviewer,
            review_log=self.review_log,
        )


@dataclass(frozen=True)
class Whole:
    """What came of it at one start-up."""

    startup_s: float
    service_s: int
    point: Point
    result: PipelineResult
    without: tuple[Counterfactual, ...]

    def row(self) -> dict[str, Any]:
        """For the report: the account without its timeline, and what each rule did to it."""
        account = self.result.model_dump(mode="json", exclude={"timeline", "workload"})
        return {
            "startup_s": self.startup_s,
            "service_s": self.service_s,
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
        told += account_lines(result)
        told += [f"  rests: {rule}: {why}" for rule, why in result.resting.items()]
        told += [
            f"  without {each.rule}: cost {each.replica_s / result.cost.replica_s:+.1%}, "
            f"in time {each.attainment_ratio * 100:+.2f} points"
            for each in self.without
        ]
        return told


def reviewed(result: PipelineResult) -> str:
    """Who judged, and where answers are played back how many sets of candidates each."""
    counts = ", ".join(f"{many} {who}" for who, many in result.reviews.items())
    return f"{result.reviewer} ({counts})" if counts else result.reviewer


def account_lines(result: PipelineResult) -> list[str]:
    """Savings by part, actions that were not needed, outages and spot losses, in words."""
    parts = ", ".join(f"{name} {each.share:+.1%}" for name, each in result.savings.items() if abs(each.usd) >= 0.01)
    told = [
        f"  saved of the bill of static p99: {parts or 'nothing'}; prices: {result.prices}",
        f"  reviewer: {reviewed(result)}",
        f"  {result.false_positives} actions undone or not needed in hindsight, {result.false_positive_ratio:.1%}",
    ]
    told += [
        f"  nothing measured from {each.begin_s} s to {each.end_s} s: {each.serving_before} replicas served before, "
        f"{each.serving_least} at the least, {each.serving_after} at its end; {each.removed_blind} were given up"
        for each in result.outages
    ]
    if result.notices:
        doomed, replaced = (sum(getattr(each, name) for each in result.notices) for name in ("doomed", "replaced"))
        told.append(
            f"  spot: {result.spot_strategy}; {len(result.notices)} losses announced for {doomed} replicas, {replaced} "
            f"replaced at the notice; {result.cost.interrupted:.0f} requests interrupted"
        )
    return told


def options_of(race: Race, asked: Asked, startup_s: float) -> PipelineOptions:
    """The replicas, promises and troubles of the race, as the whole policy meets them."""
    return PipelineOptions(
        workload=race.load.workload,
        capacity_rps=race.capacity_rps,
        service_s=asked.service_s,
        startup_s=round(startup_s),
        drain_s=DRAIN_S,
        scrape_s=asked.scrape_s,
        scored_from_s=race.scored.begin_s,
        rules=asked.packs,
        outages=tuple(Outage(begin_s=span.begin_s, end_s=span.end_s) for span in race.blind),
        spot_ratio=asked.spot_ratio if asked.spot or asked.zones else 0.0,
        mishaps=asked.mishaps,
        timeline_s=max(asked.scrape_s, (race.scored.end_s - race.scored.begin_s) // MOST_MOMENTS),
        spot_floor_ratio=asked.spot_floor,
        spot_replaces=asked.spot_heed,
        own_usd_per_h=asked.own_usd_per_h,
    )


def run(race: Race, asked: Asked, startup_s: float, progress: Callable[[str, int, int], None] | None = None) -> Whole:
    """Replay it on the race's trace. `progress` is told what is being done, how much of it is done, and of how much.
    Raises ConfigError for rules, prices or a zone that cannot be read."""
    options, around = options_of(race, asked, startup_s), asked.around()
    arrivals = race.load.per_second[: race.scored.end_s]
    tell = progress or (lambda what, done, of: None)
    result = replay_pipeline(arrivals, options, around, progress=partial(tell, "the whole policy"))
    without: tuple[Counterfactual, ...] = ()
    if asked.counterfactuals:
        without = counterfactuals(arrivals, options, result, around, progress=partial(tell, "without each rule"))
    point = Point(
        WHOLE,
        startup_s,
        {"scrape_s": asked.scrape_s},
        result.cost.replica_s / race.plan(startup_s).billed_s,
        result.cost.attainment_ratio,
        result.turns_per_day,
        sum(each.removed_blind for each in result.outages),
        *together(result.outages),
        race.account_measures(result, startup_s),
    )
    return Whole(startup_s, with_tier(options, around.kv_tier).in_service_s, point, result, without)
