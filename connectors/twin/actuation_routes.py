"""The routes of the control port that a controller uses, and those that make it fail on command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web
from pydantic import Field

from connectors.twin.actuation import Actuation
from connectors.twin.answers import Body, read_body
from connectors.twin.orders import CannotDo, Faults, Told
from contracts.events import StepKind
from contracts.events.base import Name
from contracts.ports import StepReport


class CheckBody(Body):
    """Body of `check`: what would be done, and to which replica (none for `add` and `weigh`); engine settings for
    `retune`, shares of requests for `weigh`."""

    kind: StepKind
    subject: str = Field(default="", max_length=200)
    settings: dict[Name, float] = Field(default={}, max_length=50)
    by_replica: dict[Name, float] = Field(default={}, max_length=1000)

    @property
    def told(self) -> Told:
        """What is said of the settings and shares."""
        return Told(settings=self.settings, by_replica=self.by_replica)


class ApplyBody(CheckBody):
    """Body of `apply`."""

    token: Name
    fence: int = Field(ge=0)


class UndoBody(ApplyBody):
    """Body of `undo`: `done_token` is what the order that is taken back was given under."""

    done_token: Name


class ActuationRoutes:
    """`catch_up` advances the fleet to now, `applied` makes the ports follow what was done."""

    def __init__(
        self, actuation: Actuation, catch_up: Callable[[], Awaitable[float]], applied: Callable[[], Awaitable[None]]
    ) -> None:
        self._actuation, self._catch_up, self._applied = actuation, catch_up, applied

    def routes(self) -> list[web.RouteDef]:
        """Fixed paths come before those with a workload in them."""
        return [
            web.get("/actuation/effects", self._effects),
            web.get("/actuation/notices", self._notices),
            web.put("/actuation/faults", self._set_faults),
            web.get("/actuation/tokens/{token}", self._inspect),
            web.get("/actuation/{workload}", self._observe),
            web.post("/actuation/{workload}/check", self._check),
            web.post("/actuation/{workload}/apply", self._apply),
            web.post("/actuation/{workload}/undo", self._undo),
        ]

    async def _effects(self, _: web.Request) -> web.Response:
        await self._catch_up()
        return web.json_response({"effects": self._actuation.effects()})

    async def _notices(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise CannotDo(f"after={after!r} is no number", fix="Give the number of the last notice you have seen.")
        found = self._actuation.notices(int(after))
        notices = [notice.model_dump(mode="json") for notice in found]
        return web.json_response({"newest": self._actuation.newest_notice, "notices": notices})

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._actuation.faults = await read_body(request, Faults)
        return web.json_response(self._actuation.faults.model_dump(mode="json"))

    async def _inspect(self, request: web.Request) -> web.Response:
        await self._catch_up()
        return _told(self._actuation.inspect(request.match_info["token"]))

    async def _observe(self, request: web.Request) -> web.Response:
        await self._catch_up()
        return web.json_response(asdict(self._actuation.observe(request.match_info["workload"])))

    async def _check(self, request: web.Request) -> web.Response:
        body = await read_body(request, CheckBody)
        await self._catch_up()
        problem = self._actuation.check(request.match_info["workload"], body.kind, body.subject, body.told)
        return web.json_response({"problem": problem})

    async def _apply(self, request: web.Request) -> web.Response:
        body = await read_body(request, ApplyBody)

        def order() -> StepReport:
            workload = request.match_info["workload"]
            return self._actuation.apply(workload, body.kind, body.subject, body.token, body.fence, body.told)

        return await self._ordered(request, order)

    async def _undo(self, request: web.Request) -> web.Response:
        body = await read_body(request, UndoBody)

        def order() -> StepReport:
            workload = request.match_info["workload"]
            names = (body.subject, body.done_token, body.token)
            return self._actuation.undo(workload, body.kind, *names, body.fence, body.told)

        return await self._ordered(request, order)

    async def _ordered(self, request: web.Request, order: Callable[[], StepReport]) -> web.Response:
        """Take an order, with the faults that are told to strike its answer."""
        await self._catch_up()
        if self._actuation.spend("fail"):
            raise web.HTTPInternalServerError(reason="told to fail")
        report = order()
        cut = self._actuation.spend("drop_answer")
        await self._applied()
        if self._actuation.faults.answer_delay_s:
            await asyncio.sleep(self._actuation.faults.answer_delay_s)
        if cut and request.transport is not None:
            request.transport.abort()
        return _told(report)


def _told(report: StepReport) -> web.Response:
    return web.json_response(asdict(report))
