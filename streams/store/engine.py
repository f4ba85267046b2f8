"""The one place that touches ClickHouse: opens the embedded engine or a server, keeps the schema, inserts and asks.

Both speak through the same client library (`clickhouse-connect`), so there is one code path and two ways to open it.
The embedded way is what the tests run. The server way has been run against ports that refuse or talk nonsense, **not
against a live ClickHouse server**: it is `get_client(host, port, …)` and not a line more.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from contracts.errors import BadMessage, ConfigError, Conflict, Reason, Unavailable
from contracts.ports import Scalar
from streams.store.queries import Query
from streams.store.schema import BOOTSTRAP, DATABASE, MIGRATIONS, SCHEMA_VERSION, TABLES, VERSIONS_TABLE
from streams.store.target import Embedded, Target

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_EXTRA = "Install it: pip install 'optiinfra[store]'."

# A query that runs wild must not starve inserts (they share one thread) nor the machine. Asynchronous inserts, the
# default of newer servers, would buffer in memory what we have yet to write; a batch may span any number of months.
_SETTINGS: dict[str, Any] = {
    "max_execution_time": 15,
    "max_memory_usage": 2 * 1024**3,
    "async_insert": 0,
    "max_partitions_per_insert_block": 0,
}

_CONTENT_CODES = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 407, 469})
"""ClickHouse error codes that speak of the data (cannot parse, out of range, constraint violated): the same rows
would fail again. Anything else speaks of the engine, and is worth another try."""


class Engine:
    """An open store. Every method blocks: call them from one thread, never the event loop's."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._client: Client | None = None

    def open(self) -> None:
        """Connect and bring the schema up to date; nothing happens where it is open already.

        Raises Unavailable (extra missing, server away, engine broken), Conflict (somebody else has the path), or
        ConfigError (the store was written by a later version).
        """
        self._opened()

    def _opened(self) -> Client:
        if self._client is not None:
            return self._client
        client = self._connect()
        try:
            _migrate(client)
        except ConfigError:
            client.close()
            raise
        except Exception as error:
            client.close()
            raise self._away(error) from error
        self._client = client
        return client

    def close(self) -> None:
        """Let go of the path, so that the next owner can open it."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def describe(self) -> str:
        """What this is, in a person's words; says when it is embedded."""
        version = self._client.server_version if self._client else "not open"
        if isinstance(self.target, Embedded):
            return f"embedded (chDB {version}) in {self.target.where}"
        return f"ClickHouse {version} at {self.target.where}"

    def insert(self, table: str, columns: list[list[Any]]) -> None:
        """Insert columns as `rows.columns_of` makes them, all or nothing; synced to disk on return.

        Raises BadMessage(STORE_REFUSED) where the data is at fault, Unavailable where the engine is.
        """
        client = self._opened()
        found = TABLES[table]
        names = [column.name for column in found.columns]
        types = [column.type for column in found.columns]
        try:
            client.insert(found.full_name, columns, column_names=names, column_type_names=types, column_oriented=True)
        except Exception as error:  # the client library raises its own, urllib3's, OSError and ValueError here
            if type(error).__name__ == "DataError" or getattr(error, "code", None) in _CONTENT_CODES:
                raise BadMessage(Reason.STORE_REFUSED, _told(error)) from error
            raise self._away(error) from error

    def query(self, query: Query, params: Mapping[str, str | int]) -> list[dict[str, Scalar]]:
        """Rows of a named query, its values bound by the engine. Raises Unavailable."""
        client = self._opened()
        try:
            result = client.query(query.sql, parameters=dict(params))
        except Exception as error:
            raise self._away(error) from error
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def _connect(self) -> Client:
        try:
            import clickhouse_connect

            if isinstance(self.target, Embedded):
                import chdb  # noqa: F401 - the client library imports it too, with a message of its own
        except ImportError as error:
            raise Unavailable(f"the store needs the package {error.name!r}", fix=_EXTRA) from error
        # It logs every failed insert with a stack trace; we raise, and whoever catches logs once.
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
        target = self.target
        try:
            if isinstance(target, Embedded):
                target.path.mkdir(parents=True, exist_ok=True)
                return clickhouse_connect.get_client(interface="chdb", path=str(target.path), settings=_SETTINGS)
            return clickhouse_connect.get_client(
                host=target.host,
                port=target.port,
                interface="https" if target.secure else "http",
                username=target.username,
                password=target.password,
                settings=_SETTINGS,
                connect_timeout=5,
                send_receive_timeout=30,
                autogenerate_session_id=False,
            )
        except Exception as error:
            raise self._conflict() or self._away(error) from error

    def _conflict(self) -> Conflict | None:
        """Whoever has the embedded path: the engine says only that it did not start, its status file holds the pid
        and is locked (flock) for as long as the owner lives."""
        if not isinstance(self.target, Embedded):
            return None
        pid: int | None = None
        with suppress(OSError), (self.target.path / "status").open() as status:
            try:
                fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                first = status.readline().removeprefix("PID:").strip()
                pid = int(first) if first.isdigit() else -1
        if pid is None:
            return None
        who = f"process {pid}" if pid > 0 else "another process"
        with suppress(psutil.Error):
            who += f" ({psutil.Process(pid).name()})" if pid > 0 else ""
        return Conflict(
            f"the store is open in {who}",
            where=self.target.where,
            fix=f"One process owns it. Stop that one (kill {pid}), or choose another state directory.",
        )

    def _away(self, error: Exception) -> Unavailable:
        if isinstance(self.target, Embedded):
            fix = "Is the disk full, or the directory not ours? `df -h` and `ls -ld` on it tell."
        else:
            fix = "Is the server up, and are host, port, user and password right? curl <url>/ping answers 'Ok.'."
        return Unavailable(f"the store did not answer: {_told(error)}", where=self.target.where, fix=fix)


def _migrate(client: Client) -> None:
    """Take the schema from whatever version it has to ours, a step at a time; each step is recorded when done."""
    for statement in BOOTSTRAP:
        client.command(statement)
    client.database = DATABASE  # from here on, names of tables need no prefix
    found = int(client.query(f"SELECT max(version) FROM {VERSIONS_TABLE}").result_rows[0][0])  # noqa: S608 - a constant
    if found > SCHEMA_VERSION:
        raise ConfigError(
            f"the store has schema {found}, this version of OptiInfra knows {SCHEMA_VERSION}",
            fix="Run the version that wrote it, or start with another state directory.",
        )
    for version in range(found, SCHEMA_VERSION):
        for statement in MIGRATIONS[version]:
            client.command(statement)
        client.command(f"INSERT INTO {VERSIONS_TABLE} (version) VALUES ({version + 1})")  # noqa: S608 - an int of ours


def _told(error: Exception) -> str:
    """The first line of an engine's message, which can be a page long."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
