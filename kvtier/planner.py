"""Plans KV tiers: tries sizes on recorded traffic and says which pays, or that none does, and why.

A plan weighs the seconds of prefill that tiers save against what tiers cost: a share of all GPU time
(`overhead_ratio`), and dollars of memory and disk. Seconds are worth what the GPUs cost: the plan takes freed time to
be used, or given back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from math import ceil, sqrt

from contracts.errors import ConfigError
from kvtier.planner_replica import Replica, Traffic
from kvtier.planner_trial import Fleet, Reuse, Trial, measured, places, played, reuse
from kvtier.simulator import Played

OVERHEAD_RATIO = 0.03
"""Published cost of tiering where nothing is reused: 3 to 15 % of throughput."""

STAGING_BYTES = 16 * 10**9
"""A disk is reached through the host's memory: so much of it is taken where none is offered."""

MONTH_S = 730 * 3600.0
_LEAST_DISK = 10 * 10**9
_LEAST_SHARE = 100
_NEAR = 0.98
"""The smallest tiers within so much of the best plan's net gain are taken."""

_LEAST_LEFT = 0.005
"""Where the GPUs' cache hits all but so much of what can be hit, there is nothing for a tier."""

_BISECTIONS = 40
_SLOWEST, _FASTEST = 1e6, 1e13


class Verdict(StrEnum):
    """What a plan comes to; all but the first are reasons to do nothing."""

    ADD = "add"
    NOTHING_REUSED = "nothing_reused"
    GPU_HOLDS_IT = "gpu_holds_it"
    LOADING_SLOWER = "loading_slower"
    DISK_TOO_BUSY = "disk_too_busy"
    TOO_LITTLE = "too_little"
    COSTS_MORE = "costs_more"


@dataclass(frozen=True)
class Offer:
    """What may be bought. `memory_bytes` of each host for one replica's KV, 0 for none; `disk_bytes` of one disk, empty
    for sizes up to all that the trace has. Prices in US dollars."""

    memory_bytes: int = 0
    disk_bytes: Sequence[int] = ()
    disk_bytes_per_s: float = 7e9
    disk_latency_s: float = 0.0001
    disk_usd_gb_month: float = 0.08
    memory_usd_gb_month: float = 0.0
    overhead_ratio: float = OVERHEAD_RATIO
    drive_writes_a_day: float = 1.0


@dataclass(frozen=True)
class Option:
    """A trial with its worth. `gain_ratio`: prefill saved as a share of all GPU time; `net_ratio` less the overhead;
    dollars a month for the whole fleet, and never more than it can do. `worth`: net dollars, or `net_ratio` where GPUs
    have no price."""

    trial: Trial
    gain_ratio: float
    net_ratio: float
    throughput_ratio: float
    saved_usd_month: float
    cost_usd_month: float
    worth: float
    played: Played = field(repr=False, compare=False)

    @property
    def net_usd_month(self) -> float:
        """What is left of the savings."""
        return self.saved_usd_month - self.cost_usd_month

    @property
    def swamped(self) -> bool:
        """Whether its disk would have to read more than it can."""
        return self.trial.disk_read_busy_ratio > 1


@dataclass(frozen=True)
class Plan:
    """What to do. `base`: the GPUs' cache alone. `best`: the option with the highest net gain; where none gains, the
    one that holds the most; None where nothing was tried. `break_even_bytes_per_s`: the slowest disk on which its gain
    covers the overhead, None where none does; `pays_bytes_per_s`: on which it also pays its cost, and keeps up.
    `load_replicas`: replicas that this traffic keeps busy."""

    verdict: Verdict
    reuse: Reuse
    base: Trial
    decode_s: float
    load_replicas: float
    options: Sequence[Option]
    best: Option | None
    break_even_bytes_per_s: float | None
    pays_bytes_per_s: float | None

    @property
    def adds(self) -> bool:
        """Whether tiers are worth adding."""
        return self.verdict is Verdict.ADD


