"""What the controller leaves alone at a gateway: what others changed meanwhile, and limits that are tighter already."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from connectors.gateway.client import HttpGateway
from connectors.gateway.controller import ITSELF, GatewayController
from contracts.errors import ConfigError, Unavailable
from contracts.events import ActionKind
from contracts.ports import StepState
from tests.connectors.gateway.proxy import Proxy, proxying
from tests.connectors.gateway.test_members import action, by_hand, planned

QUEUE, CONTEXT, BREAKER = ActionKind.QUEUE, ActionKind.CONTEXT, ActionKind.BREAKER


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxying() as made:
        yield made


@pytest_asyncio.fixture
async def controller(proxy: Proxy) -> AsyncIterator[GatewayController]:
    async with HttpGateway(proxy.url) as gateway:
        yield GatewayController(gateway, "chat", lambda: 1_000)


async def test_what_was_changed_by_hand_since_the_plan_is_not_overwritten(
    controller: GatewayController, proxy: Proxy
) -> None:
    step = await planned(controller, action())
    await by_hand(proxy.url, {"max_in_flight": 10})
    with pytest.raises(ConfigError, match="changed meanwhile: max_in_flight is 10, and was 0"):
        await controller.apply("chat", step, "t1", 1)
    assert (proxy.state["limits"]["max_in_flight"], proxy.state["version"]) == (10, 1)
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN


async def test_an_order_that_was_taken_is_not_refused_for_what_people_did_after_it(
    controller: GatewayController, proxy: Proxy
) -> None:
    step = await planned(controller, action())
    await controller.apply("chat", step, "t1", 1)
    await by_hand(proxy.url, {"max_in_flight": 10})
    await controller.apply("chat", step, "t1", 1)
    assert proxy.state["limits"]["max_in_flight"] == 10


@pytest.mark.parametrize(
    ("kind", "stands", "wanted", "refused"),
    [
        (QUEUE, 40, 60.0, True),
        (QUEUE, 40, 40.0, False),
        (QUEUE, 40, 20.0, False),
        (QUEUE, 40, 0.0, True),
        (CONTEXT, 4096, 8192.0, True),
        (CONTEXT, 8192, 4096.0, False),
        (BREAKER, 900_000, 120.0, True),
        (BREAKER, 600_000, 120.0, False),
    ],
)
async def test_a_limit_is_not_loosened_by_setting_it(
    controller: GatewayController, proxy: Proxy, kind: ActionKind, stands: int, wanted: float, refused: bool
) -> None:
    (name,) = action(kind, wanted).gateway_limits
    await by_hand(proxy.url, {name: stands})
    if refused:
        with pytest.raises(ConfigError, match=f"needless: {name} stands at {stands} already"):
            await planned(controller, action(kind, wanted))
    else:
        await planned(controller, action(kind, wanted))


async def test_only_what_restores_loosens_a_limit(controller: GatewayController, proxy: Proxy) -> None:
    for token, value in (("t1", 96.0), ("t2", 80.0)):
        await controller.apply("chat", await planned(controller, action(value=value)), token, 1)
    for value in (0.0, 96.0):
        with pytest.raises(ConfigError, match="needless"):
            await planned(controller, action(value=value))
    loosened = action(value=96.0)
    restoring = loosened.model_copy(update={"spec": loosened.spec.model_copy(update={"restores": True})})
    await controller.apply("chat", await planned(controller, restoring), "t3", 1)
    seen = await controller.observe("chat")
    assert (seen.settings[ITSELF]["max_in_flight"], seen.manual_changes) == (96, 0)


async def test_a_gateway_that_forgot_knows_no_token(controller: GatewayController, proxy: Proxy) -> None:
    await controller.apply("chat", await planned(controller, action()), "t1", 1)
    proxy.restarts()
    assert (await controller.inspect("t1")).state is StepState.UNKNOWN


async def test_a_count_that_began_anew_beside_our_note_is_a_change_by_hand(
    controller: GatewayController, proxy: Proxy
) -> None:
    for token, value in (("t1", 96.0), ("t2", 80.0)):
        await controller.apply("chat", await planned(controller, action(value=value)), token, 1)
    proxy.state["version"] = 0
    assert (await controller.observe("chat")).manual_changes == 1


async def test_an_undo_of_which_nobody_knows_is_tried_again(controller: GatewayController, proxy: Proxy) -> None:
    step = await planned(controller, action())
    await controller.apply("chat", step, "t1", 1)
    proxy.mumbles = 429
    with pytest.raises(Unavailable):
        await controller.undo("chat", step, "t1", "t2", 1)
    proxy.mumbles = 0
    await controller.undo("chat", step, "t1", "t2", 1)
    assert (await controller.inspect("t2")).state is StepState.DONE
    assert proxy.state["limits"]["max_in_flight"] == 0
