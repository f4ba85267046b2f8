"""Folds the SLIs of a workload into what stage `sizing` knows of it: load, replicas, lateness, and what one can do."""

from __future__ import annotations

from typing import Any

from agents.performance.core import demand, underway
from agents.performance.core.capacity import ReplicaSeen
from agents.performance.core.sizing_state import Newest, Served, SizingState
from contracts.events import ActionKind, EndState, Outcome, Sli

WINDOW_S = 60
"""Attainment and capacity are read from windows so long, or from the next longer ones where those are not made."""
OBSERVED = 0.8
"""A window of which less was observed tells nothing of a replica."""
LASTS_MS = 30_000
"""Fewer replicas than are listed, but so many for so long, are all there are."""
QUEUE = 1.0
"""Where so many requests wait in front of a replica, on average, its limit shows, if none came or went meanwhile."""
_TOO_MUCH = "guard_broken"
"""The executor's reason where users waited with fewer replicas."""


def latest(state: SizingState, sli: Sli, end_ms: int) -> SizingState:
    """A latest SLI, unless a newer one is known or it was told before."""
    before = state.newest
    same_end = before is not None and sli.end_ms == before.order_ms
    if before is not None and (sli.end_ms < before.order_ms or (same_end and sli.id in before.told)):
        return state
    up = sli.value("replicas_up")
    newest = Newest(
        order_ms=sli.end_ms,
        end_ms=end_ms,
        cause_ms=sli.cause_ms,
        freshness_s=sli.freshness_s,
        coverage_ratio=sli.coverage_ratio,
        waiting=sli.value("requests_waiting"),
        running=sli.value("requests_running"),
        up=None if up is None else round(up),
        up_since_ms=before.up_since_ms if before is not None and before.up == up else sli.end_ms,
        kv_usage_ratio=sli.value("kv_cache_usage_ratio"),
        told=(*(before.told if before is not None and same_end else ()), sli.id),
    )
    # Where all fail one after the other, the count in between is of a moment that never was. One that lasts is true.
    sure = sli.coverage_ratio >= 1 or state.up is None or sli.end_ms - newest.up_since_ms > LASTS_MS
    counted = newest.up if newest.up is not None and sure else state.up
    changes: dict[str, Any] = {
        "newest": newest,
        "demand": demand.heard(state.demand, sli),
        "up": counted,
        "up_since_ms": state.up_since_ms if counted == state.up else sli.end_ms,
    }
    if newest.up is not None:
        changes["underway"] = underway.answered(state.underway, newest.up, sli.end_ms)
    return state.model_copy(update=changes)


def hears(state: SizingState | None, sli: Sli) -> bool:
    """Whether an SLI is read: one of the whole workload, of the shortest windows that there are, or the latest."""
    if sli.instance_id is not None or 0 < sli.size_s < WINDOW_S:
        return False
    return state is None or state.served is None or sli.size_s <= state.served.size_s


def window(state: SizingState, sli: Sli, target: float) -> SizingState:
    """A window's SLI, unless it is no news."""
    before = state.served
    if before is not None and sli.end_ms <= before.end_ms:
        return state
    per_s, running = sli.value("requests_per_s"), sli.value("requests_running")
    met = sli.attainment.get("ttft")
    done, good = (met.total, met.good) if met is not None else (0, 0)
    served = Served(
        size_s=sli.size_s,
        end_ms=sli.end_ms,
        done=done + (before.done if before is not None else 0),
        late=done - good + (before.late if before is not None else 0),
        service_s=running / per_s if running and per_s else (before.service_s if before is not None else None),
        kv_usage_ratio=sli.value("kv_cache_usage_ratio"),
    )
    changes: dict[str, Any] = {"served": served}
    seen = _replica(sli)
    counted = sli.value("replicas_up") == state.up and sli.coverage_ratio >= OBSERVED
    if seen is not None and counted and (seen.waiting < QUEUE or _steady(state, sli)):
        changes["capacity"] = state.capacity.seen(seen, target)
    return state.model_copy(update=changes)


def tried(state: SizingState, outcome: Outcome) -> SizingState:
    """An action is over. Where replicas that were taken had to be put back since users waited, more load on each was
    too much. What people stopped, or settings that were taken back, say nothing of load."""
    undone = outcome.end_state is EndState.UNDONE and outcome.action.spec.kind is ActionKind.SCALE_DOWN
    if not undone or _TOO_MUCH not in outcome.reasons:
        return state
    return state.model_copy(update={"capacity": state.capacity.failed()})


def _steady(state: SizingState, sli: Sli) -> bool:
    """Of a window in which replicas came or went, nobody knows what one did."""
    return state.up_since_ms is not None and state.up_since_ms <= sli.start_ms


def _replica(sli: Sli) -> ReplicaSeen | None:
    """What the mean replica of the workload did in a window."""
    up, per_s, running = (sli.value(name) for name in ("replicas_up", "requests_per_s", "requests_running"))
    waiting = sli.value("requests_waiting")
    if not up or per_s is None or running is None or waiting is None:
        return None
    met = sli.attainment.get("ttft")
    return ReplicaSeen(
        span_s=float(sli.size_s),
        finished=per_s * sli.size_s / up,
        running=running / up,
        waiting=waiting / up,
        prompt_tokens=(sli.value("prompt_tokens_per_s") or 0.0) * sli.size_s / up,
        generation_tokens=(sli.value("generation_tokens_per_s") or 0.0) * sli.size_s / up,
        done=met.total / up if met is not None else 0.0,
        in_time=met.good / up if met is not None else 0.0,
        replicas=max(1, round(up)),
        kv_usage_ratio=sli.value("kv_cache_usage_ratio"),
    )
