"""The executor that comes late, is held up, or finds one thing broken: nothing is done on old data, nobody waits for
another's trouble, and people hear of it."""

from __future__ import annotations

import pytest

from agents.evidence import Eyes
from contracts.errors import OptiInfraError, Unavailable
from contracts.events import Action, Control, ControlKind, EndState, PlanStep, StepKind, Tick
from contracts.ledger import ActionRecord, Mark, Phase
from contracts.ports import Claim, StepState
from tests.agents.fakes import Fate, Job, MemoryLedger, StillClock
from tests.agents.saga_help import DOWN, MAX_AGE_S, NOW, UP, WORKLOAD, action, record, sli
from tests.agents.test_executor import Running

HOUR_MS = 3_600_000


def tick(at_ms: int) -> Tick:
    return Tick(at_ms=at_ms, partition=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StillClock:
    made = StillClock()
    monkeypatch.setattr("tests.agents.test_executor.StillClock", lambda: made)
    return made


def unexpected(record: ActionRecord, error: Exception) -> None:
    raise error


def holding(*records: ActionRecord) -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.records = {each.action.id: each for each in records}
    return ledger


async def measured(running: Running, at_ms: int) -> None:
    """Ticks and SLIs of one moment."""
    await running.executor.handle(tick(at_ms))
    await running.executor.handle(sli(at_ms, replicas_up=3, load_per_replica=2))


async def test_no_replica_is_removed_on_data_that_is_an_hour_old(clock: StillClock) -> None:
    patient = DOWN.model_copy(update={"effect": DOWN.effect.model_copy(update={"by_s": 86_400.0})})
    ledger = holding(record(patient, Phase.TRIAL, Mark.DONE))
    clock.at_ms = NOW + HOUR_MS
    async with Running(ledger) as running:
        for second in range(1, 60):
            await measured(running, NOW + second * 1000)
            await running.look()
        assert running.controller.calls == {}
        for second in range(60):  # it has caught up: the guards hold from now on
            clock.at_ms = NOW + HOUR_MS + second * 1000
            await measured(running, clock.at_ms)
            await running.look()
            assert bool(running.controller.calls) == (second >= 30), second


async def test_behind_the_clock_a_kill_still_stops_a_trial(clock: StillClock) -> None:
    ledger = holding(record(DOWN, Phase.TRIAL, Mark.DONE))
    clock.at_ms = NOW + HOUR_MS
    async with Running(ledger) as running:
        running.controller.jobs[record(DOWN, Phase.TRIAL, Mark.DONE).token(0)] = Job(
            PlanStep(kind=StepKind.DRAIN, subject="chat-0"), StepState.DONE
        )
        await measured(running, NOW)
        ledger.killed = True
        await running.look()
        (stands,) = ledger.records.values()
        assert (stands.phase, stands.reasons) == (Phase.UNDOING, ("kill_switch",))


@pytest.mark.parametrize("late", [record(UP, Phase.VERIFYING, Mark.DONE), record(DOWN, Phase.TRIAL, Mark.DONE)])
async def test_ticks_that_are_read_before_their_slis_end_nothing(clock: StillClock, late: ActionRecord) -> None:
    ledger = holding(late)
    clock.at_ms = NOW + HOUR_MS
    async with Running(ledger) as running:
        for at_ms in range(NOW, NOW + HOUR_MS + 1, 20_000):
            await running.executor.handle(tick(at_ms))
        await running.look()
        (stands,) = ledger.records.values()
        assert (stands.phase, stands.end_state) == (late.phase, None)


def test_a_gap_in_the_ticks_that_nobody_looked_at_shuts_the_eyes_until_slis_have_come() -> None:
    clock = StillClock()
    eyes, trial = Eyes(MAX_AGE_S, clock), record(DOWN, Phase.TRIAL, Mark.DONE)
    eyes.hear(NOW)
    eyes.see(sli(NOW, replicas_up=3))
    assert eyes.now_ms(trial) == NOW
    clock.at_ms = NOW + HOUR_MS
    eyes.hear(clock.at_ms)
    assert (eyes.now_ms(trial), eyes.evidence(trial, first=False)) == (NOW, {})
    eyes.see(sli(clock.at_ms, replicas_up=3))
    assert eyes.now_ms(trial) == clock.at_ms
    assert set(eyes.evidence(trial, first=False)) == {0}


async def test_people_are_told_once_that_the_executor_is_behind(clock: StillClock) -> None:
    ledger = holding(record(DOWN, Phase.TRIAL, Mark.DONE))
    clock.at_ms = NOW + HOUR_MS
    async with Running(ledger) as running:
        await measured(running, NOW)
        await running.look()
        assert running.broker.alerts() == []
        running.wall_s = 20.0
        await running.look()
        await running.look()
        assert running.broker.alerts() == ["executor_behind"]


async def test_an_action_of_an_hour_ago_is_not_begun_before_the_first_tick(clock: StillClock) -> None:
    clock.at_ms = NOW + HOUR_MS
    async with Running(MemoryLedger()) as running:
        await running.executor.handle(action())
        await running.look()
        (end,) = running.ledger.records.values()
        assert end.reasons == ("stale_evidence",)
        assert running.controller.calls == {}


async def test_one_that_comes_too_late_to_begin_stops_nothing(clock: StillClock) -> None:
    live = record(DOWN, Phase.TRIAL, Mark.DONE, action=action(DOWN, start_by_ms=NOW + 2 * HOUR_MS))
    stale = record(action=action(candidate_id="stale", preempts=live.action.id))
    clock.at_ms = NOW + HOUR_MS
    async with Running(holding(live, stale)) as running:
        await running.look()
        assert running.ledger.records[live.action.id].phase is Phase.TRIAL
        assert running.ledger.records[stale.action.id].phase is Phase.ENDED


class Junk(MemoryLedger):
    """One whose keys somebody else wrote to."""

    async def record(self, action: Action, *, at_ms: int) -> ActionRecord:
        raise OptiInfraError("a key holds what no ledger wrote", where="test", fix="Restore it.")


async def test_an_action_that_a_broken_ledger_does_not_take_is_asked_again_and_never_given_up() -> None:
    async with Running(Junk()) as running:
        with pytest.raises(Unavailable, match="no ledger wrote"):
            await running.executor.handle(action())


class BadRecord(MemoryLedger):
    """One record of which cannot be claimed."""

    async def claim(self, record: ActionRecord, *args: object, **kwargs: object) -> Claim:
        if record.action.workload == "bad":
            raise OptiInfraError("its field is no record", where="test", fix="Restore it.")
        return await super().claim(record, *args, **kwargs)  # type: ignore[arg-type]


async def test_trouble_with_one_record_is_told_once_and_stops_neither_others_nor_what_is_told() -> None:
    ended = record(UP, Phase.ENDED, action=action(candidate_id="ended"), end_state=EndState.REFUSED, ended_ms=NOW)
    ledger = BadRecord()
    ledger.records[ended.action.id] = ended
    async with Running(ledger) as running:
        await running.executor.handle(action(workload="bad", target="bad/replicas"))
        await running.executor.handle(action())
        await running.look()
        await running.look()
        assert ledger.records[action().id].phase is Phase.APPLYING
        assert ledger.told == {ended.action.id}
        assert running.broker.alerts() == ["action_troubled"]


async def test_an_order_that_is_not_answered_is_given_again_and_written_once() -> None:
    async with Running(MemoryLedger()) as running:
        written: list[int] = []
        running.ledger.after = lambda: written.append(1)
        running.controller.fates = [Fate.NEVER_CAME] * 5
        await running.executor.handle(action())
        await running.look()
        assert sum(running.controller.calls.values()) == 6
        assert len(written) == 3, "planned, intended, applied"


async def test_a_clean_stop_lets_go_of_its_leases_and_two_lives_are_two_owners() -> None:
    ledger, owners = MemoryLedger(), set[str]()
    ledger.after = lambda: owners.update(owner for owner, _ in ledger.leases.values())
    for number in range(2):
        async with Running(ledger) as running:
            await running.executor.handle(action(candidate_id=str(number), target=f"{number}/r"))
            await running.look()
        assert ledger.leases == {}
    assert len(owners) == 2
    assert {owner.split(".")[0] for owner in owners} == {"executor-1"}


class Listening(MemoryLedger):
    heard: tuple[Control, bool] | None = None

    async def switch(self, control: Control, *, fleet: bool = False, again: bool = False) -> bool:
        self.heard = (control, again)
        return True


async def test_what_people_said_on_the_topic_alone_reaches_the_ledger() -> None:
    kill = Control(workload=WORKLOAD, kind=ControlKind.KILL, actor="ann", at_wall_ms=1, at_ms=NOW)
    ledger = Listening()
    with pytest.raises(Unavailable):
        await Running(ledger).executor.handle(kill)
    async with Running(ledger) as running:
        await running.executor.handle(kill)
        assert ledger.heard == (kill, True)
