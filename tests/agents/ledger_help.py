"""Good objects for the ledger's tests, and a program that writes to the ledger from a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agents.ledger import RedisLedger
from contracts.events import Action, ActionKind, ActionSpec, Control, ControlKind, Effect, EndState, Mode
from contracts.laws.bounds import Bound, Comparator
from contracts.ledger import ActionRecord, ClaimLimits, Phase

WALL_S = 1_800_000_000.0
LIMITS = ClaimLimits()


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = WALL_S

    def __call__(self) -> float:
        return self.now_s


def action(number: int = 1, **changes: Any) -> Action:
    """An action on a target of its own, approved by its mode."""
    bound = Bound(sli="load_per_replica", size_s=10, comparator=Comparator.LT, value=8)
    spec = ActionSpec(kind=ActionKind.SCALE_UP, replicas=2, effect=Effect(expect=bound, by_s=60))
    values = {
        "workload": "chat",
        "target": f"chat/replicas-{number}",
        "candidate_id": f"candidate-{number}",
        "decision_id": f"decision-{number}",
        "rule": "scale-up-on-burn",
        "priority": 10,
        "spec": spec,
        "mode": Mode.AUTONOMOUS,
        "approved_by": "mode:autonomous",
        "at_ms": 1000,
        "cause_ms": 900,
        "start_by_ms": 60_000,
    }
    return Action(**{**values, **changes})


def control(kind: ControlKind, at_wall_ms: int, **changes: Any) -> Control:
    """What ann sets."""
    values = {"workload": "chat", "actor": "ann", "reason": "a drill", "at_ms": 1000}
    return Control(kind=kind, at_wall_ms=at_wall_ms, **{**values, **changes})


def later(record: ActionRecord, phase: Phase, **changes: Any) -> ActionRecord:
    """The record's next version."""
    return record.model_copy(update={"version": record.version + 1, "phase": phase, **changes})


def ended(record: ActionRecord, state: EndState = EndState.VERIFIED) -> ActionRecord:
    """The record's last version; one that was not refused has begun."""
    began_ms = None if state is EndState.REFUSED else record.began_ms or 4000
    return later(record, Phase.ENDED, end_state=state, reasons=("expect_met",), began_ms=began_ms, ended_ms=5000)


async def begun(ledger: RedisLedger, number: int = 1, owner: str = "anna") -> tuple[ActionRecord, int]:
    """An action that `owner` has recorded, claimed and planned; with its fence."""
    record = await ledger.record(action(number), at_ms=1000)
    claim = await ledger.claim(record, owner, LIMITS, at_ms=1000)
    assert claim.refusal is None
    planned = later(record, Phase.PLANNED)
    assert await ledger.advance(planned, owner=owner, fence=claim.fence, actor=owner, at_ms=1100)
    return planned, claim.fence


def write_many(url: str, first: int, count: int, ready: Callable[[], object]) -> None:
    """Record `count` actions, as fast as the ledger lets us, once `ready` returns."""

    async def run() -> None:
        async with RedisLedger(url) as ledger:
            assert await ledger.open(expected=True, at_ms=1)
            ready()
            for number in range(first, first + count):
                await ledger.record(action(number), at_ms=number)

    asyncio.run(run())


def every_call(ledger: RedisLedger, record: ActionRecord) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each call of the port save `open`, on a record that anna holds."""
    return {
        "record": lambda: ledger.record(action(9), at_ms=1),
        "get": lambda: ledger.get(record.action.id),
        "under_way": ledger.under_way,
        "claim": lambda: ledger.claim(record, "anna", LIMITS, at_ms=1),
        "release": lambda: ledger.release(record.action.target, "anna"),
        "advance": lambda: ledger.advance(later(record, Phase.APPLYING), owner="anna", fence=1, actor="a", at_ms=1),
        "unpublished": ledger.unpublished,
        "published": lambda: ledger.published(record.action.id),
        "switch": lambda: ledger.switch(control(ControlKind.KILL, 1)),
        "switches": lambda: ledger.switches("chat"),
        "audit": ledger.audit,
    }
