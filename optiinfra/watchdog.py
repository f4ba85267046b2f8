"""The watchdog: from offsets and heartbeats it decides which worker is stuck. Pure; others read and act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from contracts.topics import TICKS

Partition = tuple[str, int]
Offsets = Mapping[Partition, tuple[int, int]]
"""Per (topic, partition): where the group goes on (what it has committed, or where the log begins), and its end."""


@dataclass(frozen=True)
class Limits:
    """Seconds. A worker that just started joins its group and recovers its state first, hence `grace_s`. Looks that are
    further apart than `look_gap_s` mean that we ourselves were held (a suspended laptop): nothing is concluded then."""

    no_progress_s: float = 20.0
    beat_every_s: float = 5.0
    beats_missed: int = 2
    grace_s: float = 45.0
    look_gap_s: float = 15.0

    @property
    def silent_s(self) -> float:
        """So long without a heartbeat, while others are heard, is silence."""
        return (self.beats_missed + 1) * self.beat_every_s


class Health(StrEnum):
    """A worker's state in the eyes of the watchdog."""

    STARTING = "starting"
    OK = "ok"
    NO_PROGRESS = "no progress"
    SILENT = "silent"
    UNKNOWN = "unknown"

    @property
    def stuck(self) -> bool:
        """Whether a restart is due."""
        return self in (Health.NO_PROGRESS, Health.SILENT)


@dataclass(frozen=True)
class Standing:
    """A partition at the last look: where the group goes on, when that last changed (`changed_s`), and since when it is
    waited for (`moved_s`: the last change, or the last moment without anything to do)."""

    done: int
    changed_s: float
    moved_s: float


@dataclass(frozen=True)
class Memory:
    """What is remembered of one worker between looks: its process, since when it is judged, and its partitions."""

    pid: int = 0
    since_s: float = 0.0
    looked_s: float = 0.0
    places: Mapping[Partition, Standing] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """One look at one worker; all times are monotonic, as of our own receipt, so that no step of a wall clock counts.

    `offsets` is None for a worker that has no consumer group, or when the broker did not tell; `beat_s` is when its
    newest heartbeat came in, `heard_s` when the newest of any worker did: None before the first.
    """

    pid: int
    started_s: float
    offsets: Offsets | None
    beat_s: float | None
    heard_s: float | None
    working: bool = False
    broker_answers: bool = True


@dataclass(frozen=True)
class Finding:
    """The verdict, with the numbers that decided it."""

    health: Health
    lag: int | None
    detail: str = ""


def lag_of(offsets: Offsets) -> int:
    """Messages written and not yet committed."""
    return sum(max(0, end - done) for done, end in offsets.values())


def judge(
    memory: Memory, reading: Reading, now_s: float, limits: Limits, held_back: str = TICKS.name
) -> tuple[Memory, Finding]:
    """Fold in one look.

    While the broker is away, or we ourselves were held, nobody can progress or be heard: all clocks begin anew. Each
    partition with something to do must move by itself; one of the topic `held_back` may wait for data of its number.
    """
    if reading.pid != memory.pid:
        memory = Memory(pid=reading.pid, since_s=reading.started_s, looked_s=now_s)
    if not reading.broker_answers:
        return Memory(reading.pid, now_s, now_s), Finding(Health.UNKNOWN, None, "the broker does not answer")
    if now_s - memory.looked_s > limits.look_gap_s:
        memory = Memory(reading.pid, now_s, now_s)
    memory = replace(memory, looked_s=now_s)
    lag = None
    if reading.offsets is not None:
        lag = lag_of(reading.offsets)
        memory = replace(memory, places=_stand(memory.places, reading.offsets, now_s))
    if now_s - memory.since_s < limits.grace_s:
        return memory, Finding(Health.OK if reading.working else Health.STARTING, lag)
    if found := _stuck(memory.places, reading.offsets or {}, now_s - limits.no_progress_s, held_back):
        (topic, number), waiting, moved_s = found
        still = f"none was handled for {now_s - moved_s:.0f} s"
        return memory, Finding(Health.NO_PROGRESS, lag, f"{waiting} messages wait in {topic}/{number} and {still}")
    if reading.heard_s is not None:  # what we did not hear at all says nothing about who was silent
        quiet_s = reading.heard_s - max(reading.beat_s or memory.since_s, memory.since_s)
        if quiet_s > limits.silent_s:
            return memory, Finding(Health.SILENT, lag, f"no heartbeat for {quiet_s:.0f} s")
    return memory, Finding(Health.OK, lag)


def _stand(before: Mapping[Partition, Standing], offsets: Offsets, now_s: float) -> dict[Partition, Standing]:
    """Where every partition stands after this look."""
    found = {}
    for place, (done, end) in offsets.items():
        held = before.get(place)
        changed_s = held.changed_s if held is not None and held.done == done else now_s
        moved_s = held.moved_s if held is not None and held.done == done and done < end else now_s
        found[place] = Standing(done, changed_s, moved_s)
    return found


def _stuck(
    places: Mapping[Partition, Standing], offsets: Offsets, since_s: float, held_back: str
) -> tuple[Partition, int, float] | None:
    """The first partition that has something to do and has not moved since, how much waits, and when it last moved."""
    for place, (done, end) in sorted(offsets.items()):
        topic, number = place
        moved_s = places[place].moved_s
        if topic == held_back:  # a tick waits for data: while that moves, and for as long again after, it may wait
            moved_s = max(moved_s, *(s.changed_s for (_, other), s in places.items() if other == number))
        if done < end and moved_s <= since_s:
            return place, end - done, moved_s
    return None
