"""A kill is heard whatever a clock says, nothing is dropped in silence, and the log of what was told is kept."""

from __future__ import annotations

from agents.checkpoints import nothing
from agents.ledger import RedisLedger
from agents.telling import Outbox
from contracts.events import AuditEntry, ControlKind, Message, Mode
from tests.agents.ledger_help import action, control


async def test_a_kill_of_a_clock_that_is_behind_holds_and_a_later_resume_takes_it_back(ledger: RedisLedger) -> None:
    assert await ledger.switch(control(ControlKind.RESUME, 5000))
    assert await ledger.switch(control(ControlKind.KILL, 100))
    assert (await ledger.switches("chat")).killed
    assert not await ledger.switch(control(ControlKind.RESUME, 5001)), "of the same moment the stricter stands"
    assert await ledger.switch(control(ControlKind.RESUME, 5002))
    assert not (await ledger.switches("chat")).killed


async def test_what_an_older_one_does_not_change_is_said(ledger: RedisLedger) -> None:
    assert await ledger.switch(control(ControlKind.KILL, 100))
    assert not await ledger.switch(control(ControlKind.RESUME, 99))
    assert await ledger.switch(control(ControlKind.KILL, 100)), "the same stands"
    assert await ledger.switch(control(ControlKind.MODE, 100, mode=Mode.ADVISORY))
    assert not await ledger.switch(control(ControlKind.MODE, 99, mode=Mode.AUTONOMOUS))


async def test_a_kill_that_comes_again_from_the_topic_does_not_take_a_resume_back(ledger: RedisLedger) -> None:
    kill, resume = control(ControlKind.KILL, 100), control(ControlKind.RESUME, 200)
    assert await ledger.switch(kill, again=True)
    assert await ledger.switch(resume)
    assert not await ledger.switch(kill, again=True)
    assert await ledger.switch(resume, again=True)
    assert not (await ledger.switches("chat")).killed


async def test_lines_that_were_told_are_not_told_again_by_who_is_started_next(ledger: RedisLedger) -> None:
    told: list[Message] = []

    class Topic:
        async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
            told.append(message)

    for number in range(3):
        await ledger.record(action(number), at_ms=number)
        while await Outbox(ledger, Topic(), nothing).tell():
            pass
    assert [each.number for each in told if isinstance(each, AuditEntry)] == [1, 2, 3, 4]


async def test_how_far_the_audit_log_was_told_is_kept_and_never_goes_back(ledger: RedisLedger) -> None:
    for number in range(4):
        await ledger.record(action(number), at_ms=number)
    assert await ledger.audit_told() == 0
    for number in (3, 2, 4):
        await ledger.tell_audit(number)
    assert await ledger.audit_told() == 4
