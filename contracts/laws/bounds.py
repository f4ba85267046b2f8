"""Bounds: one comparison of an SLI, answered on evidence as yes, no, or unknown, and the hold that lets it count."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from contracts.catalog.findings import FINDINGS


class Comparator(StrEnum):
    """How a value is held against a bound."""

    GT = "gt"
    GE = "ge"
    LT = "lt"
    LE = "le"

    def compare(self, value: float, bound: float) -> bool:
        """Whether `value` stands in this relation to `bound`."""
        if self is Comparator.GT:
            return value > bound
        if self is Comparator.GE:
            return value >= bound
        return value < bound if self is Comparator.LT else value <= bound

    def against(self, bound: float) -> Callable[[float], bool]:
        """`compare` with one bound, for whoever asks very often.

        >>> Comparator.GE.against(2.0)(2.0), Comparator.GT.against(2.0)(2.0)
        (True, False)
        """
        return partial(_MIRRORED[self], bound)

    @property
    def sign(self) -> str:
        """For people: `>`, `≥`, `<`, `≤`."""
        return {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}[self.value]


_MIRRORED: dict[Comparator, Callable[[float, float], bool]] = {
    Comparator.GT: operator.lt,
    Comparator.GE: operator.le,
    Comparator.LT: operator.gt,
    Comparator.LE: operator.ge,
}
"""Each comparison with its sides exchanged: the bound comes first."""


class Bound(BaseModel):
    """`sli` of a workload over `size_s` (0 is the latest value) against `value`, in the SLI's own unit.

    `sli` may be a number of a finding (`contracts.catalog.findings`), `size_s` is then what such a finding speaks for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sli: str
    size_s: int = Field(ge=0)
    comparator: Comparator
    value: float

    def __str__(self) -> str:
        return f"{self.subject} {self.comparator.sign} {self.value:g}"

    @property
    def of_finding(self) -> bool:
        """Whether it is about what an agent found, and not about an SLI."""
        return self.sli in FINDINGS

    @property
    def subject(self) -> str:
        """What is compared, for people; a finding has no window.

        >>> Bound(sli="ttft_burn_rate", size_s=10, comparator=Comparator.GT, value=2).subject
        'ttft_burn_rate over 10 s'
        """
        return f"{self.sli} over {self.size_s} s" if self.size_s and not self.of_finding else self.sli

    @property
    def asks_presence(self) -> bool:
        """Whether every number of a finding meets it, none of which is negative: it asks if there is one at all."""
        return self.of_finding and self.comparator is Comparator.GE and self.value <= 0


class Reading(Protocol):
    """What a bound is held against: the SLIs of one workload in one window, as `contracts.events.Sli`."""

    @property
    def end_ms(self) -> int: ...

    @property
    def freshness_s(self) -> float: ...

    def value(self, name: str) -> float | None: ...


Evidence = Mapping[int, Reading]
"""The newest workload-level SLIs by window size, seconds; 0 is the latest value."""


def fresh(sli: Reading, size_s: int, now_ms: int, max_age_s: float) -> bool:
    """Whether an SLI over a window of `size_s` (0: the latest value) still speaks of now, at most `max_age_s` old.

    A window may be as much older as it is long: the next one ends so much later, and until then it is the newest there
    can be.
    """
    return (now_ms - sli.end_ms) / 1000.0 + sli.freshness_s <= max_age_s + size_s


def value_of(evidence: Evidence, bound: Bound, now_ms: int, max_age_s: float) -> float | None:
    """The value that a bound speaks of; None when it is missing or too old (`fresh`), which is never zero."""
    sli = evidence.get(bound.size_s)
    if sli is None or not fresh(sli, bound.size_s, now_ms, max_age_s):
        return None
    return sli.value(bound.sli)


def holds(evidence: Evidence, bound: Bound, now_ms: int, max_age_s: float) -> bool | None:
    """Yes, no, or None: unknown. Unknown is not a licence to act on either."""
    value = value_of(evidence, bound, now_ms, max_age_s)
    return None if value is None else bound.comparator.compare(value, bound.value)


def all_hold(evidence: Evidence, bounds: tuple[Bound, ...], now_ms: int, max_age_s: float) -> bool | None:
    """No if one does not hold, else None if one is unknown, else yes."""
    answers = [holds(evidence, bound, now_ms, max_age_s) for bound in bounds]
    return False if False in answers else None if None in answers else True


def held_since(since_ms: int | None, answer: bool | None, now_ms: int) -> int | None:
    """The hold, as Prometheus' `for`: when an answer began to be yes without a break; any other answer ends it.

    >>> held_since(None, True, 5000), held_since(5000, True, 9000), held_since(5000, None, 9000)
    (5000, 5000, None)
    """
    if answer is not True:
        return None
    return now_ms if since_ms is None else since_ms


def held_long_enough(since_ms: int | None, for_s: float, now_ms: int) -> bool:
    """Whether a hold has lasted `for_s` event seconds.

    >>> held_long_enough(5000, 4, 9000), held_long_enough(None, 0, 9000)
    (True, False)
    """
    return since_ms is not None and now_ms - since_ms >= for_s * 1000


def cooling(last_ms: int | None, cooldown_s: float, now_ms: int) -> bool:
    """Whether `cooldown_s` event seconds have not yet passed since `last_ms` (None: never)."""
    return last_ms is not None and now_ms - last_ms < cooldown_s * 1000
