"""Leases on the real Redis: who may begin, under which fence, and every reason why not."""

from __future__ import annotations

import asyncio

import pytest

from agents.ledger import RedisLedger
from contracts.events import Action, ControlKind, EndState, Mode, Refusal
from contracts.ledger import ActionRecord, ClaimLimits, Phase
from contracts.ports import Claim
from tests.agents.ledger_help import LIMITS, WALL_S, Wall, action, begun, control, ended, later
from tests.agents.redis_process import RedisProcess
from tests.agents.saga_help import TUNE

pytestmark = pytest.mark.parametrize("redis_server", ["system", "bundled"], indirect=True)


async def claim(
    ledger: RedisLedger, number: int, owner: str = "anna", limits: ClaimLimits = LIMITS
) -> tuple[ActionRecord, Claim]:
    record = await ledger.record(action(number), at_ms=1000)
    return record, await ledger.claim(record, owner, limits, at_ms=1000)


async def test_a_claim_gives_a_fence_counted_from_the_epochs_wall_second(ledger: RedisLedger) -> None:
    _, got = await claim(ledger, 1)
    assert got == Claim(fence=int(WALL_S) * 1_000_000 + 1)
    assert got.fence < 2**53


async def test_who_renews_keeps_the_fence_and_holds_on(ledger: RedisLedger, redis_server: RedisProcess) -> None:
    record, first = await claim(ledger, 1, limits=ClaimLimits(lease_s=5))
    again = await ledger.claim(record, "anna", ClaimLimits(lease_s=100), at_ms=1000)
    assert again == first
    with redis_server.client() as client:
        assert 99_000 < int(client.pttl("optiinfra:lease:chat/replicas-1")) <= 100_000


async def test_a_lease_that_lapsed_goes_to_the_next_under_a_higher_fence(ledger: RedisLedger) -> None:
    record, first = await claim(ledger, 1, limits=ClaimLimits(lease_s=0.02))
    await asyncio.sleep(0.05)
    second = await ledger.claim(record, "bob", LIMITS, at_ms=1000)
    assert second.refusal is None
    assert second.fence > first.fence
    planned = later(record, Phase.PLANNED)
    assert not await ledger.advance(planned, owner="anna", fence=first.fence, actor="anna", at_ms=1100)
    assert await ledger.advance(planned, owner="bob", fence=second.fence, actor="bob", at_ms=1100)


async def test_a_released_lease_goes_to_the_next_and_a_strangers_release_changes_nothing(ledger: RedisLedger) -> None:
    record, first = await claim(ledger, 1)
    await ledger.release("chat/replicas-1", "bob")
    assert (await ledger.claim(record, "bob", LIMITS, at_ms=1)).refusal is Refusal.IN_FLIGHT
    await ledger.release("chat/replicas-1", "anna")
    assert (await ledger.claim(record, "bob", LIMITS, at_ms=1)).fence > first.fence


async def test_a_target_that_another_holds_is_in_flight(ledger: RedisLedger) -> None:
    record, _ = await claim(ledger, 1)
    other = await ledger.claim(record, "bob", LIMITS, at_ms=1)
    assert (other.refusal, other.fence) == (Refusal.IN_FLIGHT, 0)
    assert "held by anna" in other.detail


async def test_a_target_is_in_flight_until_its_action_ends_even_when_no_lease_is_held(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger, 1)
    following = await ledger.record(action(2, target="chat/replicas-1"), at_ms=1000)
    assert (await ledger.claim(following, "anna", LIMITS, at_ms=1)).refusal is Refusal.IN_FLIGHT
    await ledger.release("chat/replicas-1", "anna")
    waiting = await ledger.claim(following, "anna", LIMITS, at_ms=1)
    assert waiting.refusal is Refusal.IN_FLIGHT
    assert planned.action.id in waiting.detail
    again = await ledger.claim(planned, "anna", LIMITS, at_ms=1)
    assert await ledger.advance(ended(planned), owner="anna", fence=again.fence, actor="anna", at_ms=1)
    assert (await ledger.claim(following, "anna", LIMITS, at_ms=1)).fence > again.fence > fence


async def test_the_fleet_takes_so_many_actions_at_a_time(ledger: RedisLedger) -> None:
    limits = ClaimLimits(in_flight=2)
    first, got = await claim(ledger, 1, limits=limits)
    await claim(ledger, 2, owner="bob", limits=limits)
    third, refused = await claim(ledger, 3, limits=limits)
    assert refused.refusal is Refusal.FLEET_LIMIT
    assert "2 actions" in refused.detail
    assert (await ledger.claim(first, "anna", limits, at_ms=1)) == got, "one that was let in is not counted twice"
    assert await ledger.advance(ended(first), owner="anna", fence=got.fence, actor="anna", at_ms=1)
    assert (await ledger.claim(third, "anna", limits, at_ms=1)).refusal is None


