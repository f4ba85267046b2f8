"""A proxy or router that the operator names, over the two requests of `docs/gateway.md`; the twin's own is one too."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.ports import GATEWAY_LIMITS, Gateway, GatewayState

MOST_BYTES = 64 * 1024
"""More than any answer by the protocol has."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 422})
"""Answers to a write by which it surely was not taken, beside 409. Of all others but 200 nobody knows."""
_Count = Annotated[int, Field(ge=0, le=10**15)]


class _Answer(BaseModel):
    version: _Count
    limits: dict[str, _Count]
    note: str = ""


def check_url(url: str) -> str:
    """The address without a slash at its end. Raises ConfigError for what is none."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise ConfigError("not an address of a gateway", where="gateway", fix="Give http://host:port, or with a path.")
    return url.rstrip("/")


class HttpGateway(Gateway):
    """A session with a gateway; an async context manager. `timeout_s` is wall seconds a request.

    Refused connections, late, torn or endless answers, HTTP 408, 429 and 5xx are Unavailable, and so is every answer to
    a write that says neither what stands now nor that it was refused: it may or may not have been taken. HTTP 409 is
    Conflict, another version; a refusal is ConfigError, and whatever else a read is answered.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self._url, self._timeout_s = check_url(url), timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpGateway:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def read(self, workload: str) -> GatewayState:
        return await self._ask("GET", workload)

    async def write(self, workload: str, limits: Mapping[str, int], *, if_version: int, note: str) -> GatewayState:
        body = {"limits": dict(limits), "if_version": if_version, "note": note}
        return await self._ask("PUT", workload, body)

    async def _ask(self, method: str, workload: str, body: dict[str, Any] | None = None) -> GatewayState:
        if self._session is None:
            raise ConfigError("the gateway is not open", where="gateway", fix="Use it in `async with`.")
        path = f"{self._url}/limits/{quote(workload, safe='')}"
        try:
            async with self._session.request(method, path, json=body, allow_redirects=False) as response:
                status, raw = response.status, await self._body(response)
        except TimeoutError as error:
            raise self._away(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._away(type(error).__name__) from error
        if status == 409:
            raise Conflict("it has another version", where=f"gateway of {workload}", fix="Read it again.")
        if status != 200:
            unknown = status in (408, 429) or status >= 500 or (method == "PUT" and status not in REFUSALS)
            if unknown:
                raise self._away(f"HTTP {status} to {method}")
            fix = "GET and PUT /limits/{workload} are what it must answer (docs/gateway.md)."
            raise ConfigError(f"it answers HTTP {status} to {method}", where=f"gateway of {workload}", fix=fix)
        try:
            told = _Answer.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "its answer"
            raise self._away(f"it answered with something else: {place}: {first['msg']}") from error
        if lacks := [name for name in GATEWAY_LIMITS if name not in told.limits]:
            if method == "PUT":
                raise self._away(f"its answer to PUT has no {', '.join(lacks)}")
            fix = f"Its answer must have {', '.join(GATEWAY_LIMITS)} (docs/gateway.md)."
            raise ConfigError(f"it knows no {', '.join(lacks)}", where=f"gateway of {workload}", fix=fix)
        return GatewayState(told.version, {name: told.limits[name] for name in GATEWAY_LIMITS}, told.note)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """All of an answer, in however many pieces it comes."""
        raw = bytearray()
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) > MOST_BYTES:
                raise self._away(f"an answer of more than {MOST_BYTES} bytes")
        return bytes(raw)

    def _away(self, what: str) -> Unavailable:
        return Unavailable(what, where="gateway", fix="Does it run, and is its address right (gateways)?")
