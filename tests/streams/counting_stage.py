"""A small real stage for the driver's tests: it counts the scrapes of an instance and says so once per scrape.

It obeys both laws of a stage, so what a worker that was killed has put out can be compared with the pure fold.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from contracts.events import InstanceWindow, Message, MetricsSnapshot, Tick
from contracts.stage import Scope, Stage, Step, fold
from contracts.topics import METRICS, TICKS, WINDOWS, Topic

OVERSIZED = 600_000


class Count(BaseModel):
    """How many scrapes, the order of the newest, and what a scrape asked to be remembered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance: str = ""
    seen: int = 0
    newest: tuple[int, int] = (-1, -1)
    newest_ms: int = 0
    ticked_ms: int = 0
    ballast: str = ""


def snapshot(workload: str, instance: str, seq: int, at_ms: int | None = None, error: str | None = None) -> Message:
    """One scrape. `error` is an order: `raise`, `forget` all, or grow `fat`: twice makes a state too large to write."""
    at = at_ms if at_ms is not None else 1_000 * seq
    return MetricsSnapshot(
        workload=workload,
        instance_id=instance,
        scraper_epoch=1,
        seq=seq,
        scheduled_at_ms=at,
        scraped_at_ms=at,
        interval_s=1.0,
        up=True,
        error=error,
    )


def _window(workload: str, instance: str, count: int, at_ms: int) -> InstanceWindow:
    return InstanceWindow(
        workload=workload,
        instance_id=instance,
        size_s=1,
        start_ms=at_ms,
        revision=count,
        covered_ms=0,
        newest_ms=at_ms,
        cause_ms=at_ms,
        scrapes=count,
        scrapes_failed=0,
    )


def advance(state: Count | None, message: Message) -> tuple[Count | None, list[Message]]:
    """Count a new scrape, and forget nothing that is repeated; note a tick."""
    count = state or Count()
    if isinstance(message, Tick):
        if message.at_ms <= count.ticked_ms:
            return state, []
        return count.model_copy(update={"ticked_ms": message.at_ms}), []
    assert isinstance(message, MetricsSnapshot)
    if message.order <= count.newest:
        return state, []
    if message.error == "raise":
        raise ZeroDivisionError("the stage was told to fail")
    if message.error == "forget":
        return None, []
    grown = "x" * OVERSIZED if message.error == "fat" else ""
    after = Count(
        instance=message.instance_id,
        seen=count.seen + 1,
        newest=message.order,
        newest_ms=message.at,
        ticked_ms=count.ticked_ms,
        ballast=count.ballast + grown,
    )
    return after, [_window(message.workload, message.instance_id, after.seen, message.at)]


def ticking(state: Count | None, message: Message) -> tuple[Count | None, list[Message]]:
    """As `advance`, and a tick says how many scrapes had come before it."""
    after, outputs = advance(state, message)
    if isinstance(message, Tick) and after is not state:
        assert isinstance(after, Count)
        outputs = [_window("ticked", after.instance, after.seen, message.at_ms)]
    return after, outputs


def counting_stage(name: str, step: Step | None = None) -> Stage:
    """The stage under a name of one's own: group and changelog are shared with no other test."""
    inputs: tuple[Topic, ...] = (METRICS, TICKS)
    return Stage(name, inputs, (WINDOWS,), Scope.INSTANCE, Count, step or fold(advance, Count), "counts scrapes")


def expected(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """The pure fold: outputs by instance, in order."""
    stage = counting_stage("pure")
    states: dict[str | None, BaseModel | None] = {}
    found: dict[str, list[Message]] = {}
    for message in messages:
        key = stage.state_key(message)
        states[key], outputs = stage.step(states.get(key), [message])
        for output in outputs:
            assert isinstance(output, InstanceWindow)
            found.setdefault(output.instance_id, []).append(output)
    return found
