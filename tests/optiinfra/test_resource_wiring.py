"""Stage `resource` is told the context windows that settings name, of a simulated fleet its flag; and the gateways that
settings name are those that are recommended to, acted on and asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts.clock import ClockAnchor, EventClock
from contracts.errors import ConfigError
from contracts.events import ActionKind, ActionSpec
from optiinfra.orders import ChildOrders
from optiinfra.settings import Settings
from optiinfra.wiring.controllers import acting_controllers
from optiinfra.wiring.stages import arbiter_settings, resource_settings
from tests.connectors.gateway.proxy import proxying
from tests.connectors.gateway.test_members import action

FLAGS = {"max_num_seqs": 256, "max_num_batched_tokens": 8192}


def orders(**settings: object) -> ChildOrders:
    blob = Settings.from_blob(settings).model_dump(mode="json")
    anchor, endpoints = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), {"redis_url": "redis://cache"}
    return ChildOrders(settings=blob, anchor=anchor, state_dir=Path(), parent_pid=1, endpoints=endpoints)


def windows(**settings: object) -> Mapping[str, int]:
    return resource_settings(orders(**settings)).context_tokens


def test_of_your_own_servers_only_windows_that_are_named_are_known() -> None:
    engines = {"chat": FLAGS | {"max_model_len": 8192}, "code": FLAGS}
    assert windows(targets=("a.json",), engines=engines) == {"chat": 8192}


def test_of_a_simulated_fleet_they_are_known_unless_something_else_is_said() -> None:
    assert windows() == {"chat": 16_384, "code": 16_384}
    assert windows(engines={"chat": FLAGS | {"max_model_len": 8192}})["chat"] == 8192


def test_a_simulated_fleet_has_gateways_and_servers_of_your_own_have_those_that_are_named() -> None:
    simulated, named = orders(), orders(targets=("a.json",), gateways={"chat": {"url": "http://r", "timeout_s": 2}})
    for each, there in ((simulated, {"chat": True, "code": True}), (named, {"chat": True, "code": False})):
        assert {name: resource_settings(each).has_gateway(name) for name in there} == there
        lacks = {name: not arbiter_settings(each).lacks(ActionKind.QUEUE, name) for name in there}
        assert lacks == there
    assert arbiter_settings(named).lacks(ActionKind.SCALE_UP, "chat") == "there is no controller for this fleet"


def test_without_a_ledger_no_gateway_is_acted_on() -> None:
    alone = orders().model_copy(update={"endpoints": {}})
    assert arbiter_settings(alone).lacks(ActionKind.QUEUE, "chat")


def test_the_floor_of_requests_is_the_operators() -> None:
    gateways = {"chat": {"url": "http://r", "least_context_tokens": 9000}}
    found = resource_settings(orders(targets=("a.json",), gateways=gateways))
    assert (found.least_tokens("chat"), found.least_tokens("code")) == (9000, 4096)


async def test_each_action_goes_to_whoever_can_do_it() -> None:
    async with proxying() as proxy:
        settings = Settings.from_blob({"targets": ("a.json",), "gateways": {"chat": {"url": proxy.url}}})
        clock = EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), time.time, time.monotonic)
        async with acting_controllers(settings, "", clock) as (controllers, gateways):
            assert set(gateways) == {"chat"}
            queue = action()
            seen = await controllers(queue).observe("chat")
            assert seen.settings["gateway"]["max_in_flight"] == 0
            up = ActionSpec(kind=ActionKind.SCALE_UP, replicas=1, effect=queue.spec.effect)
            for other in (queue.model_copy(update={"workload": "code"}), queue.model_copy(update={"spec": up})):
                with pytest.raises(ConfigError, match="nothing here does"):
                    controllers(other)
