"""Of the actions on one target, those that have orders to give are looked at before those that are only followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.carrying import Carrier, Sight
from agents.crew import Crew
from agents.evidence import Eyes
from contracts.ledger import ActionRecord, Mark, Phase
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, action, record


class Hands(Carrier):
    """Notes whose turn it is."""

    def __init__(self) -> None:
        self.carried: list[str] = []

    async def carry(self, record: ActionRecord, sees: Callable[[ActionRecord], Sight]) -> tuple[ActionRecord, bool]:
        self.carried.append(record.action.candidate_id)
        return record, True


class Clock:
    def now_ms(self) -> int:
        return NOW

    def wall_s(self, event_s: float) -> float:
        return event_s


async def test_new_orders_are_not_kept_waiting_by_those_that_are_only_followed() -> None:
    hands, done = Hands(), asyncio.Event()
    clock = Clock()

    def unexpected(record: ActionRecord, error: Exception) -> None:
        raise error

    crew = Crew(hands, Eyes(MAX_AGE_S, clock), clock, heard=lambda _: None, troubled=unexpected, done=done.set)
    followed = [
        record(UP, Phase.VERIFYING, Mark.DONE, action=action(UP, candidate_id=f"followed-{number}"))
        for number in range(3)
    ]
    assert all(each.followed for each in followed)
    new = [record(spec, action=action(spec, candidate_id=f"new {spec.kind}")) for spec in (UP, DOWN)]
    crew.look([*followed, *new])
    await done.wait()
    assert hands.carried == ["new scale_up", "new scale_down", "followed-0", "followed-1", "followed-2"]
