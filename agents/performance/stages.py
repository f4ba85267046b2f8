"""The stages of the performance agent, ready for either driver."""

from __future__ import annotations

from agents.performance.core.sizing import Sizing
from agents.performance.core.sizing_state import SizingSettings, SizingState
from agents.performance.core.steering import Steering
from agents.performance.core.steering_state import SteeringSettings, SteeringState
from contracts.stage import Scope, Stage, fold
from contracts.topics import ACTIONS, FINDINGS, OUTCOMES, SLIS, TICKS


def stages(settings: SizingSettings, steering: SteeringSettings | None = None) -> tuple[Stage, ...]:
    """`sizing`, with the objectives and bounds of the workloads, and `steering` where its settings are given: it needs
    SLIs of single replicas."""
    sizing = Stage(
        name="sizing",
        inputs=(SLIS, ACTIONS, OUTCOMES, TICKS),
        outputs=(FINDINGS,),
        scope=Scope.WORKLOAD,
        state=SizingState,
        step=fold(Sizing(settings).advance, SizingState),
        doc="SLIs to how many replicas there should be",
    )
    if steering is None:
        return (sizing,)
    return (sizing, steering_stage(steering))


def steering_stage(settings: SteeringSettings) -> Stage:
    """`steering`: trials of engine settings, and shares of requests by replica. One stage for both, for each stage is
    a process."""
    return Stage(
        name="steering",
        inputs=(SLIS, ACTIONS, OUTCOMES, TICKS),
        outputs=(FINDINGS,),
        scope=Scope.WORKLOAD,
        state=SteeringState,
        step=fold(Steering(settings).advance, SteeringState),
        doc="SLIs of replicas to engine settings and shares of requests",
    )
