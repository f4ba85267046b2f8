"""Requests of each second, put together from rates that scrapes tell, whenever they come.

A latest SLI tells what arrived a second since the scrape before; so it speaks of the time since the SLI before it. Of
several that end at one moment the last is the most complete, and stands for all.
"""

from __future__ import annotations

from math import floor

from pydantic import BaseModel, ConfigDict

from contracts.events import Sli

COVERAGE_FLOOR = 0.5
"""Where fewer of the instances told what arrived, nothing is known of the rest."""
LONGEST_MS = 600_000
"""A longer time between two rates was not measured."""
MOST_S = 3_600
"""Requests of so many seconds are kept for the next look. Where nobody looks for longer, no tick comes: what then came
is not known, and no state grows for ever."""
_TINY = 1e-9


class Stretch(BaseModel):
    """What arrived a second until `end_ms`; None: not known. `partial`: some instances did not tell, and were taken to
    have had as many as the others."""

    model_config = ConfigDict(frozen=True)

    end_ms: int
    per_s: float | None
    partial: bool


class Demand(BaseModel):
    """Requests since the last look, by whole second from the one that holds `from_ms` on, the last one perhaps only
    begun; they are known until `until_ms` (None: nothing was ever told), and `open` is what may still be told anew.
    `owed` is the part of a request that is yet to be handed on. `blind` and `partial` hold of any time since the look.
    """

    model_config = ConfigDict(frozen=True)

    until_ms: int | None = None
    requests: tuple[float, ...] = ()
    open: Stretch | None = None
    owed: float = 0.0
    blind: bool = False
    partial: bool = False


def heard(demand: Demand, sli: Sli) -> Demand:
    """One latest SLI of the workload."""
    if demand.until_ms is None:
        return Demand(until_ms=sli.end_ms)
    if sli.end_ms <= demand.until_ms:
        return demand
    if demand.open is not None and sli.end_ms > demand.open.end_ms:
        demand = _closed(demand)
    return demand.model_copy(update={"open": _stretch(sli)})


def taken(demand: Demand, now_ms: int) -> tuple[Demand, list[int] | None, bool]:
    """What is left after a look at `now_ms`, the requests of every second that is over since the last look, oldest
    first (None: unknown), and whether some of that was supposed."""
    demand = _closed(demand)
    if demand.blind or demand.until_ms is None:
        # What comes next is to speak of the time after this look.
        return Demand(until_ms=now_ms), None, False
    begun = demand.until_ms % 1000 > 0
    over = demand.requests[:-1] if begun else demand.requests
    counts: list[int] = []
    owed = demand.owed
    for requests in over:
        owed += requests
        counts.append(floor(owed + _TINY))
        owed -= counts[-1]
    rest = demand.requests[len(over) :]
    return Demand(until_ms=demand.until_ms, requests=rest, owed=max(0.0, owed)), counts or None, demand.partial


def has_news(demand: Demand) -> bool:
    """Whether a second has ended since the last look, or it is known that one cannot be told of."""
    if demand.blind or demand.until_ms is None:
        return True
    end_ms = demand.open.end_ms if demand.open is not None else demand.until_ms
    return end_ms // 1000 > demand.until_ms // 1000 or len(demand.requests) > (demand.until_ms % 1000 > 0)


def _stretch(sli: Sli) -> Stretch:
    told = sli.values.get("arrivals_per_s")
    if told is None or told.value is None or told.samples < COVERAGE_FLOOR * sli.instances_up:
        return Stretch(end_ms=sli.end_ms, per_s=None, partial=False)
    # Of those that answer and do not tell, what the others had is supposed; one that does not answer may have nothing.
    supposed = max(1.0, sli.instances_up / told.samples) if told.samples else 1.0
    return Stretch(end_ms=sli.end_ms, per_s=told.value * supposed, partial=told.samples < sli.instances)


def _closed(demand: Demand) -> Demand:
    """With what was open spread evenly over its time."""
    stretch, from_ms = demand.open, demand.until_ms
    if stretch is None or from_ms is None:
        return demand
    changes = {"open": None, "until_ms": stretch.end_ms, "partial": demand.partial or stretch.partial}
    if demand.blind or stretch.per_s is None or stretch.end_ms - from_ms > LONGEST_MS:
        return demand.model_copy(update=changes | {"requests": (), "blind": True})
    requests = list(demand.requests)
    if from_ms % 1000 == 0:  # whole seconds are all alike
        whole = (stretch.end_ms - from_ms) // 1000
        requests += [stretch.per_s * 1000 / 1000] * whole
        from_ms += whole * 1000
    while from_ms < stretch.end_ms:
        to_ms = min(stretch.end_ms, (from_ms // 1000 + 1) * 1000)
        came = stretch.per_s * (to_ms - from_ms) / 1000
        if from_ms % 1000 and requests:
            requests[-1] += came
        else:
            requests.append(came)
        from_ms = to_ms
    if len(requests) > MOST_S:
        return demand.model_copy(update=changes | {"requests": (), "blind": True})
    return demand.model_copy(update=changes | {"requests": tuple(requests)})
