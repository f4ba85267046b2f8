"""For reference: a forecast that is right about every minute's mean and knows nothing of what happens within."""

from __future__ import annotations

from math import ceil

import numpy as np

from connectors.twin.fluid import Span
from contracts.scaling import Scaler
from optiinfra.replay.oracle import SLOT_S, Follow, plan
from optiinfra.replay.policy import Course, Knobs, Policy, amount, grid


def build(course: Course, knobs: Knobs) -> Scaler:
    """Follows the cheapest plan that gives every minute `margin_ratio` times its mean rate."""
    facts, size = course.facts, len(course.arrived)
    slots = np.pad(course.arrived, (0, -size % SLOT_S)).reshape(-1, SLOT_S)
    wanted = slots.mean(axis=1) * amount(knobs, "margin_ratio") / facts.capacity_rps
    needed = np.maximum(1, np.ceil(wanted - 1e-9)).astype(np.int64)
    ready = plan(needed, Span(0, size), facts.startup_s).ready
    return Follow(ready, ceil(facts.startup_s), begin_s=course.begin_s)


POLICY = Policy(
    "perfect-minute",
    "reference: knows the mean of every minute to come",
    build,
    grid(margin_ratio=(0.95, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 3.0)),
    main="margin_ratio",
    clairvoyant=True,
)
