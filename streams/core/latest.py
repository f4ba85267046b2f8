"""Stage `latest`: the newest scrape of every instance as an SLI at once, for the fast path beside the windows.

Age is judged by ticks, which come from one clock, so a scraper whose clock is ahead cannot make its peers look stale.
An instance that was taken out of discovery goes at once; one of which nothing is heard any more goes after a while.

What arrives is a sum over the instances whose interval is known; `samples` of `arrivals_per_s` says how many those are,
and `instances` of the message of how many. A new instance has no interval yet. One that left took along what it held:
those requests went elsewhere, where they are no new ones, or ended unseen.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.events import Message, MetricsSnapshot, Sli, SliValue, Tick
from contracts.laws.ids import cause_id
from streams.core.arrivals import Count, count
from streams.core.evidence import generated_tokens, has_work, instance_gauges
from streams.core.values import COVERAGE_FLOOR

STALE_INTERVALS = 3.0
STALL_AFTER_S = 10.0
LEAVE_AFTER_S = 300.0


class Latest(BaseModel):
    """The newest scrape of one instance: a few numbers, not the page."""

    model_config = ConfigDict(frozen=True)

    order: tuple[int, int]
    at_ms: int
    interval_s: float
    up: bool
    up_ms: int
    """When it last answered; when it was first tried, if it never has."""
    gauges: dict[str, float] = {}
    tokens: float | None = None
    moved_ms: int
    """When tokens last came, or the instance was last idle, or did not tell."""
    count: Count | None = None

    @property
    def stalled(self) -> bool:
        return self.up and has_work(self.gauges) and self.at_ms - self.moved_ms >= STALL_AFTER_S * 1000


class Departure(BaseModel):
    """Where an instance stood when it left or was given up, so that a scrape of before does not bring it back."""

    model_config = ConfigDict(frozen=True)

    order: tuple[int, int]
    at_ms: int
    """By the newest tick or its own clock, whichever is later."""
    took_per_s: float = 0.0
    """Requests that it still held, over the interval of its scrapes."""
    until_ms: int = 0
    """Until when that counts."""


class LatestState(BaseModel):
    """Per workload: its instances, the newest tick, which of them were stale when the workload was last told, and who
    left of late."""

    model_config = ConfigDict(frozen=True)

    workload: str
    tick_ms: int = 0
    instances: dict[str, Latest] = {}
    stale: tuple[str, ...] = ()
    left: dict[str, Departure] = {}


def _seen(before: Latest | None, snapshot: MetricsSnapshot) -> Latest:
    gauges = instance_gauges(snapshot.engines)
    tokens = generated_tokens(snapshot)
    stood = before is not None and before.up and tokens is not None and tokens == before.tokens
    moved = not stood or not has_work(gauges)
    moved_ms = snapshot.scraped_at_ms if moved or before is None else min(before.moved_ms, snapshot.scraped_at_ms)
    return Latest(
        order=snapshot.order,
        at_ms=snapshot.scraped_at_ms,
        interval_s=snapshot.interval_s,
        up=snapshot.up,
        up_ms=snapshot.scraped_at_ms if snapshot.up or before is None else before.up_ms,
        gauges=gauges,
        tokens=tokens,
        moved_ms=moved_ms,
        count=count(before.count if before else None, snapshot),
    )


def _departed(before: Latest | None, snapshot: MetricsSnapshot, tick_ms: int) -> Departure:
    at_ms = max(snapshot.scraped_at_ms, tick_ms)
    if before is None or before.count is None or not before.up:
        return Departure(order=snapshot.order, at_ms=at_ms)
    return Departure(
        order=snapshot.order,
        at_ms=at_ms,
        took_per_s=before.count.held / before.interval_s,
        until_ms=snapshot.scraped_at_ms + round(before.interval_s * 1000),
    )


def _arrivals(state: LatestState, instance_id: str | None, fresh: list[Latest], at_ms: int) -> SliValue:
    known = [seen.count.per_s for seen in fresh if seen.count is not None and seen.count.per_s is not None]
    if not known:
        return SliValue(value=None)
    took = sum(gone.took_per_s for gone in state.left.values() if at_ms < gone.until_ms) if instance_id is None else 0.0
    return SliValue(value=max(0.0, sum(known) - took), samples=len(known))


def _stale(state: LatestState) -> tuple[str, ...]:
    return tuple(
        sorted(
            name
            for name, seen in state.instances.items()
            if state.tick_ms - seen.at_ms > STALE_INTERVALS * seen.interval_s * 1000
        )
    )


def _sli(state: LatestState, instance_id: str | None, at_ms: int, cause: str) -> Sli:
    members = state.instances if instance_id is None else {instance_id: state.instances[instance_id]}
    stale = _stale(state)
    fresh = [seen for name, seen in members.items() if seen.up and name not in stale]
    stuck = any(seen.stalled for seen in fresh) and all(seen.stalled or not has_work(seen.gauges) for seen in fresh)
    values = {"stalled": SliValue(value=float(stuck), samples=len(fresh))}
    if members:
        values["up_ratio"] = SliValue(value=len(fresh) / len(members), samples=len(members))
    covered = len(fresh) >= COVERAGE_FLOOR * len(members)
    for name in ("requests_waiting", "requests_running", "kv_cache_usage_ratio") if covered else ():
        seen_values = [seen.gauges[name] for seen in fresh if name in seen.gauges]
        if seen_values:
            total = sum(seen_values)
            mean = total / len(seen_values)
            values[name] = SliValue(value=mean if name.endswith("_ratio") else total, samples=len(seen_values))
    if covered and members:
        values["arrivals_per_s"] = _arrivals(state, instance_id, fresh, at_ms)
        values["replicas_up"] = SliValue(value=len(fresh), samples=len(fresh))
    if fresh and {"requests_running", "requests_waiting"} <= values.keys():
        running, waiting = values["requests_running"], values["requests_waiting"]
        load = ((running.value or 0.0) + (waiting.value or 0.0)) / len(fresh)
        values["load_per_replica"] = SliValue(value=load, samples=min(running.samples, waiting.samples))
    oldest_used_ms = min(
        (seen.up_ms for seen in fresh), default=max((s.up_ms for s in members.values()), default=at_ms)
    )
    return Sli(
        workload=state.workload,
        instance_id=instance_id,
        size_s=0,
        start_ms=at_ms,
        coverage_ratio=len(fresh) / len(members) if members else 0.0,
        freshness_s=max(0.0, (at_ms - oldest_used_ms) / 1000.0),
        cause_ms=at_ms,
        # Ticks decide who is fresh, and where they fall among scrapes is not written down: told of others, other id.
        cause=cause_id(cause, *sorted(members), "fresh", *sorted(name for name in members if name not in stale)),
        instances=len(members),
        instances_up=len(fresh),
        stalled=stuck,
        values=values,
    )


def advance(state: LatestState | None, message: Message) -> tuple[LatestState | None, list[Message]]:
    """Fold one scrape or tick in. A scrape tells its instance and workload, a departure the workload without it; a tick
    only what has newly become stale."""
    if isinstance(message, Tick):
        return _tick(state, message) if state else (None, [])
    assert isinstance(message, MetricsSnapshot)  # noqa: S101 — the topic table admits nothing else
    state = state or LatestState(workload=message.workload)
    name, at_ms, cause = message.instance_id, message.scraped_at_ms, message.id
    before, last = state.instances.get(name), state.instances.get(name) or state.left.get(name)
    too_old = at_ms < state.tick_ms - LEAVE_AFTER_S * 1000
    if too_old or (last is not None and message.order <= last.order):
        return state, []
    instances = {other: seen for other, seen in state.instances.items() if other != name}
    left = {other: gone for other, gone in state.left.items() if other != name}
    if message.left:
        left[name] = _departed(before, message, state.tick_ms)
    else:
        instances[name] = _seen(before, message)
    state = state.model_copy(update={"instances": instances, "left": left})
    state = state.model_copy(update={"stale": _stale(state)})
    if message.left:
        return state, [_sli(state, None, at_ms, cause)] if before is not None else []
    return state, [_sli(state, name, at_ms, cause), _sli(state, None, at_ms, cause)]


def _tick(state: LatestState, tick: Tick) -> tuple[LatestState, list[Message]]:
    if tick.at_ms <= state.tick_ms:
        return state, []
    leave_ms = tick.at_ms - LEAVE_AFTER_S * 1000
    staying = {name: seen for name, seen in state.instances.items() if seen.at_ms >= leave_ms}
    given_up = {
        name: Departure(order=seen.order, at_ms=tick.at_ms)
        for name, seen in state.instances.items()
        if seen.at_ms < leave_ms
    }
    left = {name: gone for name, gone in state.left.items() if gone.at_ms >= leave_ms} | given_up
    before = state.stale
    state = state.model_copy(update={"tick_ms": tick.at_ms, "instances": staying, "left": left})
    stale = _stale(state)
    state = state.model_copy(update={"stale": stale})
    newly = [name for name in stale if name not in before]
    outputs: list[Message] = [_sli(state, name, tick.at_ms, "tick") for name in newly]
    if newly:
        outputs.append(_sli(state, None, tick.at_ms, "tick"))
    return state, outputs
