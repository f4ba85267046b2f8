"""From a finding to a fleet that is set anew: rule, arbiter and executor on a twin over HTTP, to the end and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.core.outcomes import outcome_of
from agents.core.review import judge_all
from agents.ledger_memory import MemoryLedger
from connectors.twin.controller import TwinController
from contracts.events import Action, CandidateSet, EndState, Finding, Outcome, Review, Sli
from contracts.ledger import ActionRecord, ClaimLimits, Mark, Phase
from contracts.ports import Controller
from tests.agents.arbiter_desk import Desk
from tests.agents.saga_help import sli
from tests.connectors.twin.running import Running, serving, until
from tests.rules.builders import START_MS, WORKLOAD, Workload, pack
from tests.rules.builders import sli as told_sli
from tests.rules.test_actions import CONDITIONS, EFFECT, ROUTE, TUNE, router, tuner

CALM = {"sli": "ttft_burn_rate", "window": "10s", "at_most": 1}
TRIED = EFFECT | {"guards": [CALM], "settle": "10s", "by": "600s"}
BOTH = {"chat-0": 1.0, "chat-1": 1.0}


def decided(body: dict[str, Any], finding: Finding) -> Action:
    """The action that a rule, the reviewer's arithmetic and the arbiter make of a finding on a fleet of three."""
    workload = Workload([pack({"it": body}, CONDITIONS)])
    told = workload.tell(told_sli(0, requests_waiting=0, replicas_up=3), finding)
    (found,) = (each for each in told if isinstance(each, CandidateSet))
    desk = Desk()
    desk.send(Review(candidates=found, reviewer="deterministic", judgements=judge_all(found)))
    assert desk.actions, desk.decisions
    return desk.actions[0]


def finding(kind: str, by_replica: dict[str, float], **values: float) -> Finding:
    return Finding(
        workload=WORKLOAD, kind=kind, at_ms=START_MS, cause_ms=START_MS, values=values, by_replica=by_replica
    )


def tuned(by_replica: dict[str, float], seqs: float = 16) -> Action:
    settings = TUNE | {"settings": {"max_num_seqs": {"finding": "seqs_wanted", "least": 8, "most": 256}}}
    found = finding("tuning", by_replica, trial_stage=1, seqs_wanted=seqs)
    return decided(tuner(action=settings, effect=TRIED), found)


def routed(by_replica: dict[str, float]) -> Action:
    return decided(router(action=ROUTE, effect=TRIED), finding("balance", by_replica, imbalance_ratio=0.5))


class Clock:
    at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s / 20


