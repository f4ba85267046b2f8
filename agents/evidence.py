"""What the executor has seen of the fleets: the newest SLIs of each workload, and how late it is."""

from __future__ import annotations

from contracts.events import Sli
from contracts.laws.bounds import Evidence
from contracts.ledger import ActionRecord, Phase


class Eyes:
    """Memory of one process, empty when it starts. `max_age_s` is how old evidence may be, event seconds."""

    def __init__(self, max_age_s: float) -> None:
        self._max_age_ms = int(max_age_s * 1000)
        self._slis: dict[str, dict[int, Sli]] = {}
        self._first_tick_ms: int | None = None
        self._tick_ms = 0

    def hear(self, at_ms: int) -> None:
        """A tick: time never goes back."""
        if self._first_tick_ms is None:
            self._first_tick_ms = at_ms
        self._tick_ms = max(self._tick_ms, at_ms)

    def see(self, sli: Sli) -> None:
        """Keep a workload's SLIs where they are the newest of their window. Ones from a clock that is ahead are not
        kept: they would look fresh when nothing comes any more."""
        ahead = self._first_tick_ms is not None and sli.end_ms > self._tick_ms + self._max_age_ms
        if sli.instance_id is not None or ahead:
            return
        kept = self._slis.setdefault(sli.workload, {})
        old = kept.get(sli.size_s)
        if old is None or (sli.end_ms, sli.revision) >= (old.end_ms, old.revision):
            kept[sli.size_s] = sli

    def now_ms(self, record: ActionRecord) -> int:
        """The time that deadlines of an action run on, event ms: never before anything that was done to it.

        A process that has just been started has not seen what was measured meanwhile. For an action whose workload it
        never saw, time stands still until evidence has come or should have.
        """
        begun = record.phase not in (Phase.RECORDED, Phase.PLANNED)
        waited_ms = self._tick_ms - (self._first_tick_ms or 0)
        if begun and record.action.workload not in self._slis and waited_ms <= self._max_age_ms:
            return record.phase_since_ms
        return max(self._tick_ms, record.action.at_ms, record.phase_since_ms if begun else 0)

    def evidence(self, record: ActionRecord, *, first: bool) -> Evidence:
        """The newest SLIs of its workload. At the first look at an action in trial there are none: what happened while
        nobody looked may have broken its guards, so that the hold begins anew."""
        if first and record.phase is Phase.TRIAL:
            return {}
        return dict(self._slis.get(record.action.workload, {}))
