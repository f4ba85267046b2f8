"""A proxy or router that the operator names, over the two requests of `docs/gateway.md`; the twin's own is one too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from connectors.session import HttpSession
from contracts.errors import ConfigError, Conflict
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


class HttpGateway(HttpSession, Gateway):
    """A session with a gateway; an async context manager. `timeout_s` is wall seconds a request.

    Refused connections, late, torn or endless answers, HTTP 408, 429 and 5xx are Unavailable, and so is every answer to
    a write that says neither what stands now nor that it was refused: it may or may not have been taken. HTTP 409 is
    Conflict, another version; a refusal is ConfigError, and whatever else a read is answered.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        fix = "Does it run, and is its address right (gateways)?"
        super().__init__(check_url(url), name="gateway", timeout_s=timeout_s, most_bytes=MOST_BYTES, fix=fix)

    async def read(self, workload: str) -> GatewayState:
        return await self._ask("GET", workload)

    async def write(self, workload: str, limits: Mapping[str, int], *, if_version: int, note: str) -> GatewayState:
        body = {"limits": dict(limits), "if_version": if_version, "note": note}
        return await self._ask("PUT", workload, body)

    async def _ask(self, method: str, workload: str, body: dict[str, Any] | None = None) -> GatewayState:
        status, raw = await self.exchange(method, f"/limits/{quote(workload, safe='')}", body)
        if status == 409:
            raise Conflict("it has another version", where=f"gateway of {workload}", fix="Read it again.")
        if status != 200:
            unknown = status in (408, 429) or status >= 500 or (method == "PUT" and status not in REFUSALS)
            if unknown:
                raise self.away(f"HTTP {status} to {method}")
            fix = "GET and PUT /limits/{workload} are what it must answer (docs/gateway.md)."
            raise ConfigError(f"it answers HTTP {status} to {method}", where=f"gateway of {workload}", fix=fix)
        try:
            told = _Answer.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "its answer"
            raise self.away(f"it answered with something else: {place}: {first['msg']}") from error
        if lacks := [name for name in GATEWAY_LIMITS if name not in told.limits]:
            if method == "PUT":
                raise self.away(f"its answer to PUT has no {', '.join(lacks)}")
            fix = f"Its answer must have {', '.join(GATEWAY_LIMITS)} (docs/gateway.md)."
            raise ConfigError(f"it knows no {', '.join(lacks)}", where=f"gateway of {workload}", fix=fix)
        return GatewayState(told.version, {name: told.limits[name] for name in GATEWAY_LIMITS}, told.note)
