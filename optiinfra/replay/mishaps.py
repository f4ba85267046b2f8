"""What can go wrong with a simulated fleet: replicas that vanish, replicas that slow down, spot zones in a storm."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import floor, prod

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ConfigError
from optiinfra.replay.spot import NEVER_S, RecordedZone

_SEEN_S = 60
_HALF = 0.5
_ROUNDING = 1e-6


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Loss(_Part):
    """At second `at_s` of the trace this share of the replicas that serve vanishes, on demand or spot, unannounced."""

    at_s: int = Field(gt=0)
    ratio: float = Field(gt=0, le=1)


class Slowdown(_Part):
    """In seconds [begin, end) of the trace every replica serves this share of its capacity, and what is in service
    takes as much longer. Nothing tells of it but what is measured."""

    begin_s: int = Field(ge=0)
    end_s: int = Field(gt=0)
    ratio: float = Field(gt=0, le=1)


class Mishaps(_Part):
    """All that goes wrong with the replicas of a trace. Slowdowns that overlap multiply."""

    losses: tuple[Loss, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()

    def next_s(self, after_s: int) -> int:
        """When something happens next, later than `after_s`; `NEVER_S` where nothing is to come."""
        edges = [each.at_s for each in self.losses]
        edges += [at_s for each in self.slowdowns for at_s in (each.begin_s, each.end_s)]
        return min((at_s for at_s in edges if at_s > after_s), default=NEVER_S)

    def taken(self, serving: int, at_s: int) -> list[int]:
        """Which of so many replicas vanish at exactly `at_s`: their places, spread evenly, as a zone's are.

        >>> Mishaps(losses=(Loss(at_s=60, ratio=0.5),)).taken(5, 60)
        [0, 1, 3]
        """
        many = min(serving, sum(floor(serving * each.ratio + _HALF) for each in self.losses if each.at_s == at_s))
        return [place * serving // many for place in range(many)]

    def pace(self, at_s: int) -> float:
        """The share of its capacity that a replica serves at `at_s`."""
        return prod(each.ratio for each in self.slowdowns if each.begin_s <= at_s < each.end_s)


class Work:
    """How far service goes in how much time: at full pace a second of it in a second."""

    def __init__(self, mishaps: Mishaps, seconds: int) -> None:
        self._done_s = [0.0, *accumulate(mishaps.pace(at_s) for at_s in range(seconds))] if mishaps.slowdowns else []

    def begun_s(self, now_s: int, service_s: int) -> int:
        """The last second by whose beginning a request had to begin service to be served for `service_s` by now."""
        if not self._done_s:
            return max(0, now_s - service_s)
        return max(0, bisect_right(self._done_s, self._done_s[now_s] - service_s + _ROUNDING) - 1)


def storm(begin_s: int, length_s: int, zones: int, seed: int, spell_s: int = 420) -> dict[str, RecordedZone]:
    """Spot zones that are steady but for [begin, begin + length): there each loses its capacity again and again, has it
    for `spell_s` on average and is without it as long. Seen every minute. Raises ConfigError for no zone."""
    if zones < 1:
        raise ConfigError(f"a storm over {zones} zones", where="storm", fix="Write 1 or more.")
    found = {}
    for number in range(zones):
        rng = np.random.default_rng([seed, number])
        seen = [1] * (begin_s // _SEEN_S)
        there = True
        while len(seen) * _SEEN_S < begin_s + length_s:
            seen += [int(there)] * (1 + int(rng.exponential(spell_s / _SEEN_S)))
            there = not there
        found[f"zone-{number + 1}"] = RecordedZone(_SEEN_S, [*seen[: (begin_s + length_s) // _SEEN_S], 1])
    return found
