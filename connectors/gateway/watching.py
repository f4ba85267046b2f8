"""Tells the platform what gateways let through: reads each now and then, and publishes what anybody has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from contracts.clock import Clock
from contracts.errors import OptiInfraError
from contracts.events import GATEWAY_CHANGE, FleetEvent
from contracts.ports import Gateway, GatewayState, Publisher

log = structlog.get_logger(__name__)


async def follow_gateways(
    gateways: Mapping[str, Gateway], publisher: Publisher, clock: Clock, stop: asyncio.Event, poll_wall_s: float = 2.0
) -> None:
    """Publish the limits of each workload's gateway whenever they are others than those told last, until `stop` is set.

    Limits that stand at the beginning are told then; of a gateway at which nothing was ever set nothing is. One that is
    away is asked again.
    """
    known: dict[str, GatewayState] = {}
    while not stop.is_set():
        for workload, gateway in gateways.items():
            at_ms = clock.now_ms()
            try:
                state = await gateway.read(workload)
                if state != known.get(workload, GatewayState(0, state.limits, state.note)):
                    await publisher.publish(event_of(workload, state, at_ms))
                known[workload] = state
            except OptiInfraError as error:
                log.info("gateway_unheard", workload=workload, error=str(error)[:500])
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), poll_wall_s)


def event_of(workload: str, state: GatewayState, at_ms: int) -> FleetEvent:
    """What stands at a gateway as the event that stages read; its number is the version."""
    limits = dict(state.limits)
    told = ", ".join(f"{name} {value}" for name, value in limits.items())
    return FleetEvent(
        workload=workload,
        name=GATEWAY_CHANGE,
        number=state.version,
        at_ms=at_ms,
        summary=f"the gateway has {told}, version {state.version}",
        limits=limits,
    )
