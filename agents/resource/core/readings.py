"""What windows told of a workload's memory in the last minutes, and what follows: how full, how fast it fills.

A window is one reading. Ten-second windows are read where scrapes are dense enough for them, minutes otherwise.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import ceil, sqrt

from pydantic import BaseModel, ConfigDict

from agents.resource.core.pressure import Signs
from contracts.events import Sli

SIZES_S = (10, 60)
SPAN_S = 300
"""Over so many seconds things are judged."""
KEPT_S = 720
"""Readings older than this are forgotten."""
HIGH_RATIO = 0.8
"""Above it for five minutes, the KV cache asks for more replicas (requirements, Resource)."""
LEAST_READINGS, SURE = 5, 2.0
"""A trend needs so many readings, and must differ from none by so many standard errors."""
LEAST_PER_S = 0.005 / 60
"""A rise that is slower than half a percent a minute is none."""
FULL_RATIO = 0.995


class Reading(BaseModel):
    """One window of a workload. `kv` and `kv_max`: share of KV blocks in use, mean of replicas and fullest scrape;
    `preempted`, `finished`: requests in it; `failures_per_s`, `truncated`: as SLIs have them; None where not told.
    `restarts`: engines that began anew and were not told to; `running`: requests in the batches of the `up`
    replicas that answered, `waiting`: in their queues, None where one of them did not tell."""

    model_config = ConfigDict(frozen=True)

    end_ms: int
    size_s: int
    cause_ms: int
    kv: float | None = None
    kv_max: float | None = None
    preempted: float | None = None
    finished: float | None = None
    failures_per_s: float | None = None
    truncated: float | None = None
    restarts: float = 0.0
    running: float | None = None
    waiting: float | None = None
    up: int = 0

    @property
    def filled(self) -> bool:
        """Whether memory ran out in it: a full KV cache, requests pushed out, or an engine that began anew."""
        return (self.kv_max or 0.0) >= FULL_RATIO or (self.preempted or 0.0) > 0 or self.restarts > 0

    @property
    def in_flight(self) -> float | None:
        """Requests at the replicas, None where one of them did not tell."""
        return None if self.running is None or self.waiting is None else self.running + self.waiting

    @property
    def replicas_held(self) -> float | None:
        """How much of a replica's cache a request in a batch holds, None where none runs or that is not told."""
        if self.kv is None or self.running is None or self.running < 1:
            return None
        return self.kv * self.up / self.running


def reading_of(sli: Sli, *, planned: bool) -> Reading | None:
    """The reading of a workload's window, None where it says nothing of memory. `planned`: restarts are our own."""
    kv, preempted_per_s = sli.value("kv_cache_usage_ratio"), sli.value("preemptions_per_s")
    if kv is None and preempted_per_s is None:
        return None
    per_s = sli.value("requests_per_s")
    return Reading(
        end_ms=sli.end_ms,
        size_s=sli.size_s,
        cause_ms=sli.cause_ms,
        kv=kv,
        kv_max=sli.value("kv_cache_usage_max_ratio"),
        preempted=None if preempted_per_s is None else preempted_per_s * sli.size_s,
        finished=None if per_s is None else per_s * sli.size_s,
        failures_per_s=sli.value("kv_allocation_failures_per_s"),
        truncated=sli.value("truncated_ratio"),
        restarts=0.0 if planned else sli.value("restarts") or 0.0,
        running=sli.value("requests_running") if _all_told("requests_running", sli) else None,
        waiting=sli.value("requests_waiting") if _all_told("requests_waiting", sli) else None,
        up=sli.instances_up,
    )


def _all_told(name: str, sli: Sli) -> bool:
    """Whether each scrape of the workload told it: a sum of some replicas is too small."""
    told, scrapes = sli.values.get(name), sli.values.get("replicas_up")
    return scrapes is None or (told is not None and told.samples >= scrapes.samples)


