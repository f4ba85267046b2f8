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


class _Answer(BaseModel):
    version: int = Field(ge=0)
    limits: dict[str, Annotated[int, Field(ge=0)]]
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

    Refused connections, late or torn answers and HTTP 5xx are Unavailable: a write may or may not have arrived. HTTP
    409 is Conflict, another version; any other refusal is ConfigError.
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
                status, raw = response.status, await response.content.read(MOST_BYTES)
        except TimeoutError as error:
            raise self._away(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._away(type(error).__name__) from error
        if status >= 500:
            raise self._away(f"HTTP {status}")
        if status == 409:
            raise Conflict("it has another version", where=f"gateway of {workload}", fix="Read it again.")
        if status != 200:
            fix = "GET and PUT /limits/{workload} are what it must answer (docs/gateway.md)."
            raise ConfigError(f"it answers HTTP {status} to {method}", where=f"gateway of {workload}", fix=fix)
        try:
            told = _Answer.model_validate_json(raw)
        except ValidationError as error:
            raise self._away(f"it answered with something else: {error.errors()[0]['msg']}") from error
        if lacks := [name for name in GATEWAY_LIMITS if name not in told.limits]:
            fix = f"Its answer must have {', '.join(GATEWAY_LIMITS)} (docs/gateway.md)."
            raise ConfigError(f"it knows no {', '.join(lacks)}", where=f"gateway of {workload}", fix=fix)
        return GatewayState(told.version, {name: told.limits[name] for name in GATEWAY_LIMITS}, told.note)

    def _away(self, what: str) -> Unavailable:
        return Unavailable(what, where="gateway", fix="Does it run, and is its address right (gateways)?")
