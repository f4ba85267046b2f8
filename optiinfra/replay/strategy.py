"""Which replicas are spot: the port, no spot at all, and a fixed share above a floor of on-demand ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from contracts.errors import ConfigError

ON_DEMAND = ""
"""The zone of a replica that is not spot."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Market:
    """What a strategy may know when it is asked.

    `open`: zones where a spot replica can be had now and no loss was announced, as listed. `spot`: our replicas by
    zone, without those whose loss was announced. `load_rps`: mean of the last ten minutes; `capacity_rps`: of one
    replica.
    """

    at_s: int
    open: tuple[str, ...]
    spot: Mapping[str, int]
    on_demand: int
    load_rps: float
    capacity_rps: float

    @property
    def spots(self) -> int:
        """Our spot replicas in all zones."""
        return sum(self.spot.values())


class SpotStrategy(Protocol):
    """The operator's choice of the kind of each replica; how many there are is the policy's."""

    @property
    def name(self) -> str:
        """As results say it, with its numbers."""
        ...

    def place(self, market: Market) -> str:
        """The zone in which the next replica is ordered, one of `market.open`, or ON_DEMAND."""
        ...

    def gives_up(self, market: Market) -> str:
        """The zone (or ON_DEMAND) that gives up a replica when one is not wanted any more."""
        ...

    def at_notice(self, doomed: int) -> int:
        """How many replicas are ordered at once in place of `doomed` ones whose loss is announced."""
        ...


@dataclass(frozen=True)
class NoSpot:
    """Everything on demand."""

    name: str = "none"

    def place(self, market: Market) -> str:
        return ON_DEMAND

    def gives_up(self, market: Market) -> str:
        return ON_DEMAND

    def at_notice(self, doomed: int) -> int:
        return 0


@dataclass(frozen=True)
class FixedShare:
    """`share_ratio` of the replicas are spot, spread evenly over the zones that have some; where none has, on demand.

    `floor_ratio`: so much of the load of the last ten minutes the on-demand replicas alone can serve, before any spot
    replica is ordered. `replaces`: what a notice announces is ordered anew at the notice, not after the loss.
    """

    share_ratio: float
    floor_ratio: float = 0.0
    replaces: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.share_ratio <= 1 and self.floor_ratio >= 0):
            what = f"a share of {self.share_ratio:g} above a floor of {self.floor_ratio:g}"
            raise ConfigError(what, where="spot strategy", fix="A share is 0 to 1, a floor 0 or more.")

    @property
    def name(self) -> str:
        notice = "replaces at notice" if self.replaces else "heeds no notice"
        return f"{self.share_ratio:g} spot, on demand for {self.floor_ratio:g} of the load, {notice}"

    def place(self, market: Market) -> str:
        due = market.spots + 1 <= self.share_ratio * (market.spots + market.on_demand + 1) + _ROUNDING
        if not due or market.on_demand < self._floor(market) or not market.open:
            return ON_DEMAND
        return min(market.open, key=lambda zone: (market.spot.get(zone, 0), market.open.index(zone)))

    def gives_up(self, market: Market) -> str:
        left = market.spots + market.on_demand - 1
        too_many = market.spots > self.share_ratio * left + _ROUNDING
        if market.spots and (too_many or market.on_demand <= self._floor(market)):
            return max(market.spot, key=lambda zone: market.spot[zone])
        return ON_DEMAND

    def at_notice(self, doomed: int) -> int:
        return doomed if self.replaces else 0

    def _floor(self, market: Market) -> int:
        return ceil(self.floor_ratio * market.load_rps / market.capacity_rps - _ROUNDING)
