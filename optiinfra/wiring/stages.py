"""All stages of the pipeline, with the settings of one `up`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.clock import AHEAD_S, ClockAnchor
from contracts.errors import Unavailable
from contracts.stage import Stage
from optiinfra.orders import ChildOrders
from optiinfra.settings import LimitSettings, Settings
from optiinfra.wiring.common import settings_of, twin_workloads

if TYPE_CHECKING:
    from agents.core.arbiter_settings import ArbiterSettings, Limits
    from agents.performance.core.sizing_state import SizingSettings
    from agents.performance.core.steering_state import SteeringSettings
    from agents.resource.core.memory_state import ResourceSettings
    from rules.book import EngineSeat, MakeEngine, RuleBook

GRACE_WALL_S = 1.5
"""A silent instance is waited for at least so long on the wall: at high speed, event seconds pass too quickly."""

TWIN_BOUNDS = (1, 8)
"""Replicas of a simulated workload, fewest and most, where the settings name none: to act alone, bounds are needed."""

MOST_REPLICAS = 1000
"""More than nobody names a bound of; what is wanted stays below it."""


def evidence_age_s(orders: ChildOrders) -> float:
    """How old evidence may be to rest an action on it, event seconds: three of the smallest windows, and at high speed
    the three wall seconds that it may take on its way."""
    return max(30.0, 3.0 * orders.anchor.speed)


def make_stages(orders: ChildOrders) -> Mapping[str, Stage]:
    """The stages in the order of the pipeline. Their rules are decided by the reference evaluator; the process that
    runs them has an engine of its own."""
    from agents.performance.stages import stages as finding
    from agents.resource.stages import resource_stage
    from agents.stages import stages as deciding
    from streams.core.slis import SliSettings
    from streams.stages import stages as sensing

    settings = settings_of(orders)
    limits = SliSettings(objectives=dict(settings.workloads), default=settings.objectives)
    made = [*sensing(replace(limits, grace_s=max(limits.grace_s, GRACE_WALL_S * orders.anchor.speed)))]
    made += finding(sizing_settings(orders), steering_settings(orders))
    made.append(resource_stage(resource_settings(orders)))
    book = make_book(settings)
    made.append(rules_stage(orders, book, engine_seat("python", _nobody_listens)))
    made += deciding(arbiter_settings(orders))
    return {stage.name: stage for stage in made}


def default_stages() -> Mapping[str, Stage]:
    """The stages with default settings: for whoever only asks what they read and write."""
    anchor = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0)
    return make_stages(ChildOrders(anchor=anchor, state_dir=Path(), parent_pid=1))


def make_book(settings: Settings) -> RuleBook:
    """The rules of the settings, or those that come with the platform. Raises ConfigError with all their errors."""
    from rules.book import RuleBook

    return RuleBook(settings.rules)


def rules_stage(orders: ChildOrders, book: RuleBook, seat: EngineSeat, *, ahead_s: float = AHEAD_S) -> Stage:
    """The stage of rules on an engine. `ahead_s`: how far past the newest tick a message can push its time."""
    from rules.core.fold import RuleSettings
    from rules.stages import stages

    (stage,) = stages(book, seat, RuleSettings(max_age_s=evidence_age_s(orders), ahead_s=ahead_s))
    return stage


def sizing_settings(orders: ChildOrders, *, ahead_s: float = AHEAD_S) -> SizingSettings:
    """What stage `sizing` is told of the workloads: what they promise, and how few or many replicas may serve them.
    `ahead_s` as for the rules."""
    from agents.performance.core.sizing_state import SizingSettings

    settings, simulated = settings_of(orders), not settings_of(orders).targets
    own = {name: _bounds(limits, simulated=simulated) for name, limits in settings.workload_limits.items()}
    return SizingSettings(
        target=settings.objectives.attainment_target_ratio,
        targets={name: each.attainment_target_ratio for name, each in settings.workloads.items()},
        default_bounds=_bounds(settings.limits, simulated=simulated),
        bounds=own,
        default_turns=settings.limits.turns_a_day,
        turns={name: limits.turns_a_day for name, limits in settings.workload_limits.items()},
        max_age_s=evidence_age_s(orders),
        ahead_s=ahead_s,
    )


def steering_settings(orders: ChildOrders) -> SteeringSettings:
    """What stage `steering` is told of the workloads: what they promise, and how their replicas were started."""
    from agents.performance.core.steering_state import Declared, SteeringSettings
    from agents.performance.core.trials import Setting

    settings = settings_of(orders)
    engines = {
        name: Setting(
            each.max_num_seqs,
            each.max_num_batched_tokens,
            each.tensor_parallel,
            each.kv_offloading_size,
            each.kv_disk_gb,
        )
        for name, each in settings.engines.items()
    }
    if not settings.targets:
        for spec in twin_workloads(settings):
            flags, gpus = spec.engine, int(spec.engine.profile.name.rpartition("/tp")[2])
            engines.setdefault(spec.name, Setting(flags.max_num_seqs, flags.max_num_batched_tokens, gpus))
    tiers = {
        name: Declared((each.kv_offloading_size, each.kv_disk_gb), each.warm_s, each.watch_s)
        for name, each in settings.tiers.items()
    }
    return SteeringSettings(
        engines=engines,
        tiers=tiers,
        objectives=dict(settings.workloads),
        default=settings.objectives,
        max_age_s=evidence_age_s(orders),
    )


def resource_settings(orders: ChildOrders) -> ResourceSettings:
    """What stage `resource` is told of the workloads: the context windows that their replicas were started with, and
    what stands before them."""
    from agents.resource.core.memory_state import ResourceSettings

    settings = settings_of(orders)
    known = {name: each.max_model_len for name, each in settings.engines.items() if each.max_model_len is not None}
    if not settings.targets:
        for spec in twin_workloads(settings):
            known.setdefault(spec.name, spec.engine.max_model_len)
    return ResourceSettings(
        context_tokens=known,
        least_context_tokens={name: each.least_context_tokens for name, each in settings.gateways.items()},
        gateways=frozenset(settings.gateways) if settings.targets else None,
        max_age_s=max(120.0, evidence_age_s(orders)),
    )


def _bounds(wanted: LimitSettings, *, simulated: bool) -> tuple[int, int]:
    """Without a bound of their own, at least one replica and at most so many as nobody has."""
    limits = _limits(wanted, simulated=simulated)
    least = limits.least_replicas
    return least, limits.max_replicas or max(least, MOST_REPLICAS)


Trouble = Callable[[str, str], None]
"""Hears of an engine that was restarted, or answered wrongly: the alert's name, and what happened."""


