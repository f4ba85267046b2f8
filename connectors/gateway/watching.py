"""Tells the platform what gateways let through: reads each now and then, and publishes what anybody has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from contracts.clock import Clock
from contracts.errors import OptiInfraError
from contracts.events import GATEWAY_CHANGE, Alert, FleetEvent, Severity
from contracts.ports import Gateway, GatewayState, Publisher

log = structlog.get_logger(__name__)


TELL_AGAIN_S = 60.0
"""Wall seconds after which what stands is told again, for whoever missed it or believes something else."""
AWAY_AFTER_S = 60.0
"""Wall seconds without an answer after which people are told."""


async def follow_gateways(
    gateways: Mapping[str, Gateway],
    publisher: Publisher,
    clock: Clock,
    stop: asyncio.Event,
    poll_wall_s: float = 2.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Publish the limits of each workload's gateway whenever they are others than those told last, and once a minute,
    until `stop` is set.

    Limits that stand at the beginning are told then; of a gateway at which nothing was ever set nothing is, in the
    first minute. One that is away is asked again; a long silence is an alert, and so is its end.
    """
    async with asyncio.TaskGroup() as group:
        for workload, gateway in gateways.items():
            follower = _Follower(workload, gateway, publisher, clock, monotonic)
            group.create_task(follower.run(stop, poll_wall_s))


class _Follower:
    """Reads the gateway of one workload; a slow one holds up no other. Times in wall seconds."""

    def __init__(
        self, workload: str, gateway: Gateway, publisher: Publisher, clock: Clock, monotonic: Callable[[], float]
    ) -> None:
        self._workload, self._gateway, self._publisher = workload, gateway, publisher
        self._clock, self._monotonic = clock, monotonic
        self._known: GatewayState | None = None
        self._told_s = self._heard_s = monotonic()
        self._away = self._away_told = False

    async def run(self, stop: asyncio.Event, poll_wall_s: float) -> None:
        while not stop.is_set():
            try:
                await self._look()
            except OptiInfraError as error:  # of the publisher: what was not taken is told by the next look
                log.info("gateway_untold", workload=self._workload, error=str(error)[:500])
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), poll_wall_s)

    async def _look(self) -> None:
        at_ms = self._clock.now_ms()
        try:
            state = await self._gateway.read(self._workload)
        except OptiInfraError as error:
            await self._is_away(error)
            return
        now_s = self._monotonic()
        known = self._known or GatewayState(0, state.limits, state.note)
        if state != known or now_s - self._told_s >= TELL_AGAIN_S:
            await self._publisher.publish(event_of(self._workload, state, at_ms))
            self._told_s = now_s
        self._known = state
        await self._is_there(now_s)

    async def _is_away(self, error: OptiInfraError) -> None:
        if not self._away:
            log.warning("gateway_away", workload=self._workload, error=str(error)[:500])
            self._away = True
        away_s = self._monotonic() - self._heard_s
        if away_s >= AWAY_AFTER_S and not self._away_told:
            summary = f"the gateway of {self._workload} has not answered for {away_s:.0f} s: {error}"
            fix = "Does it run? Until it answers nothing is done there, and limits that were set may stand."
            await self._alert("gateway_away", Severity.WARNING, summary, fix)
            self._away_told = True

    async def _is_there(self, now_s: float) -> None:
        away_s = now_s - self._heard_s
        if self._away:
            log.info("gateway_back", workload=self._workload, away_s=round(away_s, 1))
            self._away = False
        if self._away_told:
            summary = f"the gateway of {self._workload} is back after {away_s:.0f} s"
            await self._alert("gateway_back", Severity.INFO, summary, "Nothing needs to be done.")
            self._away_told = False
        self._heard_s = now_s

    async def _alert(self, name: str, severity: Severity, summary: str, fix: str) -> None:
        await self._publisher.publish(
            Alert(
                workload=self._workload,
                name=name,
                severity=severity,
                subject="gateway",
                at_ms=self._clock.now_ms(),
                summary=summary[:2000],
                fix=fix,
            )
        )


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
