"""The router before a workload's replicas: who takes the next request, and which its gateway lets through at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connectors.twin.gate import Gate
from connectors.twin.replica import Phase, Replica
from connectors.twin.request import Request
from connectors.twin.shares import Shares
from connectors.twin.watch import Watch

Settle = Callable[[Replica, float], None]
"""Brings a replica to a time, event ms."""


@dataclass
class RouterCounts:
    """What the router saw of one workload: `arrived` = `sent` + `unserved` (no replica was ready) + `refused` (too
    long for the model) + what its gateway refused or lets wait. Of those sent, `lost` were held by a process that
    ended."""

    arrived: int = 0
    sent: int = 0
    unserved: int = 0
    refused: int = 0
    lost: int = 0


class Router:
    """The router of one workload; `settle` brings replicas to a time before they are chosen from."""

    def __init__(self, watch: Watch | None, settle: Settle) -> None:
        self.counts, self.shares, self.gate = RouterCounts(), Shares(), Gate()
        self._watch, self._settle = watch, settle

    def take(self, request: Request, replicas: Sequence[Replica]) -> None:
        """A request arrives."""
        gate = self.gate
        if gate.waiting:
            self.look(request.arrival_ms, replicas)
        for replica in replicas:
            self._settle(replica, request.arrival_ms)
        self.counts.arrived += 1
        if why := gate.refuses(request):
            self._turn_away(request, why)
        elif gate.waiting or (gate.most and in_flight(replicas) >= gate.most):
            gate.hold(request)
        else:
            self._send(request, replicas)

    def look(self, to_ms: float, replicas: Sequence[Replica]) -> None:
        """Let in those that wait before the gateway, whenever it looks up to `to_ms` and there is room."""
        gate = self.gate
        for at_ms in gate.looks(to_ms):
            for replica in replicas:
                self._settle(replica, at_ms)
            for request in gate.gone(at_ms):
                self._turn_away(request, "gave_up")
            while (let_in := gate.next(at_ms, in_flight(replicas))) is not None:
                self._send(let_in, replicas)

    def _send(self, request: Request, replicas: Sequence[Replica]) -> None:
        chosen, counts = self._chosen(replicas), self.counts
        if chosen is None:
            counts.unserved += 1
            self._turn_away(request, "unserved")
        elif chosen.engine is not None and chosen.engine.submit(request):
            counts.sent += 1
        else:
            chosen.refused += 1
            counts.refused += 1
            self._turn_away(request, "refused")

    def _chosen(self, replicas: Sequence[Replica]) -> Replica | None:
        """Who takes the next request: whose turn it is by the shares, where there are some."""
        if self.shares.wanted:
            ready = [r for r in replicas if r.phase is Phase.READY and r.engine is not None]
            place = self.shares.next([r.replica_id for r in ready])
            if place is not None:
                return ready[place]
        return least_outstanding(replicas)

    def _turn_away(self, request: Request, reason: str) -> None:
        if self._watch is not None:
            self._watch.turned_away(request, reason)


def in_flight(replicas: Sequence[Replica]) -> int:
    """Requests at the replicas, waiting or running."""
    return sum(replica.engine.outstanding for replica in replicas if replica.engine is not None)


def least_outstanding(replicas: Sequence[Replica]) -> Replica | None:
    """The ready replica with the fewest requests waiting or running; the first of several; None when none is ready."""
    best, fewest = None, -1
    for replica in replicas:
        if replica.phase is Phase.READY and replica.engine is not None:
            outstanding = replica.engine.outstanding
            if best is None or outstanding < fewest:
                best, fewest = replica, outstanding
    return best
