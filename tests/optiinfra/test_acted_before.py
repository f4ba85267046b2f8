"""Whether a ledger ought to be there: a broker that holds any trace of an earlier action says so."""

from __future__ import annotations

import asyncio

import pytest

from contracts.events import AuditEntry, EndState, Message, Outcome
from optiinfra.wiring import open_publisher
from optiinfra.wiring.acting import _acted_before
from tests.agents.saga_help import action
from tests.conftest import Broker

LINE = AuditEntry(number=1, workload="chat", subject="a1", what="recorded", actor="executor", at_ms=1, at_wall_ms=1)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], False),
        ([action()], False),
        ([action(), LINE], True),
        ([Outcome(action=action(), end_state=EndState.VERIFIED, at_ms=1)], True),
    ],
    ids=["nothing", "an action that nobody took", "a line of the ledger, and no commit", "an outcome, and no commit"],
)
async def test_a_ledger_is_expected_where_anything_is_told_of_one(
    own_broker: Broker, told: list[Message], expected: bool
) -> None:
    own_broker.make_topics([])
    publisher = await open_publisher(own_broker.bootstrap, "test")
    for message in told:
        await publisher.publish(message)
    await publisher.stop()
    assert await asyncio.to_thread(_acted_before, own_broker.bootstrap) is expected
