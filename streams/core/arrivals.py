"""How many requests came to an instance between two of its scrapes: what ended there, and the change of what it holds.

No engine counts requests as they arrive. One that came has ended since, or it runs or waits: so the growth of the first
and the change of the second make the arrivals, exactly, whatever the queue does.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.events import MetricsSnapshot
from streams.core.evidence import instance_gauges

ENDED = ("requests_finished", "requests_rejected")
"""Counters of requests that are no longer there; the second is told by gateways and newer servers alone."""

TRUSTED_INTERVALS = 3.0
"""Scrapes further apart than so many intervals say nothing of the time between them, as in stage `windows`."""


class Count(BaseModel):
    """What an instance told when it last answered: how many ended since its start, by engine and counter, how many it
    `held`, running or waiting, and `per_s`, what arrived a second since it answered before (None: not known)."""

    model_config = ConfigDict(frozen=True)

    at_ms: int
    incarnation_ms: int | None = None
    ended: dict[str, float] = {}
    held: float = 0.0
    per_s: float | None = None


def count(before: Count | None, snapshot: MetricsSnapshot) -> Count | None:
    """The count after this scrape; None where the page does not tell what it takes.

    A scrape that was not answered leaves the count as it was, of an unknown rate: the next that is answered catches up.
    The rate is not known either after a restart, after any counter fell, came or went, and after too long a silence.
    """
    if not snapshot.up:
        return before and before.model_copy(update={"per_s": None})
    gauges = instance_gauges(snapshot.engines)
    ended = {
        f"{engine} {name}": sample.counters[name]
        for engine, sample in snapshot.engines.items()
        for name in ENDED
        if name in sample.counters
    }
    if not ended or not {"requests_running", "requests_waiting"} <= gauges.keys():
        return None
    now = Count(
        at_ms=snapshot.scraped_at_ms,
        incarnation_ms=snapshot.incarnation_ms,
        ended=ended,
        held=gauges["requests_running"] + gauges["requests_waiting"],
    )
    if before is None or not _goes_on(before, now, snapshot.interval_s):
        return now
    arrived = sum(ended.values()) - sum(before.ended.values()) + now.held - before.held
    return now.model_copy(update={"per_s": arrived * 1000.0 / (now.at_ms - before.at_ms)})


def _goes_on(before: Count, now: Count, interval_s: float) -> bool:
    same = before.incarnation_ms == now.incarnation_ms and before.ended.keys() == now.ended.keys()
    grew = same and all(now.ended[name] >= value for name, value in before.ended.items())
    return grew and 0 < now.at_ms - before.at_ms <= TRUSTED_INTERVALS * interval_s * 1000
