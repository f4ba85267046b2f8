"""A scenario as a race: the whole policy and every scaler drive the same fleet through the same mishaps.

A scaler has the knobs with which it keeps 99 % most cheaply, in hindsight, on an ordinary day at the same start-up: the
wave, drift and bursts that were measured on m-large, and no mishap. The whole policy has no knobs to tune.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from connectors.traces.generated import Profile, arrivals
from connectors.twin.fluid import Span
from optiinfra.replay import frontier
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.bill import Cost, Static, cost_of, static_p99, static_scene
from optiinfra.replay.blind import blinded
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.curves import Staged
from optiinfra.replay.frontier import Point
from optiinfra.replay.hindsight import past_of
from optiinfra.replay.kv_tiers import with_tier
from optiinfra.replay.lateness import pooled
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.peer_scene import driven
from optiinfra.replay.policy import DAY_S, Knobs, Policy
from optiinfra.replay.registry import STATIC_P99
from optiinfra.replay.replicas import PRESENT
from optiinfra.replay.report import ORACLE, knobs_line, share_cell
from optiinfra.replay.scenarios import Scenario
from optiinfra.replay.scene import Scene
from optiinfra.replay.several import Run
from optiinfra.replay.whole import Asked, options_of

COLUMNS = ("policy", "replica-hours", "bill, of static p99", "in time", "in the hours watched", "turns a day", "knobs")
COST, WATCHED, HOURS = "cost_vs_static_p99", "attainment_watched", "replica_h"
ORDINARY_S = DAY_S
SPOT_SHARE = 0.5
"""Share of spot replicas where a scenario has spot zones, and of the load for which on-demand ones stand first."""


@dataclass(frozen=True)
class StagedRace(Race):
    """One scenario, with what the command line asks for beside it."""

    scenario: Scenario = field(kw_only=True)
    asked: Asked = field(kw_only=True)
    seed: int = field(kw_only=True)
    _statics: dict[float, Static] = field(init=False, repr=False, default_factory=dict)

    @property
    def scored(self) -> Span:
        """From when the scenario says that enough was learnt."""
        return Span(self.scenario.scored_from_s, self.scenario.length_s)

    def tried(self, policy: Policy, startup_s: float) -> Policy:
        """The policy with one setting of its knobs: the best on an ordinary day."""
        drawn = arrivals(Profile(), ORDINARY_S, self.seed, "an ordinary day")
        found = frontier.points(_Ordinary(drawn, self.fleet), policy, startup_s)
        best = frontier.reached(found).cheapest[0] or max(found, key=lambda point: point.attainment)
        return replace(policy, grid=(best.knobs,), main="")

    def run(self, policy: Policy, knobs: Knobs, startup_s: float) -> Staged:
        """A scaler in the scene of the whole policy."""
        peer = driven(self, self.asked, startup_s, policy, knobs)
        return self.outcome(peer.scene, startup_s, peer.orders)

    def outcome(self, scene: Scene, startup_s: float, orders: Sequence[tuple[int, int]] = ()) -> Staged:
        """What became of a scene that has come to its end."""
        cost, scored = cost_of(scene), self.scored
        signs = [by > 0 for at_s, by in orders if scored.begin_s <= at_s < scored.end_s]
        return Staged(
            cost.replica_s,
            cost.attainment_ratio,
            sum(was != now for was, now in pairwise(signs)),
            tuple(orders),
            sum(each.removed_blind for each in blinded(scene, scene.options.outages)),
            np.array(scene.queue[1:]),
            self._measures(cost, _in_time(scene, self.scenario.watched_s), startup_s),
            ready=past_of(scene).serving.astype(np.float64),
            billed=_billed(scene),
        )

    def account_measures(self, result: PipelineResult, startup_s: float) -> dict[str, float | None]:
        """The same of the whole policy, from its timeline: to a moment of it, and without interrupted requests."""
        watched = self.scenario.watched_s
        kept = [each for each in result.timeline if watched.begin_s < each.at_s <= watched.end_s]
        came = sum(each.arrived_rps for each in kept)
        late = sum(each.arrived_rps * each.late_ratio for each in kept)
        return self._measures(result.cost, 1.0 - late / came if came else None, startup_s)

    def static(self, startup_s: float) -> tuple[int, Staged]:
        """The number of replicas that static p99 has, and what became of them in the same mishaps."""
        replicas = self._static(startup_s).replicas
        scene = static_scene(self.load.per_second, self._options(startup_s), replicas, self.asked.around().prices)
        return replicas, self.outcome(scene, startup_s)

    def about(self) -> dict[str, Any]:
        """What the report says of a scenario beside what it says of every race."""
        scenario = self.scenario
        return super().about() | {
            "scenario": scenario.name,
            "story": scenario.story,
            "service_s": self._options(float(scenario.startup_s)).in_service_s,
            "scored": f"from {scenario.scored_from_s / 3600:g} h on",
            "watched_s": [scenario.watched_s.begin_s, scenario.watched_s.end_s],
            "mishaps": self.asked.mishaps.model_dump(mode="json"),
            "tuning": "knobs that keep 99 % most cheaply, in hindsight, on an ordinary day drawn with the same seed",
        }

    def _static(self, startup_s: float) -> Static:
        if startup_s not in self._statics:
            prices = self.asked.around().prices
            self._statics[startup_s] = static_p99(self.load.per_second, self._options(startup_s), prices)
        return self._statics[startup_s]

    def _options(self, startup_s: float) -> PipelineOptions:
        """What the fleet of this scenario is told, its KV tiers counted in."""
        return with_tier(options_of(self, self.asked, startup_s), self.asked.around().kv_tier)

    def _measures(self, cost: Cost, watched: float | None, startup_s: float) -> dict[str, float | None]:
        return {
            COST: round(cost.usd / self._static(startup_s).cost.usd, 6),
            WATCHED: None if watched is None else round(watched, 8),
            HOURS: round(cost.replica_s / 3600, 3),
        }


class _Ordinary(Race):
    """A day in the fluid fleet of the scalers, of which the first hours are for learning."""

    @property
    def scored(self) -> Span:
        return Span(ORDINARY_S // 4, ORDINARY_S)


def stage(scenario: Scenario, asked: Asked, seed: int, fleet: Fleet | None = None) -> StagedRace:
    """A scenario drawn with this seed. What `asked` says of packs, scrapes and prices holds; its zones and mishaps are
    the scenario's."""
    zones = scenario.zones(seed)
    asked = replace(asked, zones=zones, mishaps=scenario.mishaps)
    if zones:
        asked = replace(asked, spot_ratio=SPOT_SHARE, spot_floor=SPOT_SHARE)
    return StagedRace(
        scenario.load(seed), fleet or Fleet(), scenario.outages, scenario=scenario, asked=asked, seed=seed
    )


