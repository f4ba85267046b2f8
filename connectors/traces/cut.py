"""Cuts a span out of a trace, so that an hour or a week of it can be replayed by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from connectors.traces.shape import Counts, Load, Requests
from contracts.errors import ConfigError

DAY_S = 86_400


@dataclass(frozen=True)
class Cut:
    """Seconds [from_s, from_s + for_s) of a trace; `for_s` None: to its end."""

    from_s: int = 0
    for_s: int | None = None

    def load(self, load: Load) -> Load:
        """This span of a load, which begins at the same time of day. Raises ConfigError where the trace is over."""
        begin, end = self._ends(len(load.per_second), load.origin)
        return replace(
            load,
            per_second=load.per_second[begin:end],
            origin=load.origin + self._named(end),
            begin_s=(load.begin_s + begin) % DAY_S,
            measured=None if load.measured is None else load.measured[begin:end],
        )

    def requests(self, requests: Requests, length_s: int) -> Requests:
        """The requests of this span of a trace of `length_s`, counted from its first second on."""
        begin, end = self._ends(length_s, requests.origin)
        low, high = np.searchsorted(requests.arrival_s, (begin, end))
        return replace(
            requests,
            arrival_s=requests.arrival_s[low:high] - begin,
            prompt_tokens=_part(requests.prompt_tokens, int(low), int(high)),
            output_tokens=_part(requests.output_tokens, int(low), int(high)),
            origin=requests.origin + self._named(end),
            blocks=None if requests.blocks is None else requests.blocks[low:high],
            midnight_s=(requests.midnight_s + begin) % DAY_S,
        )

    def _ends(self, length_s: int, origin: str) -> tuple[int, int]:
        if self.from_s >= max(length_s, 1):
            raise ConfigError(f"the trace ends after {length_s} s", where=origin, fix="Let --from be earlier.")
        return self.from_s, length_s if self.for_s is None else min(length_s, self.from_s + self.for_s)

    def _named(self, end_s: int) -> str:
        """What it adds to the name of the origin; nothing where it is all of it."""
        return "" if self == Cut() else f", seconds {self.from_s} to {end_s}"


def _part(counts: Counts | None, low: int, high: int) -> Counts | None:
    return None if counts is None else counts[low:high]
