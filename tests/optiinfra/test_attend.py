"""Background work that fails is told, begun anew, and given up when it keeps failing."""

from __future__ import annotations

import asyncio

import pytest

from contracts.errors import Unavailable
from optiinfra.attend import FAILURES, GaveUp, attend


class Told:
    """Collects what is told of failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def __call__(self, name: str, what: str) -> None:
        self.failures.append((name, what))


async def test_work_that_fails_once_is_begun_anew_and_told() -> None:
    told, runs, alive = Told(), [0], asyncio.Event()

    async def work() -> None:
        runs[0] += 1
        if runs[0] == 1:
            raise ZeroDivisionError("by zero")
        alive.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(attend("guard", work, told, again_after_s=0))
    await asyncio.wait_for(alive.wait(), 10)
    assert told.failures == [("guard", "ZeroDivisionError: by zero")]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_keeps_failing_is_given_up_with_an_error() -> None:
    told = Told()

    async def work() -> None:
        raise KeyError("offsets")

    with pytest.raises(GaveUp, match="guard failed 3 times, last: KeyError: 'offsets'"):
        await attend("guard", work, told, again_after_s=0)
    assert len(told.failures) == FAILURES


async def test_work_that_returns_or_cancels_itself_has_failed_too() -> None:
    told, runs = Told(), [0]

    async def work() -> None:
        runs[0] += 1
        if runs[0] == 2:
            raise asyncio.CancelledError

    with pytest.raises(GaveUp):
        await attend("notes", work, told, again_after_s=0)
    assert [what for _, what in told.failures] == ["ended", "was cancelled from within", "ended"]


async def test_an_error_for_people_ends_it_at_once() -> None:
    told = Told()

    async def work() -> None:
        raise Unavailable("the state directory is gone")

    with pytest.raises(Unavailable, match="is gone"):
        await attend("lock", work, told, again_after_s=0)
    assert told.failures == [("lock", "the state directory is gone")]


async def test_work_is_over_before_its_cancellation_is() -> None:
    begun, over = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.append(True)

    task = asyncio.create_task(attend("notes", work, Told()))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert over == [True]
