"""What a package needs from outside and does not build itself: wiring hands over the real object, a test its fake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from contracts.events import Message

Scalar = str | int | float | bool | None
Row = Mapping[str, Scalar]


class Publisher(Protocol):
    """Writes messages to their topics. `publish` returns when the broker has acknowledged, or raises Unavailable
    after its bounded retries; the caller decides whether to wait, buffer or give up."""

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None: ...


class Store(Protocol):
    """The analytical store behind named queries (`streams/store/queries.py`), never SQL from a caller.

    `insert` is all or nothing for its rows and safe to repeat (rows carry ids); it raises BadMessage(STORE_REFUSED) for
    rows refused for their content. Both raise Unavailable when the store is away, ConfigError for a query or table that
    is not on the list.
    """

    async def insert(self, table: str, rows: Sequence[Row]) -> None: ...

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]: ...
