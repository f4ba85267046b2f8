"""Policies that remember blocks they gave up, so that a second sighting counts: ARC and S3-FIFO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from kvtier.policies.base import Key, Policy
from kvtier.policies.queues import oldest

Queue = OrderedDict[Key, None]


class _TwoQueues(Policy):
    """Blocks seen once lately and blocks seen more often, each in order of arrival or use."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._once: Queue = OrderedDict()
        self._often: Queue = OrderedDict()

    def __len__(self) -> int:
        return len(self._once) + len(self._often)

    def __contains__(self, key: object) -> bool:
        return key in self._once or key in self._often

    def __iter__(self) -> Iterator[Key]:
        yield from self._once
        yield from self._often

    def remove(self, key: Key) -> None:
        self._once.pop(key, None)
        self._often.pop(key, None)


class Arc(_TwoQueues):
    """Recency and frequency share the room; which of the two gets more is learnt from the ghosts of each.

    Source: Megiddo and Modha, FAST 2003.
    """

    name = "arc"

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._once_gone: Queue = OrderedDict()
        self._often_gone: Queue = OrderedDict()
        self._goal = 0.0
        self._from_often = False

    def admit(self, key: Key, parent: Key | None, position: int, tokens: int) -> bool:
        self._from_often = key in self._often_gone
        once, often = len(self._once_gone), len(self._often_gone)
        if key in self._once_gone:
            self._goal = min(self.slots, self._goal + max(1.0, often / once))
        elif self._from_often:
            self._goal = max(0.0, self._goal - max(1.0, once / often))
        return True

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        known = key in self._once_gone or key in self._often_gone
        self._once_gone.pop(key, None)
        self._often_gone.pop(key, None)
        (self._often if known else self._once)[key] = None
        while self._once_gone and len(self._once) + len(self._once_gone) > self.slots:
            self._once_gone.popitem(last=False)
        while self._often_gone and len(self) + len(self._once_gone) + len(self._often_gone) > 2 * self.slots:
            self._often_gone.popitem(last=False)

    def touch(self, key: Key) -> None:
        self._once.pop(key, None)
        self._often[key] = None
        self._often.move_to_end(key)

    def evict(self) -> Key | None:
        first = len(self._once) > self._goal or (self._from_often and len(self._once) == self._goal)
        both = [(self._once, self._once_gone), (self._often, self._often_gone)]
        for queue, gone in both if first and self._once else reversed(both):
            victim = oldest(queue, self._pins)
            if victim is not None:
                del queue[victim]
                gone[victim] = None
                return victim
        return None


class S3Fifo(_TwoQueues):
    """A tenth of the room is a probation queue: what is not used there goes, and is remembered as a ghost.

    Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
    """

    name = "s3fifo"
    MOST_USES = 3

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._uses: dict[Key, int] = {}
        self._gone: Queue = OrderedDict()
        self._probation = max(1, slots // 10)

    def resize(self, slots: int) -> None:
        super().resize(slots)
        self._probation = max(1, self.slots // 10)

    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        known = key in self._gone
        self._gone.pop(key, None)
        self._uses[key] = 0
        (self._often if known else self._once)[key] = None

    def touch(self, key: Key) -> None:
        self._uses[key] = min(self.MOST_USES, self._uses[key] + 1)

    def evict(self) -> Key | None:
        for _ in range((self.MOST_USES + 2) * (len(self) + 1)):
            probation = len(self._once) >= self._probation or not self._often
            found = oldest(self._once if probation else self._often, self._pins)
            if found is None:
                probation = not probation
                found = oldest(self._once if probation else self._often, self._pins)
            if found is None:
                return None
            if probation and self._uses[found] <= 1:
                self.remove(found)
                self._remember(found)
                return found
            if probation:
                del self._once[found]
                self._often[found], self._uses[found] = None, 0
            elif self._uses[found]:
                self._uses[found] -= 1
                self._often.move_to_end(found)
            else:
                self.remove(found)
                return found
        return None

    def remove(self, key: Key) -> None:
        super().remove(key)
        self._uses.pop(key, None)

    def _remember(self, key: Key) -> None:
        self._gone[key] = None
        while len(self._gone) > self.slots - self._probation:
            self._gone.popitem(last=False)
