"""Waits for several answers: all at once, as in life, or one after the other, where nothing has to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Together(Protocol):
    """How several answers are waited for: what they are, in the order in which they were asked for."""

    async def __call__(self, asked: Iterable[Awaitable[T]]) -> list[T]: ...


async def at_once(asked: Iterable[Awaitable[T]]) -> list[T]:
    """All of them at once. One alone is waited for as it is: a task costs more than most answers do."""
    every = list(asked)
    return list(await asyncio.gather(*every)) if len(every) > 1 else [await each for each in every]


async def in_turn(asked: Iterable[Awaitable[T]]) -> list[T]:
    """Each before the next is asked for, without tasks: for a replay, where no time goes by meanwhile."""
    return [await each for each in asked]
