"""The watchdog: from offsets and heartbeats it decides which worker is stuck. Pure; others read and act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

Partition = tuple[str, int]
Offsets = Mapping[Partition, tuple[int | None, int]]
"""Per (topic, partition): what the group has committed (None: nothing yet) and the end of the log."""


@dataclass(frozen=True)
class Limits:
    """Wall seconds. A worker that just started joins its group and recovers its state first, hence `grace_s`."""

    no_progress_s: float = 20.0
    beat_every_s: float = 5.0
    beats_missed: int = 2
    grace_s: float = 45.0


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
class Memory:
    """What is remembered of one worker between looks: its process, what it had committed, and since when."""

    pid: int = 0
    since_wall_ms: int = 0
    committed: tuple[tuple[Partition, int], ...] = ()
    moved_wall_ms: int = 0


@dataclass(frozen=True)
class Reading:
    """One look at one worker. `offsets` is None for a worker that has no consumer group, or when the broker did not
    tell; `beat_wall_ms` is its newest heartbeat of this process, None before the first."""

    pid: int
    started_wall_ms: int
    offsets: Offsets | None
    beat_wall_ms: int | None
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
    return sum(max(0, end - (committed or 0)) for committed, end in offsets.values())


def judge(memory: Memory, reading: Reading, now_wall_ms: int, limits: Limits) -> tuple[Memory, Finding]:
    """Fold in one look. A partition that moved is progress; so is nothing to do. While the broker is away nobody can
    progress or be heard, and all clocks stand still."""
    if reading.pid != memory.pid:
        memory = Memory(pid=reading.pid, since_wall_ms=reading.started_wall_ms, moved_wall_ms=now_wall_ms)
    if not reading.broker_answers:
        held = replace(memory, since_wall_ms=now_wall_ms, moved_wall_ms=now_wall_ms)
        return held, Finding(Health.UNKNOWN, None, "the broker does not answer")
    lag = None
    if reading.offsets is not None:
        lag = lag_of(reading.offsets)
        committed = tuple(sorted((place, done or 0) for place, (done, _) in reading.offsets.items()))
        if lag == 0 or committed != memory.committed:
            memory = replace(memory, committed=committed, moved_wall_ms=now_wall_ms)
    age_s = (now_wall_ms - memory.since_wall_ms) / 1000
    if age_s < limits.grace_s:
        return memory, Finding(Health.OK if reading.working else Health.STARTING, lag)
    still_s = (now_wall_ms - memory.moved_wall_ms) / 1000
    if lag and still_s >= limits.no_progress_s:
        return memory, Finding(Health.NO_PROGRESS, lag, f"{lag} messages wait and none was handled for {still_s:.0f} s")
    quiet_s = (now_wall_ms - max(reading.beat_wall_ms or 0, memory.since_wall_ms)) / 1000
    if quiet_s > limits.beats_missed * limits.beat_every_s + limits.beat_every_s:
        return memory, Finding(Health.SILENT, lag, f"no heartbeat for {quiet_s:.0f} s")
    return memory, Finding(Health.OK, lag)
