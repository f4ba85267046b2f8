"""What every gateway must do, asked over real HTTP of the twin's own and of somebody else's proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from connectors.gateway.client import HttpGateway
from connectors.gateway.controller import ITSELF, GatewayController
from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import Action, ActionKind, ActionSpec, Effect, Mode, PlanStep
from contracts.laws.bounds import Bound, Comparator
from contracts.ports import Gateway, StepState
from tests.connectors.gateway.proxy import proxying
from tests.connectors.twin.running import serving

NONE = {"max_in_flight": 0, "max_context_tokens": 0, "breaker_until_ms": 0}


@pytest_asyncio.fixture(params=["twin", "proxy"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "twin":
        async with serving(tmp_path) as running:
            yield running.info.control_url
    else:
        async with proxying() as proxy:
            yield proxy.url


@pytest_asyncio.fixture
async def gateway(url: str) -> AsyncIterator[Gateway]:
    async with HttpGateway(url) as made:
        yield made


@pytest.fixture
def controller(gateway: Gateway) -> GatewayController:
    return GatewayController(gateway, "chat", lambda: 1_000)


def action(kind: ActionKind = ActionKind.QUEUE, value: float = 40.0) -> Action:
    expect = Bound(sli="kv_cache_usage_ratio", size_s=60, comparator=Comparator.LE, value=0.85)
    spec = ActionSpec(
        kind=kind, replicas=1, settings={kind.gateway_setting: value}, effect=Effect(expect=expect, by_s=300)
    )
    return Action(
        workload="chat",
        target=f"chat/{kind.part}",
        candidate_id="found",
        decision_id="decided",
        rule="queue-at-gateway",
        priority=640,
        spec=spec,
        mode=Mode.AUTONOMOUS,
        approved_by="mode:autonomous",
        at_ms=500_000,
        cause_ms=499_000,
        start_by_ms=530_000,
    )


async def planned(controller: GatewayController, told: Action) -> PlanStep:
    plan = await controller.plan(told, await controller.observe("chat"))
    (step,) = plan.steps
    assert await controller.dry_run("chat", step) == ""
    return step


async def by_hand(url: str, limits: dict[str, int]) -> None:
    async with aiohttp.ClientSession() as session, session.put(f"{url}/limits/chat", json={"limits": limits}) as answer:
        assert answer.status == 200


async def test_what_is_written_is_read_and_what_is_not_named_stays(gateway: Gateway) -> None:
    before = await gateway.read("chat")
    assert (before.limits, before.note) == (NONE, "")
    await gateway.write("chat", {"max_in_flight": 40}, if_version=before.version, note="of ours")
    after = await gateway.write("chat", {"max_context_tokens": 9000}, if_version=before.version + 1, note="")
    assert after.limits == NONE | {"max_in_flight": 40, "max_context_tokens": 9000}
    assert after == await gateway.read("chat")
    assert after.version == before.version + 2


async def test_a_write_on_an_old_version_changes_nothing(gateway: Gateway) -> None:
    first = await gateway.write("chat", {"max_in_flight": 40}, if_version=0, note="")
    with pytest.raises(Conflict):
        await gateway.write("chat", {"max_in_flight": 10}, if_version=0, note="late")
    assert await gateway.read("chat") == first


async def test_a_workload_that_it_does_not_know_is_refused_in_words(gateway: Gateway) -> None:
    with pytest.raises(ConfigError, match="HTTP 404"):
        await gateway.read("chut")


async def test_an_order_is_given_once_seen_by_its_token_and_taken_back(controller: GatewayController) -> None:
    step = await planned(controller, action())
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN
    for _ in range(2):
        await controller.apply("chat", step, "t1", 3)
    assert (await controller.inspect("t1")).state is StepState.DONE
    seen = await controller.observe("chat")
    assert (seen.settings[ITSELF], seen.manual_changes) == (NONE | {"max_in_flight": 40}, 0)
    await controller.undo("chat", step, "t1", "t2", 3)
    assert (await controller.observe("chat")).settings[ITSELF] == NONE
    assert (await controller.inspect("t2")).state is StepState.DONE


async def test_a_breaker_is_open_until_two_minutes_after_the_decision(controller: GatewayController) -> None:
    step = await planned(controller, action(ActionKind.BREAKER, 120.0))
    assert step.settings == {"breaker_until_ms": 620_000.0}
    await controller.apply("chat", step, "t1", 1)
    assert (await controller.observe("chat")).settings[ITSELF]["breaker_until_ms"] == 620_000


async def test_an_order_that_was_called_off_before_it_came_does_nothing(controller: GatewayController) -> None:
    step = await planned(controller, action())
    await controller.undo("chat", step, "t1", "t2", 1)
    await controller.apply("chat", step, "t1", 1)
    assert (await controller.observe("chat")).settings[ITSELF] == NONE


async def test_a_change_by_hand_is_counted_and_not_taken_back(controller: GatewayController, url: str) -> None:
    step = await planned(controller, action())
    await controller.apply("chat", step, "t1", 1)
    await by_hand(url, {"max_in_flight": 77})
    assert (await controller.observe("chat")).manual_changes == 1
    await controller.undo("chat", step, "t1", "t2", 1)
    seen = await controller.observe("chat")
    assert (seen.settings[ITSELF]["max_in_flight"], seen.manual_changes) == (77, 1)


async def test_an_order_whose_note_was_written_over_is_noted_anew_and_the_hand_is_counted(
    controller: GatewayController, gateway: Gateway
) -> None:
    step = await planned(controller, action())
    await controller.apply("chat", step, "t1", 3)
    stands = await gateway.read("chat")
    await gateway.write("chat", {"max_context_tokens": 9000}, if_version=stands.version, note="theirs")
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN
    await controller.apply("chat", step, "t1", 3)
    assert (await controller.inspect("t1")).state is StepState.DONE
    seen = await controller.observe("chat")
    assert seen.settings[ITSELF] == NONE | {"max_in_flight": 40, "max_context_tokens": 9000}
    assert seen.manual_changes > 0


async def test_an_old_fence_is_refused_on_its_limit_alone(controller: GatewayController) -> None:
    step = await planned(controller, action())
    await controller.apply("chat", step, "t1", 5)
    with pytest.raises(Conflict, match="older than 5"):
        await controller.apply("chat", step, "t2", 4)
    await controller.apply("chat", await planned(controller, action(ActionKind.CONTEXT, 9000.0)), "t3", 1)


async def test_two_limits_set_at_the_same_moment_both_stand(controller: GatewayController) -> None:
    queue, context = await planned(controller, action()), await planned(controller, action(ActionKind.CONTEXT, 9000.0))
    await asyncio.gather(controller.apply("chat", queue, "t1", 1), controller.apply("chat", context, "t2", 1))
    seen = await controller.observe("chat")
    assert seen.settings[ITSELF] == NONE | {"max_in_flight": 40, "max_context_tokens": 9000}
    assert seen.manual_changes == 0


async def test_what_a_gateway_does_not_do_is_no_plan(controller: GatewayController) -> None:
    up = action().model_copy(
        update={"spec": ActionSpec(kind=ActionKind.SCALE_UP, replicas=1, effect=action().spec.effect)}
    )
    with pytest.raises(ConfigError, match="no scale_up"):
        await controller.plan(up, await controller.observe("chat"))


async def test_a_write_whose_answer_is_lost_is_found_by_its_token_and_not_done_again() -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        controller = GatewayController(gateway, "chat", lambda: 0)
        step = await planned(controller, action())
        proxy.forgets = 1
        with suppress(Unavailable):  # whether it is asked once more at once is up to the client's library
            await controller.apply("chat", step, "t1", 1)
        assert (await controller.inspect("t1")).state is StepState.DONE
        await controller.apply("chat", step, "t1", 1)
        assert (proxy.state["version"], proxy.forgets) == (1, 0)
        assert (await controller.observe("chat")).manual_changes == 0


@pytest.mark.parametrize(("status", "error"), [(500, Unavailable), (403, ConfigError), (204, ConfigError)])
async def test_what_is_no_answer_is_told(status: int, error: type[Exception]) -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.broken = status
        with pytest.raises(error, match=f"HTTP {status}"):
            await gateway.read("chat")


async def test_one_that_is_late_or_away_or_says_too_little_is_told() -> None:
    async with proxying() as proxy, HttpGateway(proxy.url, timeout_s=0.05) as gateway:
        proxy.state["limits"].pop("breaker_until_ms")
        with pytest.raises(ConfigError, match="knows no breaker_until_ms"):
            await gateway.read("chat")
        proxy.state = {"version": "new"}
        with pytest.raises(Unavailable, match="something else"):
            await gateway.read("chat")
        proxy.late_s = 5.0
        with pytest.raises(Unavailable, match="no answer within"):
            await gateway.read("chat")
    async with HttpGateway(proxy.url) as gateway:
        with pytest.raises(Unavailable):
            await gateway.read("chat")
    with pytest.raises(ConfigError, match="not open"):
        await gateway.read("chat")


@pytest.mark.parametrize("url", ["ftp://", "http://", "http://r:0", "http://r/?a=b", "http://[r", "r:9000"])
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    scheme, mark, place = url.rpartition("//")
    with pytest.raises(ConfigError, match="not an address") as caught:
        HttpGateway(f"{scheme}{mark}me:hush@{place}" if mark else url)
    assert "hush" not in str(caught.value)
