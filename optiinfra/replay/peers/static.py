"""A fleet of constant size, made for the highest minute of the trace: most fleets are so, if told the peak."""

from __future__ import annotations

from math import ceil

import numpy as np

from contracts.scaling import LoadSeen, Scaler
from optiinfra.replay.oracle import SLOT_S
from optiinfra.replay.policy import Course, Knobs, Policy, amount, grid


class Static:
    """Always the same number of replicas."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def decide(self, seen: LoadSeen) -> int:
        return self._replicas


def build(course: Course, knobs: Knobs) -> Scaler:
    """`peak_ratio` times the mean rate of the highest minute."""
    size = len(course.arrived)
    slots = np.pad(course.arrived, (0, -size % SLOT_S)).reshape(-1, SLOT_S)
    peak_rps = float(slots.mean(axis=1).max())
    return Static(ceil(peak_rps * amount(knobs, "peak_ratio") / course.facts.capacity_rps))


POLICY = Policy(
    "static-peak",
    "constant, made for the highest minute",
    build,
    grid(peak_ratio=(0.3, 0.4, 0.55, 0.7, 0.85, 1.0, 1.2, 2.0, 4.0)),
    main="peak_ratio",
    decide_s=60,
    memory_s=None,
    clairvoyant=True,
)
