"""The stages of this package, ready for either driver."""

from __future__ import annotations

from contracts.stage import Scope, Stage, fold
from contracts.topics import ALERTS, METRICS, SLIS, TICKS, WINDOWS
from streams.core import latest
from streams.core.slis import SliFold, SliSettings, WorkloadState
from streams.core.windows import InstanceState, windows_advance


def stages(settings: SliSettings) -> tuple[Stage, ...]:
    """`windows`, `slis` and `latest`, with the objectives and limits they are to use."""
    return (
        Stage(
            name="windows",
            inputs=(METRICS, TICKS),
            outputs=(WINDOWS,),
            scope=Scope.INSTANCE,
            state=InstanceState,
            step=fold(windows_advance(settings.sizes_s), InstanceState),
            doc="scrapes of an instance to evidence per window",
        ),
        Stage(
            name="slis",
            inputs=(WINDOWS, TICKS),
            outputs=(SLIS, ALERTS),
            scope=Scope.WORKLOAD,
            state=WorkloadState,
            step=fold(SliFold(settings).advance, WorkloadState),
            doc="evidence of a workload's instances to SLIs and their revisions",
        ),
        Stage(
            name="latest",
            inputs=(METRICS, TICKS),
            outputs=(SLIS,),
            scope=Scope.WORKLOAD,
            state=latest.LatestState,
            step=fold(latest.advance, latest.LatestState),
            doc="newest scrapes to latest-value SLIs",
        ),
    )
