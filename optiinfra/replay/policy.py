"""What a policy is to replay: a name, the scaler it makes for given knobs, and the knobs that are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from contracts.scaling import FleetFacts, Scaler

Knobs = Mapping[str, float | str]
DAY_S = 86_400


@dataclass(frozen=True, eq=False)
class Course:
    """What a policy is built for. `arrived`: requests of each second, [seconds], from `begin_s` s after a midnight on.

    Only a clairvoyant policy may look at `arrived`: a test asks all others the same with another future.
    """

    facts: FleetFacts
    arrived: NDArray[np.int64]
    begin_s: int = 0


@dataclass(frozen=True)
class Policy:
    """`build` makes a scaler with no past. `grid`: the knobs that are tried; `main`: the knob that is then tuned finer
    where an objective is just met. `decide_s`: its cadence. `memory_s`: how much of the past it can make use of; None
    where it can use all. `clairvoyant`: it knows what nobody can know, and stands in tables for reference.
    """

    name: str
    doc: str
    build: Callable[[Course, Knobs], Scaler]
    grid: tuple[Knobs, ...]
    main: str = ""
    decide_s: int = 15
    memory_s: int | None = DAY_S
    clairvoyant: bool = False


def grid(**values: tuple[float | str, ...]) -> tuple[Knobs, ...]:
    """Every combination of these values.

    >>> grid(margin=(1.1, 1.2), hold_s=(300.0,))
    ({'margin': 1.1, 'hold_s': 300.0}, {'margin': 1.2, 'hold_s': 300.0})
    """
    return tuple(dict(zip(values, each, strict=True)) for each in product(*values.values()))


def amount(knobs: Knobs, name: str) -> float:
    """A knob that is a number."""
    return float(knobs[name])
