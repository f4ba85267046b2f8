"""The gateway's part of the control port: its limits by the protocol of `docs/gateway.md`, and a page of metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from connectors.twin.actuation import Actuation
from connectors.twin.answers import Body, read_body
from connectors.twin.fleet import Fleet
from connectors.twin.gate import Gate
from contracts.events.base import Name

_PAGE_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class LimitsBody(Body):
    """Body of `PUT /limits/{workload}`. Limits not named stay; without `if_version` it is set whatever the version."""

    limits: dict[Name, Annotated[int, Field(ge=0, le=10**15)]] = Field(max_length=10)
    if_version: int | None = Field(default=None, ge=0)
    note: str | None = None


def gate_state(gate: Gate) -> dict[str, Any]:
    """What `GET /limits/{workload}` answers."""
    return {"version": gate.state.version, "limits": dict(gate.state.limits), "note": gate.state.note}


class GateRoutes:
    """`catch_up` advances the fleet to now; what is set is kept by `actuation` before it is answered."""

    def __init__(self, actuation: Actuation, catch_up: Callable[[], Awaitable[float]]) -> None:
        self._actuation, self._catch_up = actuation, catch_up

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/limits/{workload}", self._show),
            web.put("/limits/{workload}", self._set),
            web.get("/metrics", self._metrics),
        ]

    def _gate(self, request: web.Request) -> Gate:
        fleet = self._actuation.fleet
        return fleet.gates[fleet.workload(request.match_info["workload"]).name]

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(gate_state(self._gate(request)))

    async def _set(self, request: web.Request) -> web.Response:
        gate, told = self._gate(request), await read_body(request, LimitsBody)
        await self._catch_up()
        gate.set(told.limits, if_version=told.if_version, note=told.note)
        self._actuation.progress()
        return web.json_response(gate_state(gate))

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._catch_up()
        return web.Response(body=page(self._actuation.fleet).encode(), headers={"Content-Type": _PAGE_TYPE})


def page(fleet: Fleet) -> str:
    """What the gateways count and let through, as Prometheus reads it."""
    requests, waiting, limits = [], [], []
    for name, gate in fleet.gates.items():
        counts = {"sent": fleet.router[name].sent, **vars(gate.counts)}
        requests += [f'gateway_requests_total{{result="{what}",workload="{name}"}} {n}' for what, n in counts.items()]
        waiting.append(f'gateway_requests_waiting{{workload="{name}"}} {gate.waiting}')
        limits += [f'gateway_limit{{limit="{what}",workload="{name}"}} {n}' for what, n in gate.state.limits.items()]
    families = (
        ("gateway_requests_total", "counter", "Requests, by what became of them.", requests),
        ("gateway_requests_waiting", "gauge", "Requests that wait before the gateway.", waiting),
        ("gateway_limit", "gauge", "What is let through at most; 0 is no limit.", limits),
    )
    heads = (f"# HELP {name} {doc}\n# TYPE {name} {kind}\n" + "\n".join(lines) for name, kind, doc, lines in families)
    return "\n".join(heads) + "\n"