def plan(
    traffic: Traffic,
    replica: Replica,
    fleet: Fleet,
    offer: Offer,
    progress: Callable[[str, float], None] | None = None,
) -> Plan:
    """Try tiers and choose. `progress` is told what runs and the share of all that is done.

    Raises ConfigError for a trace without prompts or without a span.
    """
    _check(traffic)
    found = reuse(traffic.prompts)
    desk = _Desk(traffic, replica, fleet, offer, places(traffic.prompts, fleet), found)
    sizes = desk.sizes()
    told = progress or (lambda what, share: None)
    runs = 1 + len(sizes)
    bare = desk.play(0, 0, lambda share: told("the GPUs' cache alone", share / runs))
    base = desk.measure(bare, 0, 0)
    busy_s = base.prefill_s + replica.decode_s(traffic)
    options: list[Option] = []
    for number, (memory, disk) in enumerate(sizes if base.gpu_hit_ratio < found.reused_ratio else (), 1):
        what = f"{memory / 1e9:,.0f} GB of memory, {disk / 1e9:,.0f} GB of disk"
        done = desk.play(memory, disk, partial(_tell, told, what, number, runs))
        options.append(desk.option(done, desk.measure(done, memory, disk), busy_s))
    best = _best(options)
    even = desk.slowest(best, busy_s, lambda found: found.net_ratio > 0) if best else None
    pays = desk.slowest(best, busy_s, lambda found: found.worth > 0 and not found.swamped) if best and even else None
    return Plan(
        verdict=_verdict(found, base, best, even, offer),
        reuse=found,
        base=base,
        decode_s=busy_s - base.prefill_s,
        load_replicas=busy_s / traffic.span_s,
        options=options,
        best=best,
        break_even_bytes_per_s=even,
        pays_bytes_per_s=pays,
    )


def busy_replicas(traffic: Traffic, replica: Replica) -> int:
    """How many replicas the traffic keeps busy, one or more, if one cache hit what one would: an estimate from below.

    Raises ConfigError for a trace without prompts or without a span.
    """
    _check(traffic)
    one = Fleet()
    bare = played(traffic, replica, one, places(traffic.prompts, one), 0, 0)
    left_s = measured(bare, traffic, replica, one, 0, 0, 1.0, 0.0).prefill_s
    return max(1, ceil((left_s + replica.decode_s(traffic)) / traffic.span_s))


def _check(traffic: Traffic) -> None:
    if not traffic.prompts or traffic.span_s <= 0:
        raise ConfigError("a trace that spans no time", where="--trace", fix="Record an hour of prompts or more.")


def _tell(told: Callable[[str, float], None], what: str, number: int, runs: int, share: float) -> None:
    told(what, (number + share) / runs)


