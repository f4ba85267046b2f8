"""When a target is asked: a grid of slots with a phase of its own, and longer pauses after failures."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.laws.ids import cause_id


def _hash(*causes: str | int) -> int:
    return int(cause_id(*causes)[:16], 16)


def shard_of(instance_id: str, shards: int) -> int:
    """The scraper, 0 to `shards` - 1, that asks this instance: the same in every process.

    >>> shard_of("10.0.0.7:8000", 1)
    0
    """
    return _hash("shard", instance_id) % shards


@dataclass(frozen=True, slots=True)
class Grid:
    """Slots of one instance in event ms: `interval_ms` apart, shifted by a phase that follows from its id, so that the
    scrapes of a fleet spread over the interval and stay where they are over restarts.

    Slot numbers count from the first slot at or after the scraper's epoch: they are the `seq` of snapshots.
    """

    interval_ms: int
    first_ms: int

    @classmethod
    def of(cls, instance_id: str, interval_ms: int, epoch_ms: int) -> Grid:
        """The grid of an instance for a scraper that began at `epoch_ms`."""
        phase = _hash("phase", instance_id) % interval_ms
        return cls(interval_ms, epoch_ms + (phase - epoch_ms) % interval_ms)

    def due_ms(self, slot: int) -> int:
        """When a slot is due."""
        return self.first_ms + slot * self.interval_ms

    def next_slot(self, now_ms: int) -> int:
        """The first slot due after `now_ms`.

        >>> Grid(1000, 500).next_slot(499), Grid(1000, 500).next_slot(500)
        (0, 1)
        """
        return max(0, (now_ms - self.first_ms) // self.interval_ms + 1)

    def is_missed(self, slot: int, now_ms: int) -> bool:
        """A slot can be used until the next one is due."""
        return now_ms >= self.due_ms(slot + 1)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row, and the next slot in which it makes sense to try again.

    Pauses are 1, 2, 4, … slots, at most `cap_slots`, then a quarter more or less by a hash, so that targets that failed
    together do not come back together.
    """

    instance_id: str
    cap_slots: int
    failures: int = 0
    next_attempt: int = 0
    last_error: str = ""

    def failed(self, slot: int, error: str) -> Backoff:
        """The state after a failed attempt in `slot`."""
        failures = self.failures + 1
        pause = min(2 ** min(failures - 1, 30), self.cap_slots)
        spread = pause // 4
        if spread:
            pause += _hash("pause", self.instance_id, failures) % (2 * spread + 1) - spread
        pause = max(1, min(pause, self.cap_slots))
        return Backoff(self.instance_id, self.cap_slots, failures, slot + pause, error)

    def succeeded(self) -> Backoff:
        """The state after a page that could be read."""
        return Backoff(self.instance_id, self.cap_slots)

    def waits(self, slot: int) -> bool:
        """Whether this slot is spent waiting."""
        return slot < self.next_attempt

    def reason(self) -> str:
        """What a snapshot of such a slot says."""
        times = "failure" if self.failures == 1 else "failures"
        return f"backing off after {self.failures} {times}: {self.last_error}"
