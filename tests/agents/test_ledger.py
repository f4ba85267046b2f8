"""The ledger on a real Redis, the system's and the bundled one: records, leases, switches, audit."""

from __future__ import annotations

import pytest

from agents.audit import verify
from agents.ledger import RedisLedger
from contracts.errors import LedgerLost
from contracts.events import ControlKind, EndState, Mode
from contracts.ledger import Mark, Phase, Switches
from tests.agents.ledger_help import LIMITS, Wall, action, begun, control, ended, later
from tests.agents.redis_process import RedisProcess

pytestmark = pytest.mark.parametrize("redis_server", ["system", "bundled"], indirect=True)

NOW_MS = 1_800_000_000_000


async def test_a_new_ledger_begins_an_epoch_with_its_audit_line(ledger: RedisLedger) -> None:
    (line,) = await ledger.audit()
    assert (line.number, line.what, line.subject, line.workload, line.previous) == (1, "epoch_begun", "ledger", "-", "")
    assert line.at_wall_ms == NOW_MS
    assert await ledger.switches("chat") == Switches()


async def test_a_ledger_that_is_there_is_adopted_whether_expected_or_not(ledger: RedisLedger, redis_url: str) -> None:
    kept = await ledger.record(action(), at_ms=1000)
    for expected in (True, False):
        async with RedisLedger(redis_url) as other:
            assert await other.open(expected=expected, at_ms=2)
            assert await other.get(kept.action.id) == kept
            assert not (await other.switches("chat")).killed
    assert [line.what for line in await ledger.audit()] == ["epoch_begun", "recorded"]


async def test_a_ledger_that_ought_to_be_there_and_is_not_begins_stopped(
    redis_url: str, redis_server: RedisProcess
) -> None:
    async with RedisLedger(redis_url) as ledger:
        assert not await ledger.open(expected=True, at_ms=1)
        assert await ledger.switches("chat") == Switches(killed=True, killed_why="ledger_lost")
        (line,) = await ledger.audit()
        assert line.what == "ledger_lost"
    async with RedisLedger(redis_url) as ledger:
        assert not await ledger.open(expected=True, at_ms=2), "nobody has reconciled it"
        await ledger.reconciled()
        assert await ledger.open(expected=True, at_ms=3), "it is there now, and still stopped"
        assert (await ledger.switches("chat")).killed


async def test_nothing_is_done_on_a_ledger_that_was_not_opened(ledger: RedisLedger, redis_url: str) -> None:
    record = await ledger.record(action(), at_ms=1000)
    async with RedisLedger(redis_url) as visitor:
        for call in (
            visitor.record(action(2), at_ms=1),
            visitor.claim(record, "anna", LIMITS, at_ms=1),
            visitor.advance(later(record, Phase.PLANNED), owner="anna", fence=1, actor="anna", at_ms=1),
            visitor.release("chat/replicas-1", "anna"),
            visitor.published(record.action.id),
        ):
            with pytest.raises(LedgerLost, match="has not been opened"):
                await call


async def test_who_passes_by_can_look_and_throw_a_switch_without_opening(ledger: RedisLedger, redis_url: str) -> None:
    record = await ledger.record(action(), at_ms=1000)
    async with RedisLedger(redis_url) as visitor:
        await visitor.switch(control(ControlKind.KILL, NOW_MS))
        assert await visitor.get(record.action.id) == record
        assert await visitor.under_way() == [record]
        assert await visitor.unpublished() == []
        assert len(await visitor.audit()) == 3
        assert (await visitor.switches("chat")).killed
    assert (await ledger.switches("chat")).killed


async def test_who_passes_by_an_empty_redis_is_told_that_there_is_no_ledger(
    redis_url: str, redis_server: RedisProcess
) -> None:
    async with RedisLedger(redis_url) as visitor:
        with pytest.raises(LedgerLost):
            await visitor.switch(control(ControlKind.KILL, NOW_MS))
    with redis_server.client() as client:
        assert client.dbsize() == 0


