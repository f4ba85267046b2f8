"""What the executor has seen of the fleets: the newest SLIs of each workload, and how late it is."""

from __future__ import annotations

from contracts.clock import Clock
from contracts.events import Sli
from contracts.laws.bounds import Evidence
from contracts.ledger import ActionRecord, Phase


class Eyes:
    """Memory of one process, empty when it starts. `max_age_s` is how old evidence may be, event seconds.

    They are shut while the newest tick is older than that by the clock: ticks and SLIs come late together, and would
    look fresh to each other. What a clock that is ahead has sent is not heard. Opened again, they look at a workload
    once its SLIs have come or should have. Behind shut eyes there is no evidence, and time stands still for what has
    begun.
    """

    def __init__(self, max_age_s: float, clock: Clock) -> None:
        self._max_age_ms, self._clock = int(max_age_s * 1000), clock
        self._slis: dict[str, dict[int, Sli]] = {}
        self._open_since_ms: int | None = None
        self._tick_ms: int | None = None
        self._born_ms = clock.now_ms()

    @property
    def behind_s(self) -> float | None:
        """How late the newest tick is, event seconds, or how long none was heard at all; None where that is no more
        than evidence may be."""
        heard_ms = self._born_ms if self._tick_ms is None else self._tick_ms
        behind_ms = self._clock.now_ms() - heard_ms
        return behind_ms / 1000 if behind_ms > self._max_age_ms else None

    def too_old(self, at_ms: int, now_ms: int) -> bool:
        """Whether what was seen then says nothing about now."""
        return now_ms - at_ms > self._max_age_ms

    def hear(self, at_ms: int) -> None:
        """A tick. Time goes back only where the clock was set back."""
        if self._ahead(at_ms):
            return
        was_shut = self._shut()
        if self._tick_ms is None or self._ahead(self._tick_ms):
            self._tick_ms = at_ms
        self._tick_ms = max(self._tick_ms, at_ms)
        if was_shut and not self._shut():
            self._open_since_ms = self._tick_ms

    def see(self, sli: Sli) -> None:
        """Keep a workload's SLIs where they are the newest of their window. Ones from a clock that is ahead are not
        kept: they would look fresh when nothing comes any more."""
        if sli.instance_id is not None or self._ahead(sli.end_ms):
            return
        kept = self._slis.setdefault(sli.workload, {})
        old = kept.get(sli.size_s)
        if old is None or self._ahead(old.end_ms) or (sli.end_ms, sli.revision) >= (old.end_ms, old.revision):
            kept[sli.size_s] = sli

    def now_ms(self, record: ActionRecord) -> int:
        """The time that deadlines of an action run on, event ms: never before anything that was done to it."""
        begun = _begun(record)
        if begun and not self._looks_at(record):
            return record.phase_since_ms
        return max(self._tick_ms or 0, record.action.at_ms, record.phase_since_ms if begun else 0)

    def evidence(self, record: ActionRecord, *, first: bool) -> Evidence:
        """The newest SLIs of its workload. At the first look at an action in trial there are none: what happened while
        nobody looked may have broken its guards, so that the hold begins anew."""
        unready = _begun(record) and not self._looks_at(record)
        if self._shut() or unready or (first and record.phase is Phase.TRIAL):
            return {}
        return dict(self._slis.get(record.action.workload, {}))

    def _ahead(self, at_ms: int) -> bool:
        return at_ms > self._clock.now_ms() + self._max_age_ms

    def _shut(self) -> bool:
        return self._tick_ms is None or self.behind_s is not None

    def _looks_at(self, record: ActionRecord) -> bool:
        """Whether all windows that decide on an action have come since the eyes were opened, or should have."""
        if self._shut() or self._tick_ms is None or self._open_since_ms is None:
            return False
        spec = record.action.spec
        sizes = {bound.size_s for bound in (spec.effect.expect, *spec.effect.guards, *spec.undo_guards)}
        kept = self._slis.get(record.action.workload, {})
        fresh_ms = self._open_since_ms - self._max_age_ms
        if all(size_s in kept and kept[size_s].end_ms >= fresh_ms - size_s * 1000 for size_s in sizes):
            return True
        return self._tick_ms - self._open_since_ms > self._max_age_ms + max(sizes) * 1000


def _begun(record: ActionRecord) -> bool:
    return record.phase not in (Phase.RECORDED, Phase.PLANNED)