@dataclass
class Life:
    """An executor's hands on a twin: replicas are counted as they are, and `burn` is what users feel."""

    twin: Running
    controller: Controller
    burn: float = 0.5
    burns_after: int | None = None
    away: set[int] = field(default_factory=set)
    clock: Clock = field(default_factory=Clock)

    async def look(self) -> dict[int, Sli]:
        seen = await self.controller.observe(WORKLOAD)
        self.clock.at_ms = max(self.clock.at_ms, seen.at_ms)
        self.away.add(len(seen.starting) + len(seen.draining))
        up = float(len(seen.serving) + len(seen.draining))
        return {
            0: sli(seen.at_ms, replicas_up=up),
            10: sli(seen.at_ms // 10_000 * 10_000, 10, ttft_burn_rate=self.burn),
        }

    async def carried(self, action: Action) -> Outcome:
        """The action's end. After `burns_after` steps are done, users suffer."""
        self.away.clear()
        self.evidence = await self.look()
        start_ms = self.clock.at_ms
        times: dict[str, Any] = {"at_ms": start_ms, "cause_ms": start_ms, "start_by_ms": start_ms + 60_000}
        times["candidate_id"] = f"{action.candidate_id}-{start_ms}"
        ledger = MemoryLedger(lambda: self.clock.at_ms / 1000)
        await ledger.open(expected=False, at_ms=start_ms)
        carrier = Carrier(
            ledger,
            lambda asked: self.controller,
            self.clock,
            owner="test",
            limits=ClaimLimits(lease_s=600),
            max_age_s=30.0,
            checkpoint=nothing,
            troubled=_troubled,
        )
        record = await ledger.record(action.model_copy(update=times), at_ms=start_ms)
        while record.phase is not Phase.ENDED:
            self.evidence = await self.look()
            record, _ = await carrier.carry(record, lambda _: Sight(self.clock.at_ms, self.evidence))
            if self.burns_after is not None and record.marks.count(Mark.DONE) >= self.burns_after:
                self.burn = 5.0
            await asyncio.sleep(0.02)
        return outcome_of(record)

    async def next_seqs(self) -> float:
        """What a replica is launched with from now on."""
        flags = (await self.controller.observe(WORKLOAD)).launched_with
        assert flags is not None
        return flags["max_num_seqs"]

    async def seqs(self) -> dict[str, float]:
        seen = await self.controller.observe(WORKLOAD)
        return {name: seen.settings[name]["max_num_seqs"] for name in seen.serving}


def _troubled(record: ActionRecord, error: Exception) -> None:
    raise error


@pytest_asyncio.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with serving(tmp_path) as twin, TwinController(twin.info.control_url) as controller:
        assert (await twin.control("POST", "/fleet/chat/replicas", {}))[0] == 201
        made = Life(twin, controller)

        async def all_serve() -> bool:
            return len((await controller.observe(WORKLOAD)).serving) == 3

        await until(all_serve)
        yield made


async def test_a_canary_and_then_the_rest_get_their_settings_one_at_a_time_and_are_verified(life: Life) -> None:
    canary = await life.carried(tuned({"chat-0": 1.0}))
    assert (canary.end_state, canary.reasons) == (EndState.VERIFIED, ("expect_met",)), canary.detail
    assert await life.seqs() == {"chat-0": 16.0, "chat-1": 64.0, "chat-2": 64.0}
    rest = await life.carried(tuned({"chat-0": 1.0, "chat-1": 1.0, "chat-2": 1.0}))
    assert rest.end_state is EndState.VERIFIED, rest.detail
    assert rest.steps_applied == 3, "the canary has them already; new replicas are to start with them"
    assert await life.seqs() == {"chat-0": 16.0, "chat-1": 16.0, "chat-2": 16.0}
    assert life.away == {0, 1}, "never two at once"
    assert await life.next_seqs() == 16.0
    assert set((await life.twin.effects()).values()) == {1}


@pytest.mark.parametrize("after", [1, 2], ids=["after the first", "in the trial"])
async def test_guards_that_break_have_every_replica_set_back(life: Life, after: int) -> None:
    life.burns_after = after
    outcome = await life.carried(tuned(BOTH))
    assert (outcome.end_state, outcome.reasons) == (EndState.UNDONE, ("guard_broken",)), outcome.detail
    assert (outcome.steps_applied, outcome.steps_undone) == (after, after)
    assert await life.seqs() == {"chat-0": 64.0, "chat-1": 64.0, "chat-2": 64.0}
    assert life.away == {0, 1}


async def test_what_is_undone_for_all_is_undone_for_new_replicas_too(life: Life) -> None:
    life.burns_after = 4
    outcome = await life.carried(tuned(BOTH | {"chat-2": 1.0}))
    assert (outcome.end_state, outcome.steps_applied, outcome.steps_undone) == (EndState.UNDONE, 4, 4), outcome.detail
    assert await life.seqs() == {"chat-0": 64.0, "chat-1": 64.0, "chat-2": 64.0}
    assert await life.next_seqs() == 64.0


async def test_nothing_is_restarted_while_users_suffer(life: Life) -> None:
    life.burn = 5.0
    outcome = await life.carried(tuned(BOTH))
    assert (outcome.end_state, outcome.reasons) == (EndState.REFUSED, ("guard_broken",))
    assert await life.twin.effects() == {}


async def test_settings_that_the_engine_cannot_have_are_refused_before_anything_is_done(life: Life) -> None:
    action = tuned(BOTH)
    spec = action.spec.model_copy(update={"settings": {"max_num_seqs": 4096.0}})
    outcome = await life.carried(action.model_copy(update={"spec": spec}))
    assert (outcome.end_state, outcome.reasons) == (EndState.REFUSED, ("dry_run_failed",))
    assert "leaves no room for prompts" in outcome.detail


async def test_shares_are_set_verified_and_others_taken_back(life: Life) -> None:
    wanted = {"chat-0": 0.5, "chat-1": 0.25, "chat-2": 0.25}
    outcome = await life.carried(routed(wanted))
    assert outcome.end_state is EndState.VERIFIED, outcome.detail
    assert (await life.controller.observe(WORKLOAD)).shares == wanted
    life.burns_after = 1
    worse = await life.carried(routed({"chat-0": 1.0, "chat-1": 1.0, "chat-2": 2.0}))
    assert (worse.end_state, worse.reasons) == (EndState.UNDONE, ("guard_broken",)), worse.detail
    assert (await life.controller.observe(WORKLOAD)).shares == wanted
