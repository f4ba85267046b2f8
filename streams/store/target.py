"""Where the rows live: a directory with the embedded engine, or a ClickHouse server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from contracts.errors import ConfigError
from streams.store.schema import DATABASE

_NATIVE_PORTS = {9000: 8123, 9440: 8443}


@dataclass(frozen=True)
class Embedded:
    """chDB on a directory of its own. One process at a time: the engine locks the directory."""

    path: Path

    @property
    def where(self) -> str:
        """What errors and `/health` call it."""
        return str(self.path)


@dataclass(frozen=True)
class Server:
    """A ClickHouse server's HTTP interface. The password shows in no text that we make."""

    host: str
    port: int
    secure: bool
    username: str = "default"
    password: str = ""

    @property
    def where(self) -> str:
        """What errors and `/health` call it."""
        return f"http{'s' if self.secure else ''}://{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Server({self.where!r})"


Target = Embedded | Server


def parse_dsn(dsn: str) -> Server:
    """Read `http[s]://user:password@host[:port]`, or `clickhouse[s]://…` for the same. Raises ConfigError.

    >>> parse_dsn("https://me:secret@db.example").where
    'https://db.example:8443'
    """
    fix = "Write it as http://user:password@host:8123, or https://… for TLS (port 8443)."
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a ClickHouse DSN: {error}", fix=fix) from error
    if parts.scheme not in ("http", "https", "clickhouse", "clickhouses") or not parts.hostname:
        raise ConfigError("not a ClickHouse DSN: no http(s) scheme or no host", fix=fix)
    if parts.path.strip("/") not in ("", DATABASE) or parts.query or parts.fragment:
        raise ConfigError(f"a DSN names a server; the database is always {DATABASE!r}", fix=fix)
    if port in _NATIVE_PORTS:
        raise ConfigError(f"{port} is the port of ClickHouse's native protocol", fix=f"Use {_NATIVE_PORTS[port]}.")
    secure = parts.scheme in ("https", "clickhouses")
    return Server(
        host=parts.hostname,
        port=port or (8443 if secure else 8123),
        secure=secure,
        username=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
    )
