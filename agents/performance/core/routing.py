"""Says whether requests should be sent to pools of replicas by the length of their prompts, and how large each must be.

A pool of short prompts can be denser, for no long one stands before them; a pool of long ones may be thinner. Against
that, every pool rounds its replicas up and none helps another out. So a split is proposed only where it needs fewer
replicas in all than one pool for everybody, by the capacity that a replica was measured to have for each mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, inf

import numpy as np

from contracts.errors import ConfigError

EDGES = (2048, 8192)
"""Tokens of prompt at which pools may part: requirements, section 1."""

Capacity = Callable[[int, float], float]
"""Requests a second that one replica serves within its objective, of those with prompts from one length to below
another, in tokens: measured or learnt. 0 where they cannot be served so."""


@dataclass(frozen=True)
class Pool:
    """Replicas for prompts of `least` to below `below` tokens, `share` of the requests. `load` is in replicas."""

    least: int
    below: float
    share: float
    capacity_rps: float
    load: float
    replicas: int

    def __str__(self) -> str:
        lengths = f"{self.least} tokens and more" if self.below == inf else f"{self.least} to {self.below:.0f} tokens"
        if self.least == 0 and self.below == inf:
            lengths = "all lengths"
        return (
            f"{lengths}: {self.share:.1%} of requests, {self.capacity_rps:.3g} req/s a replica, "
            f"{self.load:.2f} -> {self.replicas}"
        )


@dataclass(frozen=True)
class Routing:
    """The cheapest way to send requests by length: one pool where no split is cheaper. `together`: one pool for all;
    `refused`: the best split, where it does not pay."""

    demand_rps: float
    pools: tuple[Pool, ...]
    together: Pool
    refused: tuple[Pool, ...]

    @property
    def pays(self) -> bool:
        """Whether to split."""
        return len(self.pools) > 1

    @property
    def saved(self) -> int:
        """Replicas fewer than in one pool."""
        return self.together.replicas - sum(each.replicas for each in self.pools)

    def values(self) -> dict[str, float]:
        """The numbers of a finding of kind `routing`."""
        return {
            "pools_wanted": float(len(self.pools)),
            "replicas_saved_by_pools": float(self.saved),
            "replicas_in_one_pool": float(self.together.replicas),
        }

    def explain(self) -> str:
        """The finding in one line."""
        one = f"one pool for {self.demand_rps:.3g} req/s: {self.together}"
        if self.pays:
            return f"split, {self.saved} replicas fewer: {'; '.join(map(str, self.pools))}; {one}"
        if not self.refused:
            return f"no split: prompts stand on one side of every edge; {one}"
        need = sum(each.replicas for each in self.refused)
        return f"no split: {need} replicas at best, {'; '.join(map(str, self.refused))}; {one}"


def plan(
    prompt_tokens: Sequence[int],
    capacity: Capacity,
    demand_rps: float,
    *,
    edges: Sequence[int] = EDGES,
    least_replicas: int = 1,
) -> Routing:
    """The finding for prompts of these lengths. `least_replicas`: of each pool, two where none may stand alone.

    Raises ConfigError where one pool for all cannot serve them within the objective.
    """
    lengths = np.asarray(prompt_tokens, dtype=np.int64)
    if not len(lengths) or demand_rps <= 0:
        raise ConfigError("no requests to route", where="routing", fix="Give lengths and a demand above 0.")

    def pool(least: int, below: float) -> Pool:
        share = float(np.mean((lengths >= least) & (lengths < below)))
        rps = capacity(least, below)
        load = demand_rps * share / rps if rps > 0 else inf
        # A hair's breadth above a whole number is rounding of the division, not load.
        return Pool(least, below, share, rps, load, max(least_replicas, ceil(load - 1e-9)) if load < inf else 0)

    together = pool(0, inf)
    if not together.replicas:
        raise ConfigError(
            "one replica cannot serve this mix within the objective", where="routing", fix="Allow more time."
        )
    known = sorted({edge for edge in edges if (lengths < edge).any() and (lengths >= edge).any()})
    splits = [
        tuple(pool(int(low), high) for low, high in pairwise((0, *chosen, inf)))
        for count in range(1, len(known) + 1)
        for chosen in combinations(known, count)
    ]
    served = [split for split in splits if all(each.replicas and each.share > 0 for each in split)]
    best = min(served, key=lambda split: (sum(each.replicas for each in split), len(split)), default=())
    if best and sum(each.replicas for each in best) < together.replicas:
        return Routing(demand_rps, best, together, ())
    return Routing(demand_rps, (together,), together, best)
