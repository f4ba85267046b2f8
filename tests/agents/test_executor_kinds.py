"""Settings and shares leave room in the fleet's limits for capacity that is needed meanwhile."""

from __future__ import annotations

import pytest

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.ledger_memory import MemoryLedger
from contracts.events import ActionSpec
from contracts.ledger import ClaimLimits, Phase
from tests.agents.fakes import FakeController
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, ROUTE, TUNE, UP, action, evidence
from tests.agents.test_executor_late import unexpected
from tests.agents.test_saga_laws import Clock


async def begun(specs: list[ActionSpec], limits: ClaimLimits) -> list[bool]:
    """Whether each of these, on a workload of its own, begins while those before it are under way."""
    ledger = MemoryLedger(lambda: NOW / 1000)
    await ledger.open(expected=False, at_ms=NOW)
    carrier = Carrier(
        ledger,
        lambda asked: FakeController(),
        Clock(),
        owner="executor",
        limits=limits,
        max_age_s=MAX_AGE_S,
        checkpoint=nothing,
        troubled=unexpected,
    )
    found = []
    for number, spec in enumerate(specs):
        names = {"workload": f"chat-{number}", "target": f"chat-{number}/{spec.kind.part}"}
        record = await ledger.record(action(spec, candidate_id=f"candidate-{number}", **names), at_ms=NOW)
        record, _ = await carrier.carry(record, lambda _: Sight(NOW, evidence(NOW)))
        found.append(record.phase is not Phase.RECORDED)
    return found


@pytest.mark.parametrize(
    "limits", [ClaimLimits(in_flight=4), ClaimLimits(in_flight=100, per_hour=4)], ids=["at once", "an hour"]
)
async def test_settings_and_shares_take_half_of_the_limits_at_most(limits: ClaimLimits) -> None:
    assert await begun([TUNE, ROUTE, TUNE, ROUTE, DOWN, DOWN, DOWN], limits) == [
        *(True, True, False, False),
        *(True, True, False),
    ]


async def test_they_wait_where_half_is_taken_and_capacity_does_not() -> None:
    assert await begun([DOWN, DOWN, TUNE, UP], ClaimLimits(in_flight=4)) == [True, True, False, True]
