"""Two actions on two parts of one workload go on beside each other: the fence of one does not lock out the other."""

from __future__ import annotations

import pytest

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.ledger_memory import MemoryLedger
from connectors.twin.actuation import Actuation
from connectors.twin.fleet import Fleet, default_workloads
from contracts.events import ActionSpec, EndState
from contracts.ledger import ActionRecord, ClaimLimits
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, ROUTE, TUNE, UP, action, evidence
from tests.agents.test_executor_late import unexpected
from tests.optiinfra.life import TwinHands

LOOK_S = 5
AT_LEAST_TWO = ROUTE.effect.expect.model_copy(update={"value": 2.0})
ANEW = TUNE.model_copy(update={"settings": {"max_num_seqs": 32.0}})
HALVES = ROUTE.model_copy(
    update={
        "replicas": 2,
        "by_replica": {"chat-0": 0.5, "chat-1": 0.5},
        "effect": ROUTE.effect.model_copy(update={"expect": AT_LEAST_TWO}),
    }
)


class Pair:
    """Two actions on one twin, the second begun while the first is under way; carried in turn."""

    def __init__(self) -> None:
        self.fleet = Fleet((default_workloads()[0],), seed=1, start_ms=NOW)
        self.twin = Actuation(self.fleet)
        self.ledger = MemoryLedger(lambda: self.fleet.now_ms / 1000)
        hands = TwinHands(self.twin)
        limits = ClaimLimits(lease_s=60.0)
        self.carrier = Carrier(
            self.ledger,
            lambda asked: hands,
            self,
            owner="executor",
            limits=limits,
            max_age_s=MAX_AGE_S,
            checkpoint=nothing,
            troubled=unexpected,
        )

    def now_ms(self) -> int:
        return int(self.fleet.now_ms)

    def wall_s(self, event_s: float) -> float:
        return event_s

    def wait(self, seconds: float) -> None:
        self.fleet.advance(self.fleet.now_ms + seconds * 1000)
        self.twin.progress()

    async def record(self, spec: ActionSpec) -> ActionRecord:
        now_ms = self.now_ms()
        asked = action(spec, at_ms=now_ms, cause_ms=now_ms, start_by_ms=now_ms + 60_000)
        return await self.ledger.record(asked, at_ms=now_ms)

    def see(self, _: ActionRecord) -> Sight:
        serving = len(self.twin.observe("chat").serving)
        return Sight(self.now_ms(), evidence(self.now_ms(), replicas=serving))

    async def ends(self, first: ActionSpec, second: ActionSpec) -> list[EndState | None]:
        """How both end."""
        await self.ledger.open(expected=False, at_ms=NOW)
        self.wait(60)
        records = [(await self.carrier.carry(await self.record(first), self.see))[0]]
        self.wait(LOOK_S)
        records.append(await self.record(second))
        for _ in range(240):
            # The newer one first: its order, under the higher fence, comes between those of the older.
            records = [(await self.carrier.carry(each, self.see))[0] for each in reversed(records)][::-1]
            self.wait(LOOK_S)
        return [each.end_state for each in records]


@pytest.mark.parametrize(
    ("first", "second"), [(DOWN, HALVES), (ANEW, UP)], ids=["shares while one drains", "one more while one restarts"]
)
async def test_an_action_goes_on_while_another_part_of_its_workload_is_changed(
    first: ActionSpec, second: ActionSpec
) -> None:
    assert await Pair().ends(first, second) == [EndState.VERIFIED, EndState.VERIFIED]