def line(point: Point) -> tuple[object, ...]:
    """Cells of COLUMNS."""
    cells = _cells(point.attainment, point.measures)
    return (point.policy, *cells, f"{point.direction_changes_per_day:.0f}", knobs_line(point.knobs) or "–")


def tables(runs: Sequence[Run]) -> list[tuple[Sequence[str], list[Sequence[object]]]]:
    """Columns and lines for people of each scenario and start-up: who was run, then static p99, whose bill is the unit.
    None for what is no scenario."""
    found: list[tuple[Sequence[str], list[Sequence[object]]]] = []
    for run in runs:
        if isinstance(run.race, StagedRace):
            for startup_s in dict.fromkeys(point.startup_s for point in run.found):
                found.append((COLUMNS, table(run.race, run.found, startup_s)))
    return found


def table(race: StagedRace, found: Sequence[Point], startup_s: float) -> list[Sequence[object]]:
    """Lines at one start-up."""
    replicas, static = race.static(startup_s)
    told: list[Sequence[object]] = [
        line(point) for point in found if point.policy != ORACLE and point.startup_s == startup_s
    ]
    cells = _cells(static.attainment_ratio, static.measures)
    return [*told, (STATIC_P99, *cells, "0", f"replicas={replicas}")]


def _cells(attainment: float, measures: Mapping[str, float | None]) -> tuple[object, ...]:
    return (
        f"{measures[HOURS]:,.1f}",
        share_cell(measures[COST]),
        share_cell(attainment),
        share_cell(measures[WATCHED]),
    )


def _in_time(scene: Scene, span: Span) -> float | None:
    return pooled(scene.total, scene.queue, [(span.begin_s, span.end_s)], scene.options.late_after_s)


def _billed(scene: Scene) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Replicas that are billed in each second, [seconds]."""
    size = len(scene.arrived)
    change = np.zeros(size + 1)
    for each in scene.known.values():
        change[each.ordered_s] += 1
        if each.phase not in PRESENT:
            change[min(size, each.since_s)] -= 1
    return np.cumsum(change)[:size]
