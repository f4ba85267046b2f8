"""The stages of this package, ready for either driver."""

from __future__ import annotations

from agents.core.arbiter import Arbiter
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import ArbiterState
from contracts.stage import Scope, Stage, fold
from contracts.topics import (
    ACTIONS,
    ALERTS,
    APPROVALS,
    CANDIDATES,
    CONTROLS,
    DECISIONS,
    EVENTS,
    OUTCOMES,
    REVIEWS,
    TICKS,
)


def stages(settings: ArbiterSettings) -> tuple[Stage, ...]:
    """`arbiter`, with the limits and deadlines it is to keep."""
    return (
        Stage(
            name="arbiter",
            inputs=(CANDIDATES, REVIEWS, APPROVALS, CONTROLS, EVENTS, OUTCOMES, TICKS),
            outputs=(DECISIONS, ACTIONS, ALERTS),
            scope=Scope.WORKLOAD,
            state=ArbiterState,
            step=fold(Arbiter(settings).advance, ArbiterState),
            doc="candidates and their reviews to decisions and actions",
        ),
    )
