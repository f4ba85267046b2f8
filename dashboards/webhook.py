"""Posts signed webhooks by the Standard Webhooks scheme, with bounded retries and nothing of the URL in any word."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from contracts.errors import ConfigError

MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""What the scheme asks of a symmetric secret."""

_AGAIN = (408, 425, 429)
"""Statuses below 500 that may go away by themselves."""


@dataclass(frozen=True)
class Patience:
    """How long delivery is tried; wall seconds. `total_s` bounds all attempts and the waits between them."""

    timeout_s: float = 5.0
    attempts: int = 6
    total_s: float = 60.0
    first_wait_s: float = 1.0
    max_wait_s: float = 20.0


class Undelivered(Exception):
    """Nobody took a webhook; says why without its URL. `again`: another attempt can help. Caught by whoever posts."""

    def __init__(self, words: str, *, again: bool) -> None:
        self.again = again
        super().__init__(words)


class WebhookSender:
    """Posts bodies to one URL. `secret` is base64 of 24 to 64 random bytes, with or without `whsec_` before it. Raises
    ConfigError for a URL or secret that cannot be used.

    A receiver verifies the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, and drops ids that it has
    seen: an answer that is lost makes a second post of the same id. Redirects and proxies of the environment are not
    followed: an alert goes where its settings say or nowhere.
    """

    def __init__(self, url: str, secret: str, patience: Patience, wall_s: Callable[[], float]) -> None:
        self._place, self._signer = _place(url), Webhook(_secret(secret))
        self._url, self._patience, self._wall_s = url, patience, wall_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._patience.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"Content-Type": "application/json", "User-Agent": "optiinfra-alerts"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, message_id: str, body: str) -> None:
        """Returns when the receiver has answered 2xx; raises Undelivered when it did not in time."""
        patience = self._patience
        retrying = AsyncRetrying(
            stop=stop_after_attempt(patience.attempts),
            wait=wait_random_exponential(multiplier=patience.first_wait_s, max=patience.max_wait_s),
            retry=retry_if_exception(lambda error: isinstance(error, Undelivered) and error.again),
            reraise=True,
        )
        last = ["no answer"]
        try:
            async with asyncio.timeout(patience.total_s):
                await retrying(self._post, message_id, body, last)
        except TimeoutError:
            words = f"{self._place}: not taken within {patience.total_s:g} s, last: {last[0]}"
            raise Undelivered(words, again=False) from None
        except Undelivered as error:
            tries = retrying.statistics["attempt_number"]
            words = f"{self._place}: {error} ({tries} {'attempt' if tries == 1 else 'attempts'})"
            raise Undelivered(words, again=False) from None

    async def _post(self, message_id: str, body: str, last: list[str]) -> None:
        """One attempt, signed anew: receivers refuse signatures that are more than minutes old."""
        if self._session is None:
            raise RuntimeError("the sender is not entered")
        now_s = self._wall_s()
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now_s)),
            "webhook-signature": self._signer.sign(message_id, datetime.fromtimestamp(int(now_s), tz=UTC), body),
        }
        try:
            async with self._session.post(
                self._url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except TimeoutError:
            last[0] = f"no answer within {self._patience.timeout_s:g} s"
            raise Undelivered(last[0], again=True) from None
        except (aiohttp.ClientError, OSError) as error:
            last[0] = f"no connection ({type(error).__name__})"  # its text can hold the URL
            raise Undelivered(last[0], again=True) from None
        if not 200 <= status < 300:
            last[0] = f"HTTP {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")
            raise Undelivered(last[0], again=status >= 500 or status in _AGAIN)


def _place(url: str) -> str:
    """Host and port: all of the URL that may be shown, since the rest of it can be a secret."""
    fix = "Set alerts.webhook to a URL such as https://alerts.example.org/optiinfra."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("it cannot be read as a URL", where="alerts.webhook", fix=fix) from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable():
        raise ConfigError("it is no http or https URL", where="alerts.webhook", fix=fix)
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def _secret(secret: str) -> bytes:
    """The key of the signature. The library would take any text for base64, and skip what is none."""
    fix = "Make one: echo whsec_$(openssl rand -base64 32), and give the same to the receiver."
    text = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("it is not base64", where="alerts.secret", fix=fix) from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        size = f"it has {len(key)} bytes; {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} are asked for"
        raise ConfigError(size, where="alerts.secret", fix=fix)
    return key
