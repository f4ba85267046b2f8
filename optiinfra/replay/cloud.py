"""Where replicas come from: zones that have spot capacity or lose it, the strategy that chooses, and the prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.prices import PriceBook
from optiinfra.replay.spot import NEVER_S, Zone
from optiinfra.replay.strategy import ON_DEMAND, FixedShare, Market, NoSpot, SpotStrategy


@dataclass(frozen=True)
class Notice:
    """A loss that was announced: at `at_s` that `doomed` replicas of `zone` are taken at `loss_s`. `replaced`: how many
    the spot strategy ordered at once in their place."""

    at_s: int
    loss_s: int
    zone: str
    doomed: int
    replaced: int


@dataclass(frozen=True)
class Cloud:
    """Zones by name. A loss is announced `notice_s` before it comes; from then on its zone sells nothing."""

    zones: Mapping[str, Zone]
    strategy: SpotStrategy
    prices: PriceBook
    notice_s: int

    def doomed(self, zone: str, at_s: int) -> bool:
        """Whether the loss of this zone has been announced by now; never so on demand."""
        return zone != ON_DEMAND and self.zones[zone].next_loss_s(at_s) - self.notice_s <= at_s

    def market(self, at_s: int, held: Mapping[str, int], load_rps: float, capacity_rps: float) -> Market:
        """What the strategy sees; `held`: replicas by zone, draining ones left out."""
        safe = [name for name in self.zones if not self.doomed(name, at_s)]
        return Market(
            at_s=at_s,
            open=tuple(name for name in safe if self.zones[name].available(at_s)),
            spot={name: held[name] for name in safe if held.get(name)},
            on_demand=held.get(ON_DEMAND, 0),
            load_rps=load_rps,
            capacity_rps=capacity_rps,
        )

    def next_s(self, after_s: int) -> int:
        """When a zone is lost or its loss announced next, later than `after_s`; `NEVER_S` where nothing is to come."""
        found = NEVER_S
        for zone in self.zones.values():
            loss_s = zone.next_loss_s(after_s)
            told_s = loss_s - self.notice_s
            if loss_s < NEVER_S:
                found = min(found, told_s if told_s > after_s else loss_s)
        return found

    def usd_per_h(self, held: Mapping[str, int], at_s: int) -> float:
        """What these replicas cost an hour at this moment, US dollars."""
        prices = self.prices
        return sum(
            many * prices.usd_per_h(spot=zone != ON_DEMAND, zone=zone, at_s=at_s) for zone, many in held.items() if many
        )

    def usd(self, held: Mapping[str, int], begin_s: int, end_s: int) -> float:
        """What these replicas cost in seconds [begin, end), US dollars, whatever prices do meanwhile."""
        bill = 0.0
        while begin_s < end_s:
            until_s = min(end_s, max(begin_s + 1, self.prices.until_s(begin_s)))
            bill += self.usd_per_h(held, begin_s) * (until_s - begin_s) / 3600.0
            begin_s = until_s
        return bill

    def last_to_stay(self, serving: Iterable[tuple[str, str]], market: Market) -> tuple[str, ...]:
        """Names of (name, zone), oldest first, in such an order that the last is the first to be given up: those whose
        loss is announced, then the youngest of the kind that the strategy gives up."""
        by_zone: dict[str, list[str]] = {}
        for name, zone in serving:
            by_zone.setdefault(zone, []).append(name)
        gone = [name for zone, names in by_zone.items() if self.doomed(zone, market.at_s) for name in reversed(names)]
        stay = {zone: names for zone, names in by_zone.items() if not self.doomed(zone, market.at_s)}
        while any(stay.values()):
            zone = self.strategy.gives_up(market)
            if not stay.get(zone):
                zone = next(each for each, names in stay.items() if names)
            gone.append(stay[zone].pop())
            market = _less(market, zone)
        return tuple(reversed(gone))


def cloud_of(
    options: PipelineOptions, zones: Mapping[str, Zone], strategy: SpotStrategy | None, prices: PriceBook | None
) -> Cloud:
    """The cloud of a replay; where strategy or prices are None, those of the options."""
    if strategy is None:
        share = FixedShare(options.spot_ratio, options.spot_floor_ratio, options.spot_replaces)
        strategy = share if options.spot_ratio else NoSpot()
    return Cloud(zones, strategy, prices or options.prices, options.spot_notice_s)


def _less(market: Market, zone: str) -> Market:
    """With one replica less there."""
    if zone == ON_DEMAND:
        return replace(market, on_demand=market.on_demand - 1)
    spot = {name: many - (name == zone) for name, many in market.spot.items()}
    return replace(market, spot={name: many for name, many in spot.items() if many})
