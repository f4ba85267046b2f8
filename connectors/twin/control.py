"""The control port of the twin: look at the fleet, give it orders, break it, mend it, change its load. Not part of
vLLM's face."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import Field

from connectors.twin.actuation import Actuation
from connectors.twin.actuation_routes import ActuationRoutes
from connectors.twin.answers import Body, Empty, errors_as_json, read_body
from connectors.twin.fleet import Fleet
from connectors.twin.gate_routes import GateRoutes, gate_state
from contracts.errors import ConfigError

_BY_HAND = {"drain": "drained", "restore": "restored", "remove": "removed"}
"""Actions that change what a controller manages; the others are faults, and their mending."""


class LoadFactor(Body):
    """Body of `PUT /load/{workload}`: what the workload's rate is multiplied by."""

    factor: float = Field(ge=0, le=1000)


class ResetBody(Body):
    """Body of `reset`: event seconds until the restarted process serves; by default its start-up delay."""

    delay_s: float | None = Field(default=None, ge=0, le=86_400)


class LoseBody(Body):
    """Body of `lose`: event seconds of notice before the machine is taken away."""

    notice_s: float = Field(default=0.0, ge=0, le=86_400)


class SlowBody(Body):
    """Body of `slow`: wall seconds by which pages come later."""

    delay_s: float = Field(ge=0, le=600)


def fleet_state(fleet: Fleet, address_of: Callable[[str], str | None], behind_s: float) -> dict[str, Any]:
    """The whole fleet as plain data: times are event ms, `behind_s` is how far the model trails the clock."""
    replicas = [
        {
            "replica": r.replica_id,
            "workload": r.workload.name,
            "phase": r.phase.value,
            "frozen": r.frozen,
            "drained": r.drained,
            "page_delay_s": r.page_delay_s,
            "address": address_of(r.replica_id),
            "process_started_ms": int(r.process_started_ms),
            "ready_at_ms": int(r.ready_at_ms),
            "requests_running": r.engine.running if r.engine else 0,
            "requests_waiting": r.engine.waiting if r.engine else 0,
            "kv_cache_usage_ratio": round(r.engine.kv.usage_ratio, 6) if r.engine else 0.0,
        }
        for r in fleet.replicas.values()
    ]
    workloads = {
        name: {
            "model": spec.model,
            "load_factor": fleet.loads[name].factor,
            "requests_per_s": round(fleet.loads[name].rate_per_s(fleet.now_ms), 4),
            **vars(fleet.router[name]),
            "gateway": {
                **gate_state(fleet.gates[name]),
                "waiting": fleet.gates[name].waiting,
                **vars(fleet.gates[name].counts),
            },
        }
        for name, spec in fleet.workloads.items()
    }
    return {"now_ms": int(fleet.now_ms), "behind_s": round(behind_s, 3), "workloads": workloads, "replicas": replicas}


class Control:
    """Routes of the control port. `catch_up` advances the fleet to now, `applied` makes the ports follow a command.

    What comes by these routes carries no token: replicas added, drained, restored or removed are changes by hand.
    """

    def __init__(
        self,
        actuation: Actuation,
        state: Callable[[], dict[str, Any]],
        catch_up: Callable[[], Awaitable[float]],
        applied: Callable[[], Awaitable[None]],
    ) -> None:
        self._actuation, self._fleet = actuation, actuation.fleet
        self._state, self._catch_up, self._applied = state, catch_up, applied

    def app(self) -> web.Application:
        """The application to serve on a loopback port."""
        app = web.Application(middlewares=[errors_as_json], client_max_size=64 * 1024)
        app.add_routes(
            [
                web.get("/fleet", self._show),
                web.post("/fleet/{workload}/replicas", self._add),
                web.post("/fleet/{replica}/{action}", self._act),
                web.put("/load/{workload}", self._set_load),
                *ActuationRoutes(self._actuation, self._catch_up, self._applied).routes(),
                *GateRoutes(self._actuation, self._catch_up).routes(),
            ]
        )
        return app

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response(self._state())

    async def _add(self, request: web.Request) -> web.Response:
        await read_body(request, Empty)
        await self._catch_up()
        replica = self._fleet.add_replica(request.match_info["workload"])
        self._actuation.by_hand(replica.workload.name, f"{replica.replica_id} was added by hand")
        self._actuation.progress()
        await self._applied()
        return web.json_response({"replica": replica.replica_id, "phase": replica.phase.value}, status=201)

    async def _act(self, request: web.Request) -> web.Response:
        fleet, replica_id, action = self._fleet, request.match_info["replica"], request.match_info["action"]
        plain = {
            "fail": fleet.fail,
            "freeze": fleet.freeze,
            "thaw": fleet.thaw,
            "drain": fleet.drain,
            "restore": fleet.restore,
            "recover": fleet.recover,
            "remove": fleet.remove,
        }
        known = (*plain, "reset", "slow", "lose")
        if action not in known:
            raise ConfigError(f"no action {action!r}", where="control", fix=f"Actions: {', '.join(known)}.")
        if action == "reset":
            reset = await read_body(request, ResetBody)
            await self._catch_up()
            fleet.reset(replica_id, reset.delay_s)
        elif action == "lose":
            lose = await read_body(request, LoseBody)
            await self._catch_up()
            fleet.lose(replica_id, lose.notice_s)
        elif action == "slow":
            slow = await read_body(request, SlowBody)
            await self._catch_up()
            fleet.slow_page(replica_id, slow.delay_s)
        else:
            await read_body(request, Empty)
            await self._catch_up()
            before = fleet.replica(replica_id).phase
            plain[action](replica_id)
            if action in _BY_HAND and fleet.replicas[replica_id].phase is not before:
                workload = fleet.replicas[replica_id].workload.name
                self._actuation.by_hand(workload, f"{replica_id} was {_BY_HAND[action]} by hand")
        self._actuation.progress()
        await self._applied()
        after = fleet.replicas[replica_id]
        return web.json_response({"replica": replica_id, "phase": after.phase.value, "frozen": after.frozen})

    async def _set_load(self, request: web.Request) -> web.Response:
        load = await read_body(request, LoadFactor)
        await self._catch_up()
        self._fleet.set_load_factor(request.match_info["workload"], load.factor)
        return web.json_response({"workload": request.match_info["workload"], "factor": load.factor})
