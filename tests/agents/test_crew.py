"""Of the actions on one target, those that have orders to give are looked at before those that are only followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.carrying import Carrier, Sight
from agents.crew import Crew
from agents.evidence import Eyes
from contracts.ledger import ActionRecord, Mark, Phase
from tests.agents.fakes import StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, UP, action, record


class Hands(Carrier):
    """Notes whose turn it is."""

    def __init__(self) -> None:
        self.carried: list[str] = []

    async def carry(self, record: ActionRecord, sees: Callable[[ActionRecord], Sight]) -> tuple[ActionRecord, bool]:
        self.carried.append(record.action.candidate_id)
        return record, True


def unexpected(record: ActionRecord, error: Exception) -> None:
    raise error


def under_way() -> list[ActionRecord]:
    """Three actions that are only followed, and two of the same target that have orders to give."""
    followed = [
        record(UP, Phase.VERIFYING, Mark.DONE, action=action(UP, candidate_id=f"followed-{number}"))
        for number in range(3)
    ]
    assert all(each.followed for each in followed)
    return [*followed, *(record(spec, action=action(spec, candidate_id=f"new {spec.kind}")) for spec in (UP, DOWN))]


IN_TURN = ["new scale_up", "new scale_down", "followed-0", "followed-1", "followed-2"]


async def test_new_orders_are_not_kept_waiting_by_those_that_are_only_followed() -> None:
    hands, clock, done = Hands(), StillClock(), asyncio.Event()
    crew = Crew(hands, Eyes(MAX_AGE_S, clock), clock, heard=lambda _: None, troubled=unexpected, done=done.set)
    crew.look(under_way())
    assert hands.carried == [], "it returns at once"
    await done.wait()
    assert hands.carried == IN_TURN


async def test_a_replay_has_all_of_it_in_the_same_order_when_the_look_returns() -> None:
    hands, clock = Hands(), StillClock()
    crew = Crew(hands, Eyes(MAX_AGE_S, clock), clock, heard=lambda _: None, troubled=unexpected)
    await crew.look_through(under_way())
    assert hands.carried == IN_TURN
