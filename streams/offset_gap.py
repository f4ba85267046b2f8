"""Where a worker stands in every partition, and the alarm when messages it still needed are gone.

The embedded broker drops the oldest batches of a full partition, Kafka drops what is past its retention: in both cases
the next record has a higher offset than the one that was due. The worker says how many are lost and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contracts.events import Alert, Severity

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True)
class OffsetGap:
    """`lost` messages from offset `expected` on were dropped before they were read."""

    topic: str
    partition: int
    expected: int
    lost: int

    def still_held(self, earliest: int) -> range:
        """The offsets of the gap that the broker has, given the first one it holds: no loss, the client skipped them.

        >>> OffsetGap("t", 0, expected=5, lost=4).still_held(7)
        range(7, 9)
        """
        return range(max(self.expected, earliest), self.expected + self.lost)

    def alert(self, stage: str, at_ms: int) -> Alert:
        """The alarm for people; `at_ms` is event time."""
        return Alert(
            name="offset_gap",
            severity=Severity.CRITICAL,
            subject=f"{stage}:{self.topic}:{self.partition}",
            at_ms=at_ms,
            summary=(
                f"stage {stage} lost {self.lost} messages of {self.topic} partition {self.partition}, "
                f"offsets {self.expected} to {self.expected + self.lost - 1}: the broker dropped them unread"
            ),
            fix="Use a broker that keeps more (OPTIINFRA_KAFKA, or make kafka), or raise the topic's retention.",
        )


class Positions:
    """The next offset due in every partition that this worker reads."""

    def __init__(self) -> None:
        self._due: dict[Place, int] = {}
        self._came: dict[Place, int] = {}
        self._settled: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}

    def clear(self) -> None:
        """Forget all."""
        self.begin(())

    def begin(self, assigned: Iterable[Place]) -> None:
        """The partitions have been handed out anew: remember only what was settled in those that stayed here."""
        kept = set(assigned)
        self._due.clear()
        self._came.clear()
        self._committed.clear()
        self._settled = {place: offset for place, offset in self._settled.items() if place in kept}

    def start(self, topic: str, partition: int, committed: int | None, earliest: int) -> OffsetGap | None:
        """Begin where the group stands; a group that never committed begins at the first offset held, without a gap.

        What this worker settled and could not yet commit before a rebalance is not due again.
        """
        stands = max(committed if committed is not None else -1, self._settled.get((topic, partition), -1))
        self._due[topic, partition] = max(stands, earliest)
        if stands < 0 or stands >= earliest:
            return None
        return OffsetGap(topic, partition, stands, earliest - stands)

    def settle(self, topic: str, partition: int, offset: int) -> None:
        """Note that the effects of a record are written: outputs and state."""
        self._settled[topic, partition] = max(offset + 1, self._settled.get((topic, partition), 0))

    def uncommitted(self) -> dict[Place, int]:
        """Where the group may stand by now, for the partitions in which that has changed."""
        return {place: offset for place, offset in self._settled.items() if offset > self._committed.get(place, -1)}

    def committed(self, offsets: Mapping[Place, int]) -> None:
        """Note what the broker has taken."""
        self._committed.update(offsets)

    def gap(self, topic: str, partition: int, offset: int) -> OffsetGap | None:
        """What lies between the record that was due and the one that came; a repeat is no gap."""
        due = self._due.get((topic, partition), offset)
        return OffsetGap(topic, partition, due, offset - due) if offset > due else None

    def repeated(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a record has come before since the partitions were handed out.

        Faust reads some twice when it seeks after a recovery.
        """
        return offset < self._came.get((topic, partition), 0)

    def advance(self, topic: str, partition: int, offset: int) -> None:
        """Step past a record that was taken; a repeat moves nothing back."""
        place = (topic, partition)
        self._due[place] = max(self._due.get(place, offset), offset + 1)
        self._came[place] = max(self._came.get(place, 0), offset + 1)

    def drained(self, topic: str, partition: int, highwater: int | None) -> bool:
        """Whether all that the broker holds has come; not so while nobody knows the end of the log."""
        due = self._due.get((topic, partition))
        return due is not None and highwater is not None and due >= highwater

    def lag(self, highwaters: Mapping[Place, int | None]) -> int | None:
        """Messages written and not yet handled over all partitions; None while an end or a position is unknown."""
        total = 0
        for place, end in highwaters.items():
            due = self._due.get(place)
            if end is None or due is None:
                return None
            total += max(0, end - due)
        return total
