"""What is broken around the executor stops one action at the most, runs into its deadline, and is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from agents.carrying import Carrier, Sight
from agents.checkpoints import nothing
from agents.core.moves import Call
from agents.core.saga import next_move
from contracts.errors import BadMessage, Reason, Unavailable
from contracts.events import Action, EndState, Message, Outcome
from contracts.ledger import ClaimLimits, Mark, Phase
from contracts.ports import Observation, StepState
from tests.agents.fakes import FakeController, MemoryLedger, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, action, evidence, record, reports, sli, view
from tests.agents.test_executor import Broken, LosableLedger, Running
from tests.agents.test_executor_late import holding, tick, unexpected


async def measured(running: Running, at_ms: int, load: float = 2) -> None:
    running.clock.at_ms = at_ms
    await running.executor.handle(sli(at_ms, replicas_up=3, load_per_replica=load))
    await running.executor.handle(sli(at_ms, 10, ttft_burn_rate=0.5))
    await running.executor.handle(tick(at_ms))
    await running.look()


async def test_a_hold_begins_anew_after_a_time_in_which_nobody_looked() -> None:
    settling = DOWN.model_copy(update={"effect": DOWN.effect.model_copy(update={"settle_s": 20, "by_s": 600})})
    async with Running(MemoryLedger()) as running:
        await measured(running, NOW)
        await running.executor.handle(action(settling))
        await measured(running, NOW + 1000)
        running.controller.finish()
        for seconds in range(2, 7):
            await measured(running, NOW + seconds * 1000)
        (held,) = running.ledger.records.values()
        assert (held.phase, held.held_since_ms is not None) == (Phase.TRIAL, True)
        running.ledger.away = True
        for seconds in range(7, 40):
            await measured(running, NOW + seconds * 1000, load=50)
        running.ledger.away = False
        await measured(running, NOW + 40_000)
        (after,) = running.ledger.records.values()
        assert after.phase is Phase.TRIAL
        assert after.held_since_ms is None or after.held_since_ms >= NOW + 40_000


class Spoilt(MemoryLedger):
    """Holds one record that nobody can read."""

    def unreadable(self) -> Mapping[str, str]:
        return {"bad": "key records holds what no ledger wrote: field bad is no record."}


async def test_a_record_that_cannot_be_read_stops_itself_only_and_is_told_once() -> None:
    async with Running(Spoilt()) as running:
        await running.executor.handle(action())
        await running.look()
        await running.look()
        assert [each.phase for each in running.ledger.records.values()] == [Phase.APPLYING]
        assert running.broker.alerts() == ["record_unreadable"]


async def test_a_loss_is_reconciled_though_people_resumed_before_the_broker_could_tell_what_was_lost() -> None:
    ledger, broker_away = LosableLedger(), True

    async with Running(ledger) as running:

        async def history() -> tuple[Sequence[Action], Sequence[Outcome]]:
            if broker_away:
                raise Unavailable("away", where="test", fix="Wait.")
            return [action()], []

        running.executor._history = history
        await running.executor.handle(action())
        await running.look()
        ledger.lost = True
        await running.look()
        ledger.killed = False
        await running.look()
        assert ledger.records == {}
        broker_away = False
        await running.look()
        assert [r.end_state for r in ledger.records.values()] == [EndState.HELD_UNVERIFIED]
        assert "ledger_lost" in running.broker.alerts()


async def test_a_target_whose_task_was_stopped_before_it_began_is_worked_on_again() -> None:
    async with Running(MemoryLedger()) as running:
        begun = await running.ledger.record(action(), at_ms=NOW)
        running.executor._crew.look([begun])
        await running.executor._crew.drop()
        await running.look()
        assert running.ledger.records[begun.action.id].phase is Phase.APPLYING


class Hanging(FakeController):
    async def observe(self, workload: str) -> Observation:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_controller_that_never_answers_is_away_so_that_the_deadline_is_met() -> None:
    ledger = MemoryLedger()
    late = record(UP, Phase.VERIFYING, Mark.DONE)
    ledger.records[late.action.id] = late
    carrier = Carrier(
        ledger,
        lambda asked: Hanging(),
        StillClock(),
        owner="executor-1",
        limits=ClaimLimits(),
        max_age_s=MAX_AGE_S,
        checkpoint=nothing,
        troubled=unexpected,
        controller_s=0.01,
    )
    end, _ = await carrier.carry(late, lambda each: Sight(NOW + 10_000_000))
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("no_evidence",))


async def test_a_fault_in_a_controller_is_told_once_and_the_action_is_refused_when_it_is_late() -> None:
    async with Running(MemoryLedger(), lambda asked: Broken()) as running:
        await measured(running, NOW)
        await running.executor.handle(action())
        await running.look()
        await running.look()
        assert running.broker.alerts() == ["action_troubled"]
        await measured(running, action().start_by_ms + 1)
        (end,) = running.ledger.records.values()
        assert (end.end_state, end.reasons) == (EndState.REFUSED, ("stale_evidence", "controller_away"))


async def test_people_are_told_that_no_tick_has_come_since_it_was_started() -> None:
    async with Running(holding(record(DOWN, Phase.TRIAL, Mark.DONE))) as running:
        running.clock.at_ms = NOW + 3_600_000
        await running.look()
        running.wall_s = 20.0
        await running.look()
        assert running.broker.alerts() == ["executor_behind"]


async def test_what_a_topic_never_takes_is_told_and_holds_up_nothing_behind_it() -> None:
    async with Running(MemoryLedger()) as running:
        taken = running.broker.publish

        async def publish(message: Message, *, trace_id: str | None = None) -> None:
            if isinstance(message, Outcome) and message.action.candidate_id == "poison":
                raise BadMessage(Reason.TOO_LARGE, "too large")
            await taken(message)

        running.broker.publish = publish  # type: ignore[method-assign]
        for name in ("poison", "sound"):
            ended = record(UP, Phase.ENDED, end_state=EndState.VERIFIED, ended_ms=NOW, action=action(candidate_id=name))
            running.ledger.records[ended.action.id] = ended
        await running.look()
        await running.look()
        told = [each.action.candidate_id for each in running.broker.messages if isinstance(each, Outcome)]
        assert told == ["sound"]
        assert running.broker.alerts() == ["untellable"]


@pytest.mark.parametrize("load", [50.0, None])
def test_a_controller_that_forgot_what_it_added_does_not_have_it_removed_against_the_guards(load: float | None) -> None:
    added = record(UP, Phase.UNDOING, Mark.DONE)
    seen = {} if load is None else evidence(NOW + 1000, load=load)
    move = next_move(added, view(evidence=seen, reports=reports(added, StepState.UNKNOWN)))
    assert not isinstance(move, Call)
