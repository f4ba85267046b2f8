"""An HTTP session with one outside system: open within `async with`, and whatever fails on the way is Unavailable."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import aiohttp

from contracts.errors import ConfigError, Unavailable


class HttpSession:
    """A session with `name` at `url`; an async context manager. `timeout_s` is wall seconds a request.

    Proxies of the environment, cookies and redirects are not followed: an order goes where its settings say or nowhere.
    """

    def __init__(self, url: str, *, name: str, timeout_s: float, most_bytes: int, fix: str) -> None:
        self.name, self._url, self._timeout_s, self._most_bytes, self._fix = name, url, timeout_s, most_bytes, fix
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
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

    async def exchange(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """The status and all of the answer, in however many pieces it comes. Raises Unavailable without a whole one in
        time, ConfigError outside `async with`."""
        if self._session is None:
            raise ConfigError(f"the {self.name} is not open", where=self.name, fix="Use it in `async with`.")
        try:
            async with self._session.request(method, self._url + path, json=body, allow_redirects=False) as response:
                return response.status, await self._body(response)
        except TimeoutError as error:
            raise self.away(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self.away(type(error).__name__) from error

    def away(self, what: str) -> Unavailable:
        """The error of a system that cannot be asked now, or that answers with what is no answer."""
        return Unavailable(what, where=self.name, fix=self._fix)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for piece in response.content.iter_any():
            raw += piece
            if len(raw) > self._most_bytes:
                raise self.away(f"an answer of more than {self._most_bytes} bytes")
        return bytes(raw)