class Readings(BaseModel):
    """Readings of the last minutes, by length of their window, oldest first."""

    model_config = ConfigDict(frozen=True)

    by_size: dict[int, tuple[Reading, ...]] = {}

    def heard(self, new: Reading) -> Readings:
        """With one more, in the place of its time; one that is known changes nothing."""
        known = self.by_size.get(new.size_s, ())
        place = bisect_left(known, new.end_ms, key=_end_ms)
        if place < len(known) and known[place].end_ms == new.end_ms:
            return self
        all_of_it = (*known[:place], new, *known[place:])
        first = bisect_right(all_of_it, all_of_it[-1].end_ms - KEPT_S * 1000, key=_end_ms)
        return Readings.model_construct(by_size=self.by_size | {new.size_s: all_of_it[first:]})

    def since(self, from_ms: int, to_ms: int) -> tuple[Reading, ...]:
        """Those that ended in `(from_ms, to_ms]`, of the shortest windows that there are."""
        for size_s in SIZES_S:
            known = self.by_size.get(size_s, ())
            found = known[bisect_right(known, from_ms, key=_end_ms) : bisect_right(known, to_ms, key=_end_ms)]
            if found:
                return found
        return ()


def _end_ms(reading: Reading) -> int:
    return reading.end_ms


def signs_of(recent: Sequence[Reading]) -> Signs:
    """What the readings of the last minutes show."""
    kv = [each.kv for each in recent if each.kv is not None]
    told = [(each.preempted, each.finished) for each in recent if each.preempted is not None]
    preempted = sum(pushed for pushed, _ in told)
    ended = preempted + sum(finished or 0.0 for _, finished in told)
    failures = [each.failures_per_s for each in recent if each.failures_per_s is not None]
    cut = [(each.truncated, each.finished) for each in recent if each.truncated is not None and each.finished]
    of = sum(finished or 0.0 for _, finished in cut)
    return Signs(
        kv_p95_ratio=p95(kv) if kv else None,
        preempted_ratio=(preempted / ended if ended > 0 else 0.0) if told else None,
        failures_per_s=sum(failures) / len(failures) if failures else None,
        truncated_ratio=sum((part or 0.0) * (finished or 0.0) for part, finished in cut) / of if of > 0 else None,
    )


def p95(values: Sequence[float]) -> float:
    """The nearest rank: a value that was seen.

    >>> p95(list(range(1, 31))), p95([0.4])
    (29, 0.4)
    """
    return sorted(values)[ceil(0.95 * len(values)) - 1]


def above_s(readings: Sequence[Reading], limit: float = HIGH_RATIO) -> float:
    """For how long the KV cache has been fuller than `limit` without a break, up to the newest reading."""
    held_ms, after_ms = 0, None
    for each in reversed(readings):
        apart = after_ms is not None and after_ms - each.end_ms > 2 * each.size_s * 1000
        if each.kv is None or each.kv <= limit or apart:
            break
        held_ms = (readings[-1].end_ms - each.end_ms) + each.size_s * 1000
        after_ms = each.end_ms
    return held_ms / 1000


def rise_per_s(readings: Sequence[Reading]) -> tuple[float, float] | None:
    """How fast the KV cache fills, a second, by least squares, and how full it is by the same line at the newest
    reading; None where it does not rise, or that cannot be told from chance."""
    told = [(each.end_ms / 1000, each.kv) for each in readings if each.kv is not None]
    if len(told) < LEAST_READINGS:
        return None
    count, begin_s = len(told), told[0][0]
    times, values = [at_s - begin_s for at_s, _ in told], [value for _, value in told]
    mean_s, mean = sum(times) / count, sum(values) / count
    spread = sum((at_s - mean_s) ** 2 for at_s in times)
    slope = sum((at_s - mean_s) * (value - mean) for at_s, value in zip(times, values, strict=True)) / spread
    rest = sum((value - mean - slope * (at_s - mean_s)) ** 2 for at_s, value in zip(times, values, strict=True))
    error = sqrt(rest / (count - 2) / spread)
    if slope < LEAST_PER_S or slope <= SURE * error:
        return None
    return slope, min(1.0, max(0.0, mean + slope * (times[-1] - mean_s)))


def full_in_s(rise: tuple[float, float] | None) -> float | None:
    """Seconds from the newest reading until the KV cache is full if it goes on rising so; None where it does not."""
    return None if rise is None else (1.0 - rise[1]) / rise[0]
