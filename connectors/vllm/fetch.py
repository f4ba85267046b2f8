"""Asks one server for its metrics page over keep-alive HTTP, within limits of time and size."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import aiohttp

MAX_ERROR_CHARS = 500


class FetchError(Exception):
    """No page: a sentence for the snapshot's `error`. The scraper alone catches it."""


def open_session(*, concurrency: int, timeout_s: float, keepalive_s: float) -> aiohttp.ClientSession:
    """A session for all targets. The time-out covers connecting, waiting and reading together.

    Compression is declined: on a local network it costs more CPU than it saves, and a small compressed body may unfold
    to any size. Proxies of the environment, cookies and redirects are not followed: a page comes from its target or not
    at all.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=keepalive_s),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={
            "Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "Accept-Encoding": "identity",
            "User-Agent": "optiinfra-scraper",
        },
    )


async def fetch(session: aiohttp.ClientSession, url: str, *, max_page_bytes: int) -> tuple[bytes, bool]:
    """The page, and whether it calls itself OpenMetrics. Raises FetchError; `max_page_bytes` are never exceeded."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            if 300 <= response.status < 400:
                raise FetchError(f"HTTP {response.status}: redirects are not followed, name the final URL")
            if response.status != 200:
                raise FetchError(f"HTTP {response.status}")
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                raise FetchError(f"the page is compressed ({encoding[:20]}) though plain text was asked for")
            if (response.content_length or 0) > max_page_bytes:
                response.close()
                raise FetchError(_too_large(max_page_bytes, f"it says {response.content_length:,} bytes"))
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > max_page_bytes:
                    response.close()  # the rest is not read, so the connection cannot be used again
                    raise FetchError(_too_large(max_page_bytes, "reading stopped there"))
            return bytes(raw), response.content_type == "application/openmetrics-text"
    except TimeoutError:
        raise FetchError(f"no page within {session.timeout.total:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"{type(error).__name__}: {_reason(error, url)}"[:MAX_ERROR_CHARS]) from None


def _too_large(limit: int, detail: str) -> str:
    return f"page larger than {limit:,} bytes ({detail})"


def _reason(error: Exception, url: str) -> str:
    """What went wrong, without the query of the URL: aiohttp names the URL, or repeats bytes of an answer that do."""
    if isinstance(error, aiohttp.InvalidURL):
        return "nobody can be asked at such a URL"
    if isinstance(error, aiohttp.ClientResponseError):  # `Bad status line: <bytes of the answer>`
        return re.split(r"[:'\"\n]", error.message, maxsplit=1)[0].strip()
    query = urlsplit(url).query
    return str(error).replace(query, "…") if query else str(error)
