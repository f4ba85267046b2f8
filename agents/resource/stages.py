"""The stage of the resource agent, ready for either driver."""

from __future__ import annotations

from agents.resource.core.memory import Memory
from agents.resource.core.memory_state import ResourceSettings, ResourceState
from contracts.stage import Scope, Stage, fold
from contracts.topics import ACTIONS, ALERTS, EVENTS, FINDINGS, OUTCOMES, SLIS, TICKS


def resource_stage(settings: ResourceSettings) -> Stage:
    """`resource`: how short memory is, whether KV tiers or a smaller context window would help, and what was
    prevented."""
    return Stage(
        name="resource",
        inputs=(SLIS, ACTIONS, OUTCOMES, EVENTS, TICKS),
        outputs=(FINDINGS, ALERTS),
        scope=Scope.WORKLOAD,
        state=ResourceState,
        step=fold(Memory(settings).advance, ResourceState),
        doc="SLIs to pressure of memory, tiers and context windows",
    )