def engine_seat(wanted: str, trouble: Trouble) -> EngineSeat:
    """The engine that the settings want: `durable`, `python`, or `auto`, which is durable_rules where it is installed.

    Raises Unavailable where durable_rules is demanded and not there.
    """
    from rules.book import EngineSeat

    return EngineSeat(engine_maker(engine_name(wanted), trouble))


def engine_name(wanted: str) -> str:
    """`durable` or `python`. Raises Unavailable where durable_rules is demanded and cannot be used."""
    if wanted == "python":
        return "python"
    from rules.engines.durable import available

    why_not = available()
    if not why_not:
        return "durable"
    if wanted == "durable":
        raise Unavailable(
            why_not, where="rule_engine", fix="pip install 'optiinfra[durable]' (a C compiler is needed), or set auto."
        )
    return "python"


def engine_maker(name: str, trouble: Trouble) -> MakeEngine:
    """How the engine of this name is made."""
    if name == "python":
        from rules.core.reference import PythonEngine

        return PythonEngine
    from rules.engines.durable import DurableEngine

    return lambda shapes: DurableEngine(shapes, on_trouble=trouble, clock_s=time.monotonic)


def _nobody_listens(name: str, detail: str) -> None:
    """For stages that are only looked at."""


def arbiter_settings(orders: ChildOrders, *, ahead_s: float = AHEAD_S) -> ArbiterSettings:
    """How far the arbiter may go. Its waits are event time, so at high speed they grow by what a wall second holds."""
    from agents.core.arbiter_settings import ArbiterSettings

    settings, speed = settings_of(orders), orders.anchor.speed
    has_ledger, simulated = "redis_url" in orders.endpoints, not settings.targets
    gateways = None if simulated else frozenset(settings.gateways)
    review_wall_s = 3 * settings.review.timeout_s + 5 if settings.review.wants_llm else 5.0
    review_s = max(40.0, review_wall_s * speed)
    return ArbiterSettings(
        anchor=orders.anchor,
        ahead_s=ahead_s,
        default_mode=settings.acting_mode,
        has_controller=simulated and has_ledger,
        gateways=gateways if has_ledger else frozenset(),
        default_limits=_limits(settings.limits, simulated=simulated),
        limits={name: _limits(own, simulated=simulated) for name, own in settings.workload_limits.items()},
        review_within_s=review_s,
        max_age_s=review_s + 20.0,
        count_age_s=max(900.0, 60.0 * speed),
        start_within_s=max(30.0, 5.0 * speed),
    )


def _limits(wanted: LimitSettings, *, simulated: bool) -> Limits:
    from agents.core.arbiter_settings import Limits

    fewest, most = TWIN_BOUNDS if simulated else (None, None)
    return Limits(
        min_replicas=wanted.min_replicas or fewest,
        max_replicas=wanted.max_replicas or most,
        max_step_down_ratio=wanted.max_step_down_ratio,
        max_step_up_ratio=wanted.max_step_up_ratio,
        up_cooldown_s=wanted.up_cooldown_s,
        down_cooldown_s=wanted.down_cooldown_s,
    )
