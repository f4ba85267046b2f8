"""A small proxy of somebody else, as `docs/gateway.md` describes it: limits under a version, kept beside a note."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Proxy:
    """One workload, `chat`. `late_s` is how long it takes to answer, `broken` what it answers to all reads with a
    status, `mumbles` what to writes that it takes; `heard` are the bodies of all writes, `forgets` those that it is to
    lose the answer of. `in_pieces`: answers to reads come in two; `filled` with so many bytes more."""

    def __init__(self) -> None:
        self.late_s, self.broken, self.forgets, self.mumbles = 0.0, 0, 0, 0
        self.in_pieces, self.filled = False, 0
        self.restarts()
        self.heard: list[dict[str, Any]] = []
        self.url = ""

    def restarts(self) -> None:
        """It forgets all that it was told."""
        self.state: dict[str, Any] = {
            "version": 0,
            "limits": {"max_in_flight": 0, "max_context_tokens": 0, "breaker_until_ms": 0},
            "note": "",
        }

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/limits/{workload}", self._show), web.put("/limits/{workload}", self._set)])
        return app

    async def _show(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.late_s)
        if self.broken:
            return web.Response(status=self.broken)
        if request.match_info["workload"] != "chat":
            return web.Response(status=404)
        if self.in_pieces:
            return await self._by_and_by(request)
        return web.json_response(self.state)

    async def _by_and_by(self, request: web.Request) -> web.StreamResponse:
        answer, raw = web.StreamResponse(), json.dumps(self.state).encode() + b" " * self.filled
        await answer.prepare(request)
        await answer.write(raw[:20])
        await asyncio.sleep(0.05)
        await answer.write(raw[20:])
        return answer

    async def _set(self, request: web.Request) -> web.Response:
        told = await request.json()
        self.heard.append(told)
        if told.get("if_version") not in (None, self.state["version"]):
            return web.json_response(self.state, status=409)
        self.state = {
            "version": self.state["version"] + 1,
            "limits": self.state["limits"] | told["limits"],
            "note": told.get("note", self.state["note"]),
        }
        if self.forgets:
            self.forgets -= 1
            assert request.transport is not None
            request.transport.abort()
        if self.mumbles:
            return web.Response(status=self.mumbles)
        return web.json_response(self.state)


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    """The proxy on a loopback port while the block runs."""
    proxy = Proxy()
    runner = web.AppRunner(proxy.app(), shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        proxy.url = f"http://{host}:{port}"
        yield proxy
    finally:
        await runner.cleanup()
