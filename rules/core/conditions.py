"""Whether conditions hold: the value, the hysteresis, what is missing, and the hold, over the evidence of a moment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from contracts.events import Fact, Finding, Sli
from contracts.laws.bounds import fresh, held_long_enough, held_since, value_of
from rules.core.language import OnMissing
from rules.core.ruleset import ReadyCondition

Told = Sli | Finding
"""What may become evidence: SLIs of a window, and what an agent found, under the seconds that it speaks for."""


class Seen(BaseModel):
    """The newest SLIs of one window size, or the newest finding of a kind, as far as rules speak of them.

    `order_ms` is the end of the window as it was told; `end_ms`, from which age counts, is never past the moment at
    which it was read: a scraper whose clock is ahead must not look fresh for longer. `told` has the ids of all messages
    with this end: of two the later one stands, and a repeat changes nothing. A finding tells no coverage (None): what
    an agent did not know it leaves out. `by_replica` is what a finding says of each replica, where a rule's action
    rests on that.
    """

    model_config = ConfigDict(frozen=True)

    order_ms: int
    end_ms: int
    freshness_s: float
    cause_ms: int
    coverage_ratio: float | None
    told: tuple[str, ...]
    values: dict[str, float] = {}
    by_replica: dict[str, float] = {}

    def value(self, name: str) -> float | None:
        """The value of an SLI or finding, None when it is missing."""
        return self.values.get(name)


Evidence = Mapping[int, Seen]


def told_ms(message: Told) -> int:
    """When it came about: a window when a later scrape closed it, a finding at the moment for which it speaks."""
    return message.at_ms if isinstance(message, Finding) else message.cause_ms


def newer(before: Seen | None, sli: Told) -> bool:
    """Whether a message tells something that is not known yet."""
    if before is None or sli.end_ms > before.order_ms:
        return True
    return sli.end_ms == before.order_ms and sli.id not in before.told


def seen(before: Seen | None, sli: Told, wanted: frozenset[str], at_ms: int, *, named: bool = False) -> Seen:
    """What is kept of a message that is newer; `named`: also what it says of each replica."""
    same_end = before is not None and before.order_ms == sli.end_ms
    return Seen(
        order_ms=sli.end_ms,
        end_ms=min(sli.end_ms, at_ms),
        freshness_s=sli.freshness_s,
        cause_ms=sli.cause_ms,
        coverage_ratio=sli.coverage_ratio if isinstance(sli, Sli) else None,
        told=(*(before.told if before and same_end else ()), sli.id),
        values={name: value for name in _in_order(wanted) if (value := sli.value(name)) is not None},
        by_replica=dict(sorted(sli.by_replica.items())) if named and isinstance(sli, Finding) else {},
    )


@lru_cache(maxsize=256)
def _in_order(wanted: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(wanted))


def still_fresh(evidence: Evidence, at_ms: int, max_age_s: float) -> dict[int, Seen]:
    """The evidence that still speaks of now, by window size."""
    return {size_s: each for size_s, each in sorted(evidence.items()) if fresh(each, size_s, at_ms, max_age_s)}


class Standing(BaseModel):
    """What is remembered of a condition: since when its comparison has been true without a break (None: it is not)."""

    model_config = ConfigDict(frozen=True)

    since_ms: int | None = None

    @property
    def on(self) -> bool:
        """Whether the comparison is true, however briefly."""
        return self.since_ms is not None


def current_value(condition: ReadyCondition, evidence: Evidence, at_ms: int, max_age_s: float) -> float | None:
    """The value that the condition compares; None when it is missing or too old."""
    return value_of(evidence, condition.bound, at_ms, max_age_s)


def stands(condition: ReadyCondition, before: Standing, value: float | None, *, at_ms: int, before_ms: int) -> Standing:
    """How the condition stands at `at_ms`, given how it stood when it was last looked at, at `before_ms`."""
    if value is not None:
        answer = condition.begins(value) if before.since_ms is None else condition.keeps(value)
    elif condition.on_missing is OnMissing.KEEP:
        # As it was; the time in which nobody could see does not count as held.
        return Standing(since_ms=None if before.since_ms is None else before.since_ms + at_ms - before_ms)
    else:
        answer = condition.on_missing is OnMissing.TRUE
    since_ms = held_since(before.since_ms, answer, at_ms)
    return before if since_ms == before.since_ms else Standing(since_ms=since_ms)


def holds(condition: ReadyCondition, standing: Standing, at_ms: int) -> bool:
    """Whether it has been true for long enough."""
    return held_long_enough(standing.since_ms, condition.for_s, at_ms)


def fact(condition: ReadyCondition, standing: Standing, evidence: Evidence, at_ms: int, max_age_s: float) -> Fact:
    """The condition as it stands, with its numbers, for the record."""
    held_s = 0.0 if standing.since_ms is None else max(0.0, (at_ms - standing.since_ms) / 1000.0)
    reading = evidence.get(condition.bound.size_s)
    return Fact(
        condition=condition.name,
        bound=condition.bound,
        value=current_value(condition, evidence, at_ms, max_age_s),
        holds=holds(condition, standing, at_ms),
        held_s=held_s,
        end_ms=None if reading is None else reading.end_ms,
    )
