"""The store as everybody but its owner sees it: the store child's HTTP face behind the `Store` port."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, cast

import aiohttp

from contracts.errors import BadMessage, ConfigError, Reason, Unavailable
from contracts.ports import Row, Scalar
from streams.store.rows import NDJSON, to_ndjson

_FIX = "Is the store child running? `optiinfra status` tells; the supervisor restarts it."
_NOT_ON_THE_LIST = (400, 403, 404, 415)


class HttpStore:
    """Implements `contracts.ports.Store` against the store child at `url` (`http://127.0.0.1:<port>`).

    Beyond the port: `insert` raises BadMessage(STORE_REFUSED) for rows that the store refuses for their content, so
    that the caller can find the bad one. One session, made on first use in the running loop; `close()` it, or use
    `async with`.
    """

    def __init__(self, url: str, *, insert_timeout_s: float = 60.0, query_timeout_s: float = 20.0) -> None:
        self.url = url.rstrip("/")
        self._insert_timeout = aiohttp.ClientTimeout(total=insert_timeout_s, connect=5)
        self._query_timeout = aiohttp.ClientTimeout(total=query_timeout_s, connect=5)
        self._session: aiohttp.ClientSession | None = None

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert all of the rows or none; returns when they are on disk."""
        if not rows:
            return
        body = io.BytesIO(to_ndjson(rows))  # aiohttp sends a file in pieces, and warns of large bytes
        answer = await self._call(
            "POST",
            f"/insert/{table}",
            self._insert_timeout,
            data=body,
            headers={"Content-Type": NDJSON},
        )
        if answer.get("inserted") != len(rows):
            raise Unavailable("what answers is not the store", where=self.url, fix=_FIX)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        """Rows of a named query; None leaves a parameter to its default."""
        given = {key: str(value) for key, value in params.items() if value is not None}
        answer = await self._call("GET", f"/query/{name}", self._query_timeout, params=given)
        return cast("list[dict[str, Scalar]]", answer.get("rows", []))

    async def health(self) -> dict[str, Any]:
        """What the store says of itself: engine, embedded or not, rows of each table. Raises Unavailable."""
        return await self._call("GET", "/health", self._query_timeout)

    async def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: str, path: str, limit: aiohttp.ClientTimeout, **more: Any) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.request(method, self.url + path, timeout=limit, **more) as response:
                status, body = response.status, await response.read()
        except TimeoutError as error:
            raise Unavailable("no answer in time", where=self.url, fix=_FIX) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"no connection: {error}", where=self.url, fix=_FIX) from error
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"what answers is not the store (HTTP {status})", where=self.url, fix=_FIX)
        if status == 200:
            return answer
        message, fix = str(answer.get("error", f"HTTP {status}")), str(answer.get("fix", ""))
        if status == 422:
            raise BadMessage(Reason.STORE_REFUSED, message)
        if status in _NOT_ON_THE_LIST:
            raise ConfigError(message, where=path.lstrip("/"), fix=fix)
        raise Unavailable(message, where=self.url, fix=fix or _FIX)
