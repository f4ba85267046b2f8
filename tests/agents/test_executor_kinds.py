"""Settings and shares leave room in the fleet's limits for capacity that is needed meanwhile."""

from __future__ import annotations

import pytest

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.ledger_memory import MemoryLedger
from contracts.errors import Unavailable
from contracts.events import Action, ActionKind, ActionSpec, Effect, Plan, PlanStep, StepKind
from contracts.laws.bounds import Bound, Comparator
from contracts.ledger import ClaimLimits, Phase
from contracts.ports import Observation
from tests.agents.fakes import FakeController, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, ROUTE, TUNE, UP, action, evidence
from tests.agents.test_executor_late import unexpected

HELD = Effect(expect=Bound(sli="kv_cache_usage_ratio", size_s=60, comparator=Comparator.LE, value=0.85), by_s=300)


class AtGateway(FakeController):
    """It takes orders for limits, and does not answer whether they arrived."""

    async def plan(self, action: Action, seen: Observation) -> Plan:
        step = PlanStep(
            kind=StepKind.LIMIT, settings=action.gateway_limits, before=dict.fromkeys(action.gateway_limits, 0)
        )
        return Plan(steps=(step,), replicas_before=0, manual_changes=seen.manual_changes)

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        raise Unavailable("no answer", where=workload, fix="It is asked again.")


async def begun(specs: list[ActionSpec], limits: ClaimLimits) -> list[bool]:
    """Whether each of these, on a workload of its own, begins while those before it are under way."""
    ledger = MemoryLedger(lambda: NOW / 1000)
    await ledger.open(expected=False, at_ms=NOW)
    carrier = Carrier(
        ledger,
        lambda asked: AtGateway() if asked.spec.kind.gateway_setting else FakeController(),
        StillClock(),
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


QUEUE, CONTEXT, BREAKER = (
    TUNE.model_copy(
        update={
            "kind": kind,
            "replicas": 1,
            "settings": {kind.gateway_setting: 120.0},
            "by_replica": {},
            "effect": HELD,
        }
    )
    for kind in (ActionKind.QUEUE, ActionKind.CONTEXT, ActionKind.BREAKER)
)


async def test_gateways_take_half_of_what_may_be_under_way_and_never_the_last_of_it() -> None:
    limits = ClaimLimits(in_flight=4)
    assert await begun([QUEUE, CONTEXT, QUEUE, UP, UP], limits) == [True, True, False, True, True]
    assert await begun([DOWN, DOWN, QUEUE, CONTEXT, UP], limits) == [True, True, True, False, True]
    assert await begun([CONTEXT, QUEUE], ClaimLimits(in_flight=1)) == [True, False]


async def test_a_breaker_begins_beside_other_limits_that_are_not_verified_yet() -> None:
    assert await begun([QUEUE, CONTEXT, BREAKER], ClaimLimits(in_flight=4)) == [True, True, True]
    assert await begun([QUEUE, BREAKER, UP], ClaimLimits(in_flight=2)) == [True, True, False]


async def test_they_wait_where_half_is_taken_and_capacity_does_not() -> None:
    assert await begun([DOWN, DOWN, TUNE, UP], ClaimLimits(in_flight=4)) == [True, True, False, True]
