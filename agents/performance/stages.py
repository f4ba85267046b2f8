"""The stages of the performance agent, ready for either driver."""

from __future__ import annotations

from agents.performance.core.sizing import Sizing
from agents.performance.core.sizing_state import SizingSettings, SizingState
from contracts.stage import Scope, Stage, fold
from contracts.topics import ACTIONS, FINDINGS, OUTCOMES, SLIS, TICKS


def stages(settings: SizingSettings) -> tuple[Stage, ...]:
    """`sizing`, with the objectives and bounds of the workloads."""
    return (
        Stage(
            name="sizing",
            inputs=(SLIS, ACTIONS, OUTCOMES, TICKS),
            outputs=(FINDINGS,),
            scope=Scope.WORKLOAD,
            state=SizingState,
            step=fold(Sizing(settings).advance),
            doc="SLIs to how many replicas there should be",
        ),
    )