@dataclass(frozen=True)
class _Desk:
    """What all trials of a plan share."""

    traffic: Traffic
    replica: Replica
    fleet: Fleet
    offer: Offer
    where: Sequence[int]
    found: Reuse

    def sizes(self) -> list[tuple[int, int]]:
        """Memory and disk to try. A disk that holds all blocks of the trace is the largest: more could hold no more."""
        everything = self.found.distinct * self.replica.block_bytes
        grid = [size for size in _round_sizes(everything) if size >= everything / _LEAST_SHARE]
        disks = list(self.offer.disk_bytes) or [*(size for size in grid if size < everything), _upward(everything)]
        disks = [size for size in disks if size >= self.replica.block_bytes]
        offered = self._memory()
        behind = [(memory, size) for memory in offered or [STAGING_BYTES] for size in disks]
        return [*((memory, 0) for memory in offered), *behind]

    def _memory(self) -> list[int]:
        """All that is offered; where it has a price also halves of it, down to what a disk needs."""
        memory = self.offer.memory_bytes
        if not memory or not self.offer.memory_usd_gb_month:
            return [memory] if memory else []
        halves = [memory]
        while halves[-1] // 2 > STAGING_BYTES:
            halves.append(halves[-1] // 2)
        return [*([STAGING_BYTES] if memory > STAGING_BYTES else []), *reversed(halves)]

    def play(self, memory: int, disk: int, told: Callable[[float], None]) -> Played:
        """The trace on these tiers; no more slots than there are blocks."""
        slots = min(disk // self.replica.block_bytes, self.found.distinct)
        return played(self.traffic, self.replica, self.fleet, self.where, memory, slots, told)

    def measure(self, done: Played, memory: int, disk: int, bytes_per_s: float = 0.0) -> Trial:
        """What came of it, at the disk's bandwidth or another."""
        pace = bytes_per_s or self.offer.disk_bytes_per_s
        return measured(done, self.traffic, self.replica, self.fleet, memory, disk, pace, self.offer.disk_latency_s)

    def option(self, done: Played, trial: Trial, busy_s: float) -> Option:
        """A trial and what it is worth."""
        offer, fleet = self.offer, self.fleet
        gain = trial.saved_s / busy_s
        net = gain - offer.overhead_ratio
        done_s = min(busy_s, fleet.replicas * self.traffic.span_s)
        saved = net * done_s / self.traffic.span_s * MONTH_S * self.replica.usd_per_h / 3600
        memory_gb = trial.memory_bytes / 1e9 * fleet.replicas
        disk_gb = trial.disk_bytes / 1e9 * fleet.disks
        cost = memory_gb * offer.memory_usd_gb_month + disk_gb * offer.disk_usd_gb_month
        return Option(
            trial=trial,
            gain_ratio=gain,
            net_ratio=net,
            throughput_ratio=1 / (1 - net),
            saved_usd_month=saved,
            cost_usd_month=cost,
            worth=saved - cost if self.replica.usd_per_h else net,
            played=done,
        )

    def slowest(self, option: Option, busy_s: float, enough: Callable[[Option], bool]) -> float | None:
        """The slowest disk that is enough, by bisection: seconds saved never fall as the disk gets faster."""
        trial = option.trial

        def covers(bytes_per_s: float) -> bool:
            found = self.measure(option.played, trial.memory_bytes, trial.disk_bytes, bytes_per_s)
            return enough(self.option(option.played, found, busy_s))

        low, high = _SLOWEST, _FASTEST
        if not covers(high):
            return None
        for _ in range(_BISECTIONS):
            middle = sqrt(low * high)
            low, high = (low, middle) if covers(middle) else (middle, high)
        return high


def _best(options: Sequence[Option]) -> Option | None:
    """The smallest of those near the highest net gain, if possible with a disk that keeps up; where none gains, the one
    that holds the most."""
    gains = [each for each in options if each.net_ratio > 0]
    gaining = [each for each in gains if not each.swamped] or gains
    if not gaining:
        return max(options, key=lambda each: each.trial.memory_hit_ratio + each.trial.disk_hit_ratio, default=None)
    top = max(gaining, key=lambda each: each.worth)
    near = [each for each in gaining if each.worth >= _NEAR * top.worth > 0]
    return min(near, key=lambda each: (each.trial.disk_bytes, each.trial.memory_bytes), default=top)


def _verdict(found: Reuse, base: Trial, best: Option | None, even: float | None, offer: Offer) -> Verdict:
    if not found.reused_ratio:
        return Verdict.NOTHING_REUSED
    if found.reused_ratio - base.gpu_hit_ratio < _LEAST_LEFT or best is None:
        return Verdict.GPU_HOLDS_IT
    if best.net_ratio > 0:
        if best.worth <= 0:
            return Verdict.COSTS_MORE
        return Verdict.DISK_TOO_BUSY if best.swamped else Verdict.ADD
    slow = best.trial.disk_bytes and even is not None and even > offer.disk_bytes_per_s
    return Verdict.LOADING_SLOWER if slow else Verdict.TOO_LITTLE


def _round_sizes(most: int) -> list[int]:
    """10, 20, 50, 100 GB and so on, up to `most`."""
    sizes, unit = [], _LEAST_DISK
    while unit <= most:
        sizes += [step * unit for step in (1, 2, 5)]
        unit *= 10
    return sizes


def _upward(size: int) -> int:
    """The next size of two digits.

    >>> _upward(30_665_212_345_678)
    31000000000000
    """
    unit = int("1".ljust(max(1, len(str(size)) - 1), "0"))
    return -(-size // unit) * unit
