"""How far stage `arbiter` may go: the limits of each workload, its deadlines, and who may act alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contracts.clock import AHEAD_S, ClockAnchor
from contracts.events import ActionKind, Mode

GATEWAY_TTL_WALL_S = 300.0
"""The number for a gateway is of the minute in which it was asked for: approved later, it would hold back requests of a
load that is gone, or let them in to one that came back."""


@dataclass(frozen=True)
class Limits:
    """Of one workload; cooldowns in event seconds. Without both bounds the platform does not act alone; no limit lets
    the last replica go. `max_step_down_ratio` is of the replicas that answer, one at least; `max_step_up_ratio` is what
    scale-ups on top of one another may add together before they serve, two at least."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    max_step_down_ratio: float = 0.2
    max_step_up_ratio: float = 2.0
    up_cooldown_s: float = 60.0
    down_cooldown_s: float = 300.0

    @property
    def least_replicas(self) -> int:
        """How many replicas stay whatever is asked: nothing here switches a workload off."""
        return self.min_replicas or 1


@dataclass(frozen=True)
class ArbiterSettings:
    """What holds for all workloads; event seconds unless the name says wall.

    `ahead_s`: how far past the newest tick a message may push time, since its writer's clock may be ahead.
    `has_controller`: whether anything can be done to replicas; `gateways`: the workloads before which there is one to
    act on, None for all. A set of candidates waits `review_within_s` for its review, and
    is too old to decide on after `max_age_s`: a reviewer needs time, so the second is the longer one. When a person
    approves, the replicas may have been counted `count_age_s` ago: people need longer, and the executor counts again.
    An action starts within `start_within_s`; one whose outcome is `overdue_s` late is said again, and as long after
    that it is told of. `manual_hold_s`: how long the platform yields to a change by hand. Approvals expire after
    `approval_ttl_wall_s`: people live by the clock on the wall, and `anchor` turns event time into it. Those of what is
    done at a gateway expire after `GATEWAY_TTL_WALL_S`, if that is sooner.
    """

    anchor: ClockAnchor
    ahead_s: float = AHEAD_S
    default_mode: Mode = Mode.ADVISORY
    has_controller: bool = False
    gateways: frozenset[str] | None = frozenset()
    default_limits: Limits = Limits()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    review_within_s: float = 40.0
    max_age_s: float = 60.0
    count_age_s: float = 900.0
    start_within_s: float = 30.0
    overdue_s: float = 300.0
    manual_hold_s: float = 600.0
    approval_ttl_wall_s: float = 86_400.0
    min_confidence_autonomous: float = 0.5
    min_confidence_semi: float = 0.9

    def lacks(self, kind: ActionKind, workload: str) -> str:
        """What there would have to be to do such a thing, in words; empty where it is there."""
        if not kind.gateway_setting:
            return "" if self.has_controller else "there is no controller for this fleet"
        there = self.gateways is None or workload in self.gateways
        return "" if there else f"no gateway is named for {workload} (gateways in optiinfra.yaml)"

    def limits_of(self, workload: str) -> Limits:
        """The workload's own limits, or those that hold where it has none."""
        return self.limits.get(workload, self.default_limits)

    def expires_wall_ms(self, at_ms: int, kind: ActionKind) -> int:
        """When a case of this kind that is opened at event time `at_ms` expires, wall ms."""
        ttl_s = self.approval_ttl_wall_s
        if kind.gateway_setting:
            ttl_s = min(ttl_s, GATEWAY_TTL_WALL_S)
        return self.wall_ms(at_ms) + round(ttl_s * 1000)

    def wall_ms(self, at_ms: int) -> int:
        """Wall time at event time `at_ms`."""
        return int(self.anchor.wall_ms(at_ms))
