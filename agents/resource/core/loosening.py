"""How far our limits at a gateway may be loosened: a queue step by step, as long as it holds requests back.

Nobody tells how many wait at a gateway. Where clearly fewer requests are at the replicas than may be, none does, and
the queue may go. Else so many may wait that they would fill the cache again at once: the number grows by what fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from agents.resource.core.gate import Gate, Ours
from agents.resource.core.readings import Reading

BINDS_FROM = 0.80
"""A queue holds requests back where the replicas had so much of it at any time in the last minute."""
BUSY_MS = 60_000
RAISED_TO = 0.75
"""Share of the cache that a raised queue may fill: those let in at once grow together, and at their longest hold more
than requests of all ages do."""
MOST, LEAST = 1.5, 1.05
"""By so much a queue is raised at a time, at most and at least."""


def loosened(gate: Gate, recent: Sequence[Reading], replicas: int) -> dict[str, float]:
    """Numbers of a finding: what limits of ours may be set to, 0 for none, each left out where it may not be loosened.
    `recent`: the readings of the last minutes, oldest first; `replicas`: how many should have told."""
    queue, context = gate.own("max_in_flight"), gate.own("max_context_tokens")
    told = {"context_tokens_restored": float(context.before)} if context else {}
    in_flight = _in_flight(queue, recent, replicas) if queue else None
    return told if in_flight is None else told | {"in_flight_restored": float(in_flight)}


def _in_flight(queue: Ours, recent: Sequence[Reading], replicas: int) -> int | None:
    """None where it stays, or nobody knows how many requests are at the replicas."""
    now = recent[-1]
    loads = [each.in_flight for each in recent if each.end_ms > now.end_ms - BUSY_MS]
    known = [each for each in loads if each is not None]
    if now.up < replicas or len(known) < len(loads):
        return None
    if max(known) < BINDS_FROM * queue.value:
        return queue.before
    # By the minutes in which a request held most: those that have just begun hold little yet.
    held = max((each.replicas_held for each in recent if each.replicas_held is not None), default=0.0)
    if held <= 0:
        return None
    raised = min(int(RAISED_TO * now.up / held), ceil(MOST * queue.value))
    raised = min(raised, queue.before) if queue.before else raised
    return raised if raised >= LEAST * queue.value else None