@pytest.mark.parametrize("part", ["queue", "context", "breaker"])
async def test_gateways_take_so_many_of_them(ledger: RedisLedger, part: str) -> None:
    def at_gateway(number: int) -> Action:
        return action(number).model_copy(update={"target": f"chat-{number}/{part}"})

    limits = ClaimLimits(in_flight=4, at_gateways=1)
    await claim(ledger, 1)
    first, second = [await ledger.record(at_gateway(number), at_ms=1) for number in (2, 3)]
    assert (await ledger.claim(first, "anna", limits, at_ms=1)).refusal is None
    refused = await ledger.claim(second, "anna", limits, at_ms=1)
    assert (refused.refusal, "1 actions are under way at gateways" in refused.detail) == (Refusal.FLEET_LIMIT, True)


async def test_the_hourly_limit_slides_with_the_wall_clock(
    ledger: RedisLedger, wall: Wall, redis_server: RedisProcess
) -> None:
    limits = ClaimLimits(per_hour=2)
    for number in (1, 2):
        record, got = await claim(ledger, number, limits=limits)
        await ledger.claim(record, "anna", limits, at_ms=1)
        assert await ledger.advance(ended(record), owner="anna", fence=got.fence, actor="anna", at_ms=1)
        wall.now_s += 1000
    third, refused = await claim(ledger, 3, limits=limits)
    assert refused.refusal is Refusal.RATE_LIMIT
    assert "2 actions began in the last hour" in refused.detail
    wall.now_s = WALL_S + 3599.9
    assert (await ledger.claim(third, "anna", limits, at_ms=1)).refusal is Refusal.RATE_LIMIT
    wall.now_s = WALL_S + 3600
    assert (await ledger.claim(third, "anna", limits, at_ms=1)).refusal is None
    _, fourth = await claim(ledger, 4, limits=limits)
    assert fourth.refusal is Refusal.RATE_LIMIT, "the second, and the third"
    with redis_server.client() as client:
        assert client.zcard("optiinfra:begun") == 2, "what is older is forgotten"


async def test_an_action_that_is_refused_before_its_first_order_does_not_count_for_the_hour(
    ledger: RedisLedger,
) -> None:
    limits = ClaimLimits(per_hour=2)
    for number, state in ((1, EndState.REFUSED), (2, EndState.VERIFIED), (3, EndState.REFUSED), (4, EndState.UNDONE)):
        record, got = await claim(ledger, number, limits=limits)
        assert got.refusal is None
        assert await ledger.advance(ended(record, state), owner="anna", fence=got.fence, actor="anna", at_ms=1)
    _, refused = await claim(ledger, 5, limits=limits)
    assert refused.refusal is Refusal.RATE_LIMIT
    assert "2 actions began in the last hour" in refused.detail


async def test_an_action_that_has_begun_is_not_refused_by_limits(ledger: RedisLedger) -> None:
    one, _ = await begun(ledger, 1)
    await begun(ledger, 2)
    await ledger.release("chat/replicas-1", "anna")
    got = await ledger.claim(one, "bob", ClaimLimits(in_flight=1, per_hour=1), at_ms=1)
    assert got.refusal is None


async def test_a_refused_claim_leaves_no_trace(ledger: RedisLedger, redis_server: RedisProcess) -> None:
    record = await ledger.record(action(), at_ms=1000)
    await ledger.switch(control(ControlKind.KILL, 1))
    with redis_server.client() as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        assert (await ledger.claim(record, "anna", LIMITS, at_ms=1)).refusal is Refusal.KILL_SWITCH
        assert {key: client.dump(key) for key in client.scan_iter()} == before


@pytest.mark.parametrize("fleet", [True, False])
async def test_the_kill_switch_keeps_an_action_from_beginning(ledger: RedisLedger, fleet: bool) -> None:
    await ledger.switch(control(ControlKind.KILL, 1), fleet=fleet)
    _, got = await claim(ledger, 1)
    assert (got.refusal, got.fence) == (Refusal.KILL_SWITCH, 0)
    assert "by ann: a drill" in got.detail
    await ledger.switch(control(ControlKind.RESUME, 2), fleet=fleet)
    assert (await claim(ledger, 1))[1].refusal is None


async def test_the_kill_switch_of_another_workload_does_not(ledger: RedisLedger) -> None:
    await ledger.switch(control(ControlKind.KILL, 1, workload="search"))
    assert (await claim(ledger, 1))[1].refusal is None


async def test_a_lost_ledger_lets_nothing_begin(redis_url: str, redis_server: RedisProcess) -> None:
    async with RedisLedger(redis_url) as ledger:
        await ledger.open(expected=True, at_ms=1)
        record, got = await claim(ledger, 1)
        assert (got.refusal, got.fence) == (Refusal.LEDGER_LOST, 0)
        held = ended(record, EndState.HELD_UNVERIFIED)
        assert await ledger.advance(held, owner="anna", fence=0, actor="anna", at_ms=1), "and people are told"


