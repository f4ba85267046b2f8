"""The tuned reactive scaler: replicas for the latest rate with a margin and for the backlog, given up slowly.

It forecasts nothing. Source: the strongest of the scalers without a forecast in our own study of real traffic.
"""

from __future__ import annotations

from math import ceil

from contracts.scaling import FleetFacts, LoadSeen
from optiinfra.replay.peers.lately import HighestLately, MeanLately
from optiinfra.replay.policy import Policy, amount, grid


class Reactive:
    """Rate over the last `window_s` × `margin_ratio`, and the backlog served within `clear_s`; the highest answer of
    the last `hold_s` seconds holds.
    """

    def __init__(
        self, facts: FleetFacts, *, window_s: float, margin_ratio: float, hold_s: float, clear_s: float
    ) -> None:
        self._capacity_rps, self._margin_ratio, self._clear_s = facts.capacity_rps, margin_ratio, clear_s
        self._rate = MeanLately(int(window_s))
        self._highest = HighestLately(hold_s)

    def decide(self, seen: LoadSeen) -> int:
        self._rate.put(*(seen.arrived or ()))
        rate = self._rate.mean
        if seen.arrived is None or rate is None:
            return seen.ready + seen.starting
        wanted_rps = rate * self._margin_ratio + (seen.waiting or 0.0) / self._clear_s
        return self._highest.put(seen.now_s, ceil(wanted_rps / self._capacity_rps))


POLICY = Policy(
    "reactive",
    "tuned reactive: rate × margin + backlog, held for minutes",
    lambda course, knobs: Reactive(
        course.facts,
        window_s=amount(knobs, "window_s"),
        margin_ratio=amount(knobs, "margin_ratio"),
        hold_s=amount(knobs, "hold_s"),
        clear_s=amount(knobs, "clear_s"),
    ),
    grid(
        margin_ratio=(0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5),
        window_s=(15.0, 30.0, 60.0),
        hold_s=(300.0, 600.0, 900.0),
        clear_s=(30.0,),
    ),
    main="margin_ratio",
)
