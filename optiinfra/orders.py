"""What the supervisor tells a child process, and what a child's work looks like to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.clock import ClockAnchor


class ChildOrders(BaseModel):
    """What the supervisor tells a child: settings, clock, and where the other parts are to be found.

    `endpoints` holds what earlier children said when they became ready: `bootstrap`, `store_url`, `redis_url`, …
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    settings: dict[str, Any] = {}
    anchor: ClockAnchor
    state_dir: Path
    parent_pid: int
    endpoints: dict[str, str] = {}


Ready = Callable[[Mapping[str, str]], None]
Entry = Callable[[ChildOrders, asyncio.Event, Ready], Awaitable[None]]
"""A child's coroutine: its orders, an event that is set when it shall stop, and what to call once it is ready."""