async def test_a_stopped_action_that_has_begun_can_be_brought_to_its_end(ledger: RedisLedger) -> None:
    """The refusal comes with a fence, also for who comes after a crash; and nothing refuses one that is undone."""
    planned, fence = await begun(ledger, 1)
    await ledger.switch(control(ControlKind.KILL, 1), fleet=True)
    mine = await ledger.claim(planned, "anna", LIMITS, at_ms=1)
    assert (mine.refusal, mine.fence) == (Refusal.KILL_SWITCH, fence)
    await ledger.release("chat/replicas-1", "anna")
    got = await ledger.claim(planned, "bob", LIMITS, at_ms=1)
    assert got.refusal is Refusal.KILL_SWITCH
    assert got.fence > fence
    undoing = later(planned, Phase.UNDOING)
    assert await ledger.advance(undoing, owner="bob", fence=got.fence, actor="bob", at_ms=1)
    assert await ledger.claim(undoing, "bob", LIMITS, at_ms=1) == Claim(fence=got.fence)


@pytest.mark.parametrize(
    ("set_to", "made_in", "approved_by", "refused"),
    [
        (Mode.ADVISORY, Mode.AUTONOMOUS, "mode:autonomous", True),
        (Mode.ADVISORY, Mode.SEMI_AUTONOMOUS, "mode:semi_autonomous", True),
        (Mode.SEMI_AUTONOMOUS, Mode.AUTONOMOUS, "mode:autonomous", True),
        (Mode.SEMI_AUTONOMOUS, Mode.SEMI_AUTONOMOUS, "mode:semi_autonomous", False),
        (Mode.AUTONOMOUS, Mode.SEMI_AUTONOMOUS, "mode:semi_autonomous", False),
        (Mode.ADVISORY, Mode.AUTONOMOUS, "ann", False),
        (Mode.ADVISORY, Mode.ADVISORY, "ann", False),
    ],
)
async def test_a_narrower_mode_stops_what_a_mode_approved_and_not_what_a_person_did(
    ledger: RedisLedger, set_to: Mode, made_in: Mode, approved_by: str, refused: bool
) -> None:
    record = await ledger.record(action(mode=made_in, approved_by=approved_by), at_ms=1)
    await ledger.switch(control(ControlKind.MODE, 1, mode=set_to))
    got = await ledger.claim(record, "anna", LIMITS, at_ms=1)
    assert got.refusal is (Refusal.ADVISORY_MODE if refused else None)
    if refused:
        assert f"mode {set_to} was set by ann" in got.detail


async def test_a_narrower_mode_stops_what_is_planned_and_not_what_has_begun(ledger: RedisLedger) -> None:
    planned, fence = await begun(ledger)
    await ledger.switch(control(ControlKind.MODE, 1, mode=Mode.ADVISORY))
    why = "mode advisory was set by ann: a drill"
    assert await ledger.claim(planned, "anna", LIMITS, at_ms=1) == Claim(fence, Refusal.ADVISORY_MODE, why)
    applying = later(planned, Phase.APPLYING)
    assert await ledger.advance(applying, owner="anna", fence=fence, actor="anna", at_ms=1)
    assert await ledger.claim(applying, "anna", LIMITS, at_ms=1) == Claim(fence=fence)


async def test_a_narrower_mode_stops_the_next_restart_of_a_tune_that_has_begun_and_not_its_way_back(
    ledger: RedisLedger,
) -> None:
    record = await ledger.record(action(spec=TUNE), at_ms=1)
    fence = (await ledger.claim(record, "anna", LIMITS, at_ms=1)).fence
    why = "mode advisory was set by ann: a drill"
    barred, free = Claim(fence, Refusal.ADVISORY_MODE, why), Claim(fence=fence)
    await ledger.switch(control(ControlKind.MODE, 1, mode=Mode.ADVISORY))
    for phase, expected in ((Phase.APPLYING, barred), (Phase.TRIAL, free), (Phase.UNDOING, free)):
        record = later(record, phase)
        assert await ledger.advance(record, owner="anna", fence=fence, actor="anna", at_ms=1)
        assert await ledger.claim(record, "anna", LIMITS, at_ms=1) == expected


async def test_what_counts_is_how_far_the_ledger_says_it_has_come(ledger: RedisLedger) -> None:
    """Not what the caller believes."""
    record, _ = await claim(ledger, 1)
    await ledger.switch(control(ControlKind.KILL, 1))
    await ledger.release("chat/replicas-1", "anna")
    pretended = later(record, Phase.UNDOING)
    assert await ledger.claim(pretended, "anna", LIMITS, at_ms=1) == Claim(
        refusal=Refusal.KILL_SWITCH, detail="for chat, by ann: a drill"
    )


async def test_what_has_ended_or_was_never_recorded_cannot_be_claimed(ledger: RedisLedger) -> None:
    record = await ledger.record(action(), at_ms=1)
    assert await ledger.advance(ended(record), owner="anna", fence=0, actor="anna", at_ms=1)
    assert (await ledger.claim(record, "anna", LIMITS, at_ms=1)).detail == "it has ended already"
    never = ActionRecord(action=action(2), recorded_ms=1, phase_since_ms=1)
    assert (await ledger.claim(never, "anna", LIMITS, at_ms=1)).refusal is Refusal.LEDGER_LOST
