"""The store child: the one process that owns the store, and serves named queries and inserts on loopback HTTP.

    POST /insert/{table}    newline-delimited JSON rows, all or nothing  -> {"inserted": n}
    GET  /query/{name}?…    a named query, parameters in the URL         -> {"rows": [{…}, …]}
    GET  /queries           the list: doc, parameters, columns
    GET  /health            engine, rows of each table (repeats until merged); 503 while the store is away

Errors are `{"error", "fix", "reason"}`: 404 unknown name, 400 bad parameters, 413 too large, 422 rows that the store
refuses for their content, 503 the store is away. 200 means synced to disk: what was not inserted is never acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog
from aiohttp import web

from contracts.errors import BadMessage, ConfigError, Conflict, OptiInfraError, Unavailable
from streams.store.engine import Engine
from streams.store.queries import QUERIES, did_you_mean, resolve
from streams.store.rows import MAX_BODY_BYTES, NDJSON, columns_of, read_ndjson
from streams.store.schema import TABLES
from streams.store.target import Embedded, Server, Target

log = structlog.get_logger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost")

T = TypeVar("T")


class StoreChild:
    """The engine behind a queue of one thread: chDB calls block, and one thread keeps them in order."""

    def __init__(self, target: Target) -> None:
        self.engine = Engine(target)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` on the engine's thread. A caller that goes away does not stop it: inserts can be repeated."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Finish what runs, close the engine, end the thread."""
        await self.call(self.engine.close)
        self._thread.shutdown()

    async def insert(self, request: web.Request) -> web.Response:
        """POST /insert/{table}."""
        # A content type that no HTML form can send: a web page open on this machine cannot write to the store.
        if request.content_type != NDJSON:
            return _error(415, ConfigError(f"Content-Type is {request.content_type}", fix=f"Send {NDJSON}."))
        table = request.match_info["table"]
        if table not in TABLES:
            return _error(404, ConfigError(f"unknown table {table!r}", fix=did_you_mean(table, TABLES)))
        body = await request.read()

        def work() -> int:
            rows = read_ndjson(body)
            if rows:
                self.engine.insert(table, columns_of(table, rows))
            return len(rows)

        return web.json_response({"inserted": await self.call(work)})

    async def query(self, request: web.Request) -> web.Response:
        """GET /query/{name}."""
        name = request.match_info["name"]
        if name not in QUERIES:
            return _error(404, ConfigError(f"unknown query {name!r}", fix=did_you_mean(name, QUERIES)))
        query, params = resolve(name, dict(request.query))
        return web.json_response({"rows": await self.call(lambda: self.engine.query(query, params))})

    async def queries(self, _: web.Request) -> web.Response:
        """GET /queries."""
        told = [
            {
                "name": query.name,
                "doc": query.doc,
                "params": [
                    {"name": p.name, "type": p.kind.__name__, "default": p.default, "doc": p.doc} for p in query.params
                ],
                "columns": query.columns,
            }
            for query in QUERIES.values()
        ]
        return web.json_response({"queries": told, "tables": {table.name: table.doc for table in TABLES.values()}})

    async def health(self, _: web.Request) -> web.Response:
        """GET /health."""
        sizes = await self.call(lambda: self.engine.query(*resolve("sizes", {})))
        rows = {str(row["table"]): row["rows"] for row in sizes}
        return web.json_response(
            {
                "status": "ok",
                "engine": self.engine.describe(),
                "embedded": isinstance(self.engine.target, Embedded),
                "where": self.engine.target.where,
                "rows": {table: rows.get(table, 0) for table in TABLES},
                "pid": os.getpid(),
            }
        )

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guard])
        app.add_routes(
            [
                web.post("/insert/{table}", self.insert),
                web.get("/query/{name}", self.query),
                web.get("/queries", self.queries),
                web.get("/health", self.health),
            ]
        )
        return app


def _error(status: int, error: OptiInfraError) -> web.Response:
    told = {"error": error.message, "fix": error.fix}
    if isinstance(error, BadMessage):
        told = {"error": error.detail, "fix": "", "reason": error.reason.value}
    return web.json_response(told, status=status)


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn our errors into answers; turn away requests that were lured here by a name that resolves to loopback."""
    if request.url.host not in _LOOPBACK:
        return _error(403, ConfigError("this address is for this machine alone", fix="Use http://127.0.0.1:<port>."))
    try:
        return await handler(request)
    except BadMessage as error:
        return _error(422, error)
    except ConfigError as error:
        return _error(400, error)
    except (Unavailable, Conflict) as error:
        log.warning("store_away", error=str(error))
        return _error(503, error)


async def run_store(
    *, target: Target, port: int, ready_file: Path | None = None, stop: asyncio.Event | None = None
) -> None:
    """Own the store at `target` and serve it on 127.0.0.1:`port` (0 for any) until SIGTERM, or `stop`, or cancelled.

    `ready_file` gets `{"url", "pid"}` once requests are answered. An embedded store that does not open raises what
    `Engine.open` raises; a server that is away does not: the child answers 503 until it is back. Raises Conflict when
    the port is taken.
    """
    stop = stop or _stop_on_signal()
    child = StoreChild(target)
    runner = web.AppRunner(child.app(), access_log=None)
    try:
        try:
            await child.call(child.engine.open)
        except Unavailable as error:
            if not isinstance(target, Server):
                raise
            log.warning("store_away", error=str(error))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise Conflict(
                f"port {port} is taken: {error.strerror}",
                where="store",
                fix="Stop what listens there, or move the store.",
            ) from error
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        if ready_file is not None:
            _write_ready(ready_file, url)
        log.info("store_ready", url=url, engine=child.engine.describe())
        await stop.wait()
    finally:
        await runner.cleanup()
        await child.close()


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _write_ready(path: Path, url: str) -> None:
    """Written beside and moved into place: who sees the file sees all of it."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    fresh.replace(path)
