"""The HTTP face of one replica: the routes that vLLM 0.32 answers, on the replica's own port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from connectors.twin.fleet import Replica
from connectors.twin.page import CONTENT_TYPE, render
from contracts.errors import Conflict

VLLM_VERSION: Final = "0.32.0"
HOST: Final = "127.0.0.1"

_NO_GRACE_S = 0.001
"""A process that dies does not finish its answers. Not zero: aiohttp takes that for no limit."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bind(port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to a loopback port, 0 for any free one; Conflict when somebody has it.

    `shared` sockets of one port coexist (SO_REUSEPORT). That would let a stranger's shared port go unnoticed, so a
    port that is asked for by number is tried unshared first.
    """
    if shared and port:
        bind(port).close()
    return _bind(port, shared=shared)


def _bind(port: int, *, shared: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        raise Conflict(
            f"port {port} is in use ({error.strerror})", where="twin", fix="Choose another port, or 0 for any."
        ) from error
    sock.setblocking(False)
    return sock


class Face:
    """One replica's server: it listens exactly while the replica's process serves.

    A second socket, bound and not listening, holds the port for the replica's whole life: connections are refused
    while the process is away, and nobody else can take its place.
    """

    def __init__(self, replica: Replica, now_ms: Callable[[], Awaitable[float]], port: int = 0) -> None:
        """`now_ms` brings the fleet up to date and tells its time."""
        self.replica, self._now_ms = replica, now_ms
        self._held = bind(port, shared=True)
        self.port: int = self._held.getsockname()[1]
        self.address = f"{HOST}:{self.port}"
        self._runner: web.AppRunner | None = None
        self._process_started_ms = -1.0
        self._thawed = asyncio.Event()

    async def follow(self) -> None:
        """Open, close or reopen the port as the replica's process came and went; a process that died wakes nobody."""
        if self._runner is not None and (
            not self.replica.listens or self._process_started_ms != self.replica.process_started_ms
        ):
            await self._shut()
        if self._runner is None and self.replica.listens:
            await self._listen()
        if self.replica.frozen:
            self._thawed.clear()
        else:
            self._thawed.set()

    async def close(self) -> None:
        """Close the port for good."""
        await self._shut()
        self._held.close()

    async def _listen(self) -> None:
        self._process_started_ms = self.replica.process_started_ms
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_NO_GRACE_S, handler_cancellation=True)
        await runner.setup()
        listener = _bind(self.port, shared=True)
        await web.SockSite(runner, listener).start()
        self._runner = runner

    async def _shut(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_fastapi_errors, self._hang])
        app.on_response_prepare.append(_as_uvicorn)
        app.add_routes(
            [
                web.get("/metrics", self._metrics, allow_head=False),
                web.get("/health", self._empty, allow_head=False),
                web.get("/ping", self._empty, allow_head=False),
                web.post("/ping", self._empty),
                web.get("/version", self._version, allow_head=False),
                web.get("/v1/models", self._models, allow_head=False),
                web.get("/load", self._load, allow_head=False),
                *(web.post(path, self._no_inference) for path in ("/v1/chat/completions", "/v1/completions")),
            ]
        )
        return app

    @web.middleware
    async def _hang(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self._thawed.wait()
        return await handler(request)

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.replica.page_delay_s > 0:
            await asyncio.sleep(self.replica.page_delay_s)
            await self._thawed.wait()
        now_ms = await self._now_ms()
        if self.replica.engine is None:
            # The process died while this page was due: the connection is cut, not answered.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return web.Response(body=render(self.replica, now_ms), headers={"Content-Type": CONTENT_TYPE})

    async def _empty(self, _: web.Request) -> web.Response:
        return web.Response(status=200, headers={"Content-Length": "0"})

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": VLLM_VERSION})

    async def _load(self, _: web.Request) -> web.Response:
        return _json({"server_load": self.replica.engine.outstanding if self.replica.engine else 0})

    async def _models(self, _: web.Request) -> web.Response:
        self.replica.models_listed += 1
        name, created_s = self.replica.workload.model, int(await self._now_ms() / 1000)
        grants = ("sampling", "logprobs", "view")
        refusals = ("create_engine", "search_indices", "fine_tuning")
        permission = {
            "id": f"modelperm-{self.replica.replica_id}",
            "object": "model_permission",
            "created": created_s,
            **{f"allow_{what}": what in grants for what in (*grants, *refusals)},
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        model = {
            "id": name,
            "object": "model",
            "created": created_s,
            "owned_by": "vllm",
            "root": name,
            "parent": None,
            "max_model_len": self.replica.workload.engine.max_model_len,
            "permission": [permission],
        }
        return _json({"object": "list", "data": [model]})

    async def _no_inference(self, _: web.Request) -> web.Response:
        """Here the twin shows what it is: it has no model to answer with."""
        message = "This is a simulated replica: its requests come from the twin's own load, and it generates no text."
        error = {"message": message, "type": "ServiceUnavailableError", "param": None, "code": 503}
        return _json({"error": error}, status=503)


async def _as_uvicorn(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "uvicorn"


@web.middleware
async def _fastapi_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Unknown paths and methods are answered in FastAPI's words."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _json({"detail": "Not Found"}, status=404)
    except web.HTTPMethodNotAllowed as error:
        allow = ", ".join(sorted(error.allowed_methods))
        return _json({"detail": "Method Not Allowed"}, status=405, headers={"Allow": allow})


def _json(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON as Starlette sends it: compact, and without a charset."""
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})
