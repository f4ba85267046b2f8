"""Replays the whole policy on one workload in virtual time: scrapes, SLIs, rules, review, arbiter, executor, fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.performance.stages import stages as finding_stages
from agents.reviewer.deterministic import DeterministicReviewer
from agents.stages import stages as deciding_stages
from contracts.clock import AHEAD_S, ClockAnchor
from contracts.errors import ConfigError
from contracts.events import EndState, FleetEvent, Message, Mode, Tick
from contracts.ledger import ClaimLimits
from contracts.ports import Reviewer
from contracts.stage import Stage
from optiinfra.orders import ChildOrders
from optiinfra.replay.account import Ear, PipelineResult, Timeline, ended, heeded, turns_per_day
from optiinfra.replay.acting import Acting
from optiinfra.replay.bill import cost_of, savings_of, static_p99
from optiinfra.replay.blind import blinded
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.fluid_slis import WorkloadSlis
from optiinfra.replay.fluid_source import Eye, Pages, Telling
from optiinfra.replay.hands import SceneController
from optiinfra.replay.hindsight import false_positives, judged, past_of
from optiinfra.replay.kv_tiers import KvTier, NoTiers, with_tier
from optiinfra.replay.options import Entry, PipelineOptions
from optiinfra.replay.prices import PriceBook
from optiinfra.replay.quiet import quiet
from optiinfra.replay.reviews import RecordedReviewer
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import SteadyZone, Zone
from optiinfra.replay.strategy import SpotStrategy
from optiinfra.replay.virtual import VirtualClock, VirtualDriver
from optiinfra.settings import FleetSettings, LimitSettings, Settings
from optiinfra.wiring.stages import arbiter_settings, evidence_age_s, rules_stage, sizing_settings
from rules.book import EngineSeat, RuleBook
from rules.core.reference import PythonEngine
from rules.core.ruleset import RuleSet, make_ruleset
from streams.core.slis import SliSettings
from streams.stages import stages as sensing_stages

SPOT_NOTICE = "spot_notice"
"""The event that tells that the spot replicas of a zone will be taken."""

LEASE_TICKS = 3

Progress = Callable[[int, int], None]
"""Told how many seconds of the trace are done, of how many; about a hundred times."""


@dataclass(frozen=True)
class Surroundings:
    """What a replay meets that is no number: zones with spot capacity, the strategy that orders there (None: the share
    in the options), prices (None: the table in the options), KV tiers, a reviewer that is not the deterministic one,
    and the file in which its answers are kept (`review_log`)."""

    zones: Mapping[str, Zone] = field(default_factory=lambda: {"steady": SteadyZone()})
    strategy: SpotStrategy | None = None
    prices: PriceBook | None = None
    kv_tier: KvTier = field(default_factory=NoTiers)
    reviewer: Reviewer | None = None
    review_log: Path | None = None


def replay_pipeline(
    arrivals: NDArray[np.int64],
    options: PipelineOptions,
    surroundings: Surroundings | None = None,
    *,
    progress: Progress | None = None,
    listen: Callable[[Message], None] | None = None,
) -> PipelineResult:
    """Run the policy on `arrivals`, requests of each second, [seconds]. `listen` hears every message that is handled.

    The same arguments give the same result, byte by byte. Raises ConfigError for arrivals that are no counts, for rules
    with errors, and for a rule to be switched off that there is not.
    """
    if arrivals.ndim != 1 or len(arrivals) == 0 or not np.issubdtype(arrivals.dtype, np.integer) or arrivals.min() < 0:
        raise ConfigError("arrivals are counts of requests, one a second", where="replay", fix="Give whole numbers.")
    with quiet():
        return _Run(arrivals, options, surroundings or Surroundings(), listen).run(progress)


class _Run:
    """One replay, from its parts to its account."""

    def __init__(
        self,
        arrivals: NDArray[np.int64],
        options: PipelineOptions,
        around: Surroundings,
        listen: Callable[[Message], None] | None,
    ) -> None:
        self._bare, options = options, with_tier(options, around.kv_tier)
        self._arrivals, self._options, self._around, self._listen = arrivals, options, around, listen
        self._cloud = cloud_of(options, around.zones, around.strategy, around.prices)
        self._scene = Scene(arrivals.tolist(), options, self._cloud, _initial(arrivals, options))
        self._eye = Eye(self._scene, options)
        self._telling: Telling = Pages(options) if options.entry is Entry.REPLICA else WorkloadSlis(options)
        self._ear = Ear(options.begin_ms)
        self._clock = VirtualClock()
        self._book = RuleBook(options.rules)
        self._book.rules = without(self._book.rules, options.rules_off)
        self._noticed = 0
        self._reviewer, self._reviewer_name = _reviewer(around)

    def run(self, progress: Progress | None) -> PipelineResult:
        """To the end of the trace."""
        options, scene = self._options, self._scene
        orders = _orders(options)
        limits = ClaimLimits(per_hour=options.actions_per_hour, lease_s=max(10.0, LEASE_TICKS * options.ticks_s))
        timeline = Timeline(scene, options.timeline_s)
        seat = EngineSeat(PythonEngine)
        hands = SceneController(scene)
        with Acting(
            self._reviewer, lambda action: hands, self._clock, limits=limits, max_age_s=evidence_age_s(orders)
        ) as acting:
            ahead_s = max(AHEAD_S, float(options.ticks_s))
            sensing = [*_sensing(options), *finding_stages(sizing_settings(orders, ahead_s=ahead_s))]
            stages = [
                *sensing,
                rules_stage(orders, self._book, seat, ahead_s=ahead_s),
                *deciding_stages(arbiter_settings(orders, ahead_s=ahead_s)),
            ]
            driver = VirtualDriver(stages, acting.readers, heard=self._hear, coded=options.coded)
            self._clock.driver = driver
            self._go(driver, timeline, progress)
        return self._account(driver.handled, timeline, hands)

    def _go(self, driver: VirtualDriver, timeline: Timeline, progress: Progress | None) -> None:
        """Scrapes and ticks in turn."""
        options, scene, end_s = self._options, self._scene, len(self._arrivals)
        scrape_s, tick_s = options.scrape_s, options.ticks_s
        report_s = max(1, end_s // 100)
        scrape_at_s, tick_at_s, report_at_s = scrape_s, tick_s, report_s
        while scene.now_s < end_s:
            scene.advance(min(end_s, scrape_at_s, tick_at_s))
            now_s = scene.now_s
            at_ms = options.begin_ms + now_s * 1000
            if now_s == scrape_at_s:
                driver.put_in_order(self._telling.tell(self._eye.look()))
                scrape_at_s += scrape_s
            driver.put(self._notices())
            if now_s == tick_at_s:
                driver.put((Tick(at_ms=at_ms, partition=0),))
                tick_at_s += tick_s
            driver.run(at_ms)
            timeline.note()
            if progress is not None and (now_s >= report_at_s or now_s == end_s):
                progress(now_s, end_s)
                report_at_s = now_s + report_s

    def _notices(self) -> Iterator[Message]:
        """The losses of spot replicas that were announced since the last look."""
        for notice in self._scene.notices[self._noticed :]:
            self._noticed += 1
            yield FleetEvent(
                workload=self._options.workload,
                name=SPOT_NOTICE,
                number=self._noticed,
                at_ms=self._options.begin_ms + notice.at_s * 1000,
                summary=f"{notice.doomed} spot replicas in {notice.zone} are taken in {notice.loss_s - notice.at_s} s",
            )

    def _hear(self, message: Message) -> None:
        self._ear.hear(message)
        if self._listen is not None:
            self._listen(message)

    def _account(self, handled: Counter[str], timeline: Timeline, hands: SceneController) -> PipelineResult:
        scene, ear, options, cloud = self._scene, self._ear, self._options, self._cloud
        reviewer = self._reviewer
        deeds, end_s = list(judged(list(ear.deeds.values()), past_of(scene), hands.touched)), len(self._arrivals)
        wrong, wrong_ratio = false_positives(deeds)
        static = static_p99(self._arrivals, options, cloud.prices)
        bare = static if options == self._bare else static_p99(self._arrivals, self._bare, cloud.prices)
        by_rule = {rule.name: Counter[str]() for rule in self._book.rules.rules}
        for deed in deeds:
            by_rule[deed.rule][deed.end_state] += 1
        return PipelineResult(
            workload=options.workload,
            reviewer=self._reviewer_name,
            reviews=_sorted(reviewer.counts) if isinstance(reviewer, RecordedReviewer) else {},
            scored_from_s=scene.scored_from_s,
            end_s=end_s,
            cost=cost_of(scene),
            static_p99=static,
            decisions=_sorted(ear.decisions),
            actions=_sorted(Counter(deed.end_state for deed in deeds)),
            actions_by_rule={name: _sorted(count) for name, count in sorted(by_rule.items())},
            undone=ended(deeds, EndState.UNDONE),
            held=ended(deeds, EndState.HELD_UNVERIFIED),
            goals_missed=sum(deed.goal_met is False for deed in deeds),
            false_positives=wrong,
            false_positive_ratio=wrong_ratio,
            savings=savings_of(scene, bare.cost, static.cost),
            fired=_sorted(ear.fired),
            alerts=_sorted(ear.alerts),
            dead_letters=ear.dead_letters,
            turns_per_day=turns_per_day(deeds, scene.scored_from_s, end_s),
            spot_strategy=cloud.strategy.name,
            spot_losses=tuple(scene.losses),
            notices=heeded(scene.notices, deeds, options.startup_s),
            outages=blinded(scene, options.outages),
            resting=resting(self._book.rules, options.scrape_s),
            deeds=tuple(deeds),
            timeline=tuple(timeline.points),
            handled=_sorted(handled),
            prices=cloud.prices.source,
            kv_tier=self._around.kv_tier.name,
        )


def without(rules: RuleSet, off: frozenset[str]) -> RuleSet:
    """The rules less those that are switched off, by name. Raises ConfigError for a name that no pack has."""
    known = {rule.name for rule in rules.rules}
    if unknown := sorted(off - known):
        what = f"no rule {unknown[0]!r}"
        raise ConfigError(what, where="replay", fix=f"Rules: {', '.join(sorted(known))}.")
    if not off:
        return rules
    packs = [
        pack.model_copy(update={"rules": {name: rule for name, rule in pack.rules.items() if name not in off}})
        for pack in rules.packs
    ]
    return make_ruleset(packs)


def resting(rules: RuleSet, scrape_s: int) -> dict[str, str]:
    """Rules that cannot fire at this distance between scrapes, with the window that is never made."""
    found: dict[str, str] = {}
    conditions = rules.by_key
    for rule in rules.rules:
        for key in rule.shape.all:
            bound = conditions[key].bound
            size_s = 0 if bound.of_finding else bound.size_s  # what an agent finds needs no scrapes of its own
            if 0 < size_s < 2 * scrape_s and conditions[key].on_missing.value == "false":
                found[rule.name] = f"{key} looks at {size_s} s, which cannot hold two scrapes {scrape_s} s apart"
    return found


def _initial(arrivals: NDArray[np.int64], options: PipelineOptions) -> int:
    wanted = options.initial_replicas
    if wanted is None:
        wanted = ceil(1.3 * float(arrivals[:60].mean()) / options.capacity_rps)
    return max(options.least_replicas, min(options.most_replicas, wanted))


def _orders(options: PipelineOptions) -> ChildOrders:
    """The orders that a child process of `up` would get: the stages are wired by the same hands as in life."""
    settings = Settings(
        mode=Mode.AUTONOMOUS,
        limits=LimitSettings(min_replicas=options.least_replicas, max_replicas=options.most_replicas),
        fleet=FleetSettings(actions_per_hour=options.actions_per_hour),
        objectives=options.objectives,
        rules=options.rules,
    )
    return ChildOrders(
        settings=settings.model_dump(),
        anchor=ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0),
        state_dir=Path(),
        parent_pid=1,
        endpoints={"redis_url": "memory://"},
    )


def _sensing(options: PipelineOptions) -> tuple[Stage, ...]:
    if options.entry is Entry.WORKLOAD:
        return ()
    grace_s = max(SliSettings.grace_s, float(options.scrape_s))
    return sensing_stages(SliSettings(default=options.objectives, grace_s=grace_s))


def _reviewer(around: Surroundings) -> tuple[Reviewer, str]:
    """Who judges, and how that is told."""
    if around.review_log is not None:
        recorded = RecordedReviewer(around.review_log, around.reviewer)
        return recorded, recorded.name
    if around.reviewer is None:
        return DeterministicReviewer(), "deterministic"
    name = f"deterministic: {around.reviewer.name} is not asked without a review log"
    return DeterministicReviewer(), name


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
