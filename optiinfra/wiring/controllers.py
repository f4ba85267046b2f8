"""Who carries out what is decided: the controller of the simulated fleet, and the gateways before replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from contracts.clock import Clock
from contracts.errors import ConfigError
from contracts.events import Action
from contracts.ports import Controller, Gateway
from optiinfra.settings import Settings
from optiinfra.wiring.common import twin_workloads

if TYPE_CHECKING:
    from agents.carrying import Controllers


@asynccontextmanager
async def acting_controllers(
    settings: Settings, twin_url: str, clock: Clock
) -> AsyncIterator[tuple[Controllers, Mapping[str, Gateway]]]:
    """Who does what: the gateway of a workload what is to be done there, the simulated fleet's controller the rest. And
    the gateways by workload. `twin_url` is empty with targets of one's own."""
    from connectors.gateway.client import HttpGateway
    from connectors.gateway.controller import GatewayController
    from connectors.twin.controller import TwinController

    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(TwinController(twin_url)) if twin_url else None
        gateways: dict[str, Gateway] = {
            name: await stack.enter_async_context(HttpGateway(each.url, timeout_s=each.timeout_s))
            for name, each in settings.gateways.items()
        }
        if twin_url:
            own = await stack.enter_async_context(HttpGateway(twin_url))
            gateways |= {spec.name: own for spec in twin_workloads(settings)}

        def of(action: Action) -> Controller:
            if action.spec.kind.gateway_setting and (gateway := gateways.get(action.workload)) is not None:
                return GatewayController(gateway, action.workload, clock.now_ms)
            if action.spec.kind.gateway_setting or fleet is None:
                what = f"nothing here does a {action.spec.kind} of {action.workload}"
                raise ConfigError(what, where=action.target, fix="Name its gateway under gateways in optiinfra.yaml.")
            return fleet

        yield of, gateways