async def test_the_first_record_of_an_action_stands(ledger: RedisLedger) -> None:
    first = await ledger.record(action(), at_ms=1000)
    again = await ledger.record(action(approved_by="bob"), at_ms=2000)
    assert again == first
    assert first.phase is Phase.RECORDED
    assert (first.recorded_ms, first.version) == (1000, 0)
    assert [line.what for line in await ledger.audit()] == ["epoch_begun", "recorded"]


async def test_an_action_that_nobody_recorded_is_not_there(ledger: RedisLedger) -> None:
    assert await ledger.get("nobody") is None


async def test_what_is_under_way_is_told_oldest_first_until_it_ends(ledger: RedisLedger) -> None:
    records = [await ledger.record(action(number), at_ms=1000) for number in (3, 1, 2, 11)]
    assert await ledger.under_way() == records
    assert await ledger.advance(ended(records[1]), owner="anna", fence=0, actor="anna", at_ms=2000)
    assert await ledger.under_way() == [records[0], records[2], records[3]]


async def test_a_change_is_written_with_its_audit_line(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    marked = later(planned, Phase.APPLYING, marks=(Mark.DONE, Mark.INTENDED, Mark.UNTOUCHED), detail="5 s in")
    assert await ledger.advance(marked, owner="anna", fence=fence, actor="executor", at_ms=1200)
    assert await ledger.get(planned.action.id) == marked
    line = (await ledger.audit())[-1]
    assert (line.workload, line.subject, line.what, line.actor) == ("chat", planned.action.id, "applying", "executor")
    assert line.detail == "5 s in; step 1 done, step 2 intended"
    assert line.at_ms == 1200


async def test_a_version_that_is_not_the_next_is_refused(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    for version in (0, 1, 3, 4):
        other = planned.model_copy(update={"version": version, "detail": "another"})
        assert not await ledger.advance(other, owner="anna", fence=fence, actor="anna", at_ms=1200)
    assert await ledger.get(planned.action.id) == planned
    assert len(await ledger.audit()) == 3


async def test_a_writer_without_the_lease_is_refused(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    following = later(planned, Phase.APPLYING)
    assert not await ledger.advance(following, owner="bob", fence=fence, actor="bob", at_ms=1200)
    assert not await ledger.advance(following, owner="anna", fence=fence - 1, actor="anna", at_ms=1200)
    for unclaimed in (following, ended(planned)):
        assert not await ledger.advance(unclaimed, owner="anna", fence=0, actor="anna", at_ms=1200)
    await ledger.release("chat/replicas-1", "anna")
    assert not await ledger.advance(following, owner="anna", fence=fence, actor="anna", at_ms=1200)


async def test_a_record_that_nobody_made_cannot_be_changed(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    stranger = planned.model_copy(update={"action": action(2, target="chat/replicas-1"), "version": 1})
    assert not await ledger.advance(stranger, owner="anna", fence=fence, actor="anna", at_ms=1200)


async def test_the_same_write_again_is_true_and_adds_nothing(ledger: RedisLedger) -> None:
    """Its answer can be lost on the way."""
    planned, fence = await begun(ledger)
    assert await ledger.advance(planned, owner="anna", fence=fence, actor="anna", at_ms=1100)
    last = ended(planned)
    for _ in range(2):
        assert await ledger.advance(last, owner="anna", fence=fence, actor="anna", at_ms=1300)
    assert [line.what for line in await ledger.audit()][2:] == ["planned", "verified"]


async def test_the_same_words_of_another_holder_are_another_write(ledger: RedisLedger) -> None:
    """Two executors think alike: the second must not believe that it was first."""
    planned, _ = await begun(ledger)
    await ledger.release("chat/replicas-1", "anna")
    taken = await ledger.claim(planned, "bob", LIMITS, at_ms=1200)
    assert not await ledger.advance(planned, owner="bob", fence=taken.fence, actor="bob", at_ms=1200)
    again = await ledger.advance(planned, owner="anna", fence=taken.fence - 1, actor="anna", at_ms=1200)
    assert not again, "who lost the lease must stop, even if the write was its own"


async def test_an_end_is_final_frees_the_target_and_waits_to_be_published(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    last = ended(planned, EndState.UNDONE)
    assert await ledger.advance(last, owner="anna", fence=fence, actor="anna", at_ms=1300)
    assert await ledger.under_way() == []
    assert await ledger.unpublished() == [last]
    assert not await ledger.advance(later(last, Phase.UNDOING), owner="anna", fence=fence, actor="anna", at_ms=1400)
    other = await ledger.record(action(2, target="chat/replicas-1"), at_ms=1400)
    assert (await ledger.claim(other, "bob", LIMITS, at_ms=1400)).refusal is None
    await ledger.published(last.action.id)
    assert await ledger.unpublished() == []
    assert await ledger.get(last.action.id) == last


async def test_what_has_not_begun_can_be_ended_without_a_lease(ledger: RedisLedger) -> None:
    """A claim that was refused gives no fence, and the action is to end as refused."""
    record = await ledger.record(action(), at_ms=1000)
    assert not await ledger.advance(later(record, Phase.PLANNED), owner="anna", fence=0, actor="anna", at_ms=1100)
    held = await ledger.claim(record, "bob", LIMITS, at_ms=1000)
    refused = ended(record, EndState.REFUSED)
    assert not await ledger.advance(refused, owner="anna", fence=0, actor="anna", at_ms=1100), "bob is at it"
    await ledger.release("chat/replicas-1", "bob")
    assert await ledger.advance(refused, owner="anna", fence=0, actor="anna", at_ms=1100)
    assert held.fence > 0
    assert await ledger.unpublished() == [refused]


async def test_old_ended_records_are_dropped_and_their_audit_lines_stay(redis_url: str) -> None:
    wall = Wall()
    async with RedisLedger(redis_url, wall=wall, keep_ended=3, keep_ended_s=100) as ledger:
        await ledger.open(expected=False, at_ms=1)
        ids = [action(number).id for number in range(8)]

        async def end(number: int, *, publish: bool = True) -> None:
            record = await ledger.record(action(number), at_ms=number)
            assert await ledger.advance(ended(record), owner="anna", fence=0, actor="anna", at_ms=number)
            if publish:
                await ledger.published(record.action.id)
            wall.now_s += 10

        async def kept() -> list[int]:
            return [number for number, each in enumerate(ids) if await ledger.get(each)]

        await end(0, publish=False)
        for number in range(1, 5):
            await end(number)
        assert await kept() == [0, 2, 3, 4], "one too many as it counts; what is unpublished is never dropped"
        await ledger.published(ids[0])
        await end(5)
        assert await kept() == [3, 4, 5]
        wall.now_s += 85
        await end(6)
        assert await kept() == [5, 6], "older than 100 s"
        assert len(await ledger.audit()) == 1 + 2 * 7


async def test_a_workload_is_stopped_and_resumed(ledger: RedisLedger) -> None:
    await ledger.switch(control(ControlKind.KILL, 100))
    assert await ledger.switches("chat") == Switches(killed=True, killed_why="for chat, by ann: a drill")
    assert not (await ledger.switches("search")).killed
    await ledger.switch(control(ControlKind.RESUME, 101))
    assert await ledger.switches("chat") == Switches()
    assert [(line.what, line.actor, line.workload) for line in (await ledger.audit())[1:]] == [
        ("kill", "ann", "chat"),
        ("resume", "ann", "chat"),
    ]


async def test_the_fleets_switch_counts_for_every_workload(ledger: RedisLedger) -> None:
    await ledger.switch(control(ControlKind.KILL, 100, workload="*"), fleet=True)
    for workload in ("chat", "search"):
        assert await ledger.switches(workload) == Switches(
            killed=True, killed_why="for the whole fleet, by ann: a drill"
        )
    await ledger.switch(control(ControlKind.RESUME, 101))
    assert (await ledger.switches("chat")).killed, "one workload's resume is not the fleet's"
    await ledger.switch(control(ControlKind.RESUME, 102, workload="*"), fleet=True)
    assert not (await ledger.switches("chat")).killed
    assert {line.workload for line in await ledger.audit()} == {"-", "chat"}


async def test_an_older_switch_and_a_repeat_change_nothing(ledger: RedisLedger) -> None:
    await ledger.switch(control(ControlKind.KILL, 100))
    await ledger.switch(control(ControlKind.KILL, 100))
    await ledger.switch(control(ControlKind.RESUME, 99))
    assert (await ledger.switches("chat")).killed
    assert len(await ledger.audit()) == 2


@pytest.mark.parametrize("order", [(ControlKind.KILL, ControlKind.RESUME), (ControlKind.RESUME, ControlKind.KILL)])
async def test_of_two_people_at_the_same_moment_the_stricter_wins(
    ledger: RedisLedger, order: tuple[ControlKind, ControlKind]
) -> None:
    for kind in order:
        await ledger.switch(control(kind, 100))
    assert (await ledger.switches("chat")).killed


async def test_a_mode_is_kept_by_its_time(ledger: RedisLedger) -> None:
    await ledger.switch(control(ControlKind.MODE, 100, mode=Mode.ADVISORY))
    await ledger.switch(control(ControlKind.MODE, 90, mode=Mode.AUTONOMOUS))
    await ledger.switch(control(ControlKind.KILL, 50))
    assert await ledger.switches("chat") == Switches(
        killed=True, killed_why="for chat, by ann: a drill", mode=Mode.ADVISORY, mode_at_wall_ms=100
    )
    await ledger.switch(control(ControlKind.MODE, 110, mode=Mode.AUTONOMOUS))
    assert (await ledger.switches("chat")).mode is Mode.AUTONOMOUS
    assert [line.subject for line in (await ledger.audit())[1:]] == ["advisory", "kill_switch", "autonomous"]


async def test_only_a_resume_of_the_fleet_takes_a_loss_back(redis_url: str, redis_server: RedisProcess) -> None:
    async with RedisLedger(redis_url, wall=Wall()) as ledger:
        assert not await ledger.open(expected=True, at_ms=1)
        await ledger.switch(control(ControlKind.RESUME, NOW_MS + 1))
        await ledger.switch(control(ControlKind.RESUME, NOW_MS - 1), fleet=True)
        await ledger.switch(control(ControlKind.KILL, NOW_MS + 2), fleet=True)
        assert await ledger.switches("chat") == Switches(killed=True, killed_why="ledger_lost")
        await ledger.switch(control(ControlKind.RESUME, NOW_MS + 3), fleet=True)
        assert await ledger.switches("chat") == Switches()


async def test_the_audit_log_is_read_in_pages_and_its_chain_is_unbroken(ledger: RedisLedger) -> None:
    for number in range(9):
        await ledger.record(action(number), at_ms=number)
    lines = await ledger.audit()
    assert [line.number for line in lines] == list(range(1, 11))
    assert verify(lines) is None
    assert await ledger.audit(after=3, limit=4) == lines[3:7]
    assert await ledger.audit(after=10) == []


async def test_words_of_people_of_any_kind_come_back_as_they_were(ledger: RedisLedger) -> None:
    odd = 'quote " newline \n nul \x00 snowman ☃ and a brace {"x": 1}'
    await ledger.switch(control(ControlKind.KILL, 100, reason=odd, actor="ünal:*"))
    record = await ledger.record(action(target="chat/☃ replicas:*", approved_by="ünal"), at_ms=1)
    claim = await ledger.claim(record, "anna ☃", LIMITS, at_ms=1)
    assert odd in (await ledger.switches("chat")).killed_why
    assert odd in claim.detail
    assert await ledger.under_way() == [record]
    assert verify(await ledger.audit()) is None
