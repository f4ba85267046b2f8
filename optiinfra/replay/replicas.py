"""A replica of the simulated fleet from its order to its end, and what is billed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from optiinfra.replay.strategy import ON_DEMAND


class Phase(StrEnum):
    """The life of a replica. `gone` was removed, `lost` was spot capacity and was taken."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"
    LOST = "lost"


PRESENT = frozenset({Phase.STARTING, Phase.SERVING, Phase.DRAINING})
"""Phases in which a replica is billed."""


@dataclass(eq=False, slots=True)
class Replica:
    """One server in a zone, on demand where that is empty. `since_s` is when its present phase began; a `retiring` one
    is removed once it is drained. `ready_s` is when it first served, `left_s` when it was given up or lost."""

    name: str
    ordered_s: int
    zone: str
    phase: Phase = Phase.STARTING
    since_s: int = 0
    retiring: bool = False
    ready_s: int | None = None
    left_s: int | None = None

    @property
    def spot(self) -> bool:
        return self.zone != ON_DEMAND

    @property
    def has_served(self) -> bool:
        return self.ready_s is not None


@dataclass
class Bill:
    """Replica-seconds in the scored span, and what they cost."""

    on_demand_s: int = 0
    spot_s: int = 0
    usd: float = 0.0
