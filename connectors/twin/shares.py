"""Shares of requests: whose turn it is when each replica is to get its own part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Shares:
    """The shares of one workload, as routers with weights keep them: smooth weighted round robin, so that of any run of
    requests each replica gets its share but for one or two, evenly spread (as nginx does, `ngx_http_upstream`).

    `wanted` is by replica id; empty: there are none. One that is not named, since it came later, gets the mean share.
    """

    def __init__(self, wanted: Mapping[str, float] | None = None) -> None:
        self.wanted = dict(wanted or {})
        self._credit: dict[str, float] = {}

    def set(self, wanted: Mapping[str, float]) -> None:
        """Share out by these from now on; without any, not at all."""
        self.wanted, self._credit = dict(wanted), {}

    def next(self, ready: Sequence[str]) -> int | None:
        """The place in `ready` of the replica whose turn it is; None where no share is above zero."""
        named = [self.wanted[name] for name in ready if name in self.wanted]
        mean = sum(named) / len(named) if named else 1.0
        weights = [self.wanted.get(name, mean) for name in ready]
        total = sum(weights)
        if total <= 0:
            return None
        credit = {
            name: self._credit.get(name, 0.0) + weight / total for name, weight in zip(ready, weights, strict=True)
        }
        place = max(range(len(ready)), key=lambda n: (credit[ready[n]] if weights[n] > 0 else float("-inf"), -n))
        credit[ready[place]] -= 1.0
        self._credit = credit
        return place
