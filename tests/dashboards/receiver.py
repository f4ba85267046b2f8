"""A loopback receiver of webhooks: it checks signatures with a library of its own, and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

Reaction = Callable[[web.Request], Awaitable[web.StreamResponse]]

OVER = web.AppKey("over", asyncio.Event)


class Receiver:
    """Reacts in turn, the last one for ever. `taken` holds the verified bodies, `seen` every request: its headers and
    its raw body."""

    def __init__(self, *reactions: Reaction) -> None:
        self._reactions = [*reactions]
        self._over = asyncio.Event()
        self.arrived = asyncio.Event()
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app[OVER] = self._over
        app.add_routes([web.post("/hook/t0ken", self._take)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/hook/t0ken"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.seen.append((dict(request.headers), raw))
        self.arrived.set()
        reaction = self._reactions.pop(0) if len(self._reactions) > 1 else self._reactions[0]
        answer = await reaction(request)
        if 200 <= answer.status < 300:
            self.taken.append(Webhook(SECRET).verify(raw, dict(request.headers)))
        return answer


def answers(status: int, **headers: str) -> Reaction:
    """This status."""

    async def react(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return react


def hangs() -> Reaction:
    """Says nothing until the test is over."""

    async def react(request: web.Request) -> web.StreamResponse:
        await request.app[OVER].wait()
        return web.Response(status=500)

    return react


def closes() -> Reaction:
    """Cuts the connection without an answer."""

    async def react(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    return react
