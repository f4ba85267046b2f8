"""How answers are waited for: all at once, in time, with something renewed meanwhile; or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from agents.waiting import IN_LIFE, NoWaiting, Waiting, without_waiting


class Asked:
    """Three answers, of which the later ones come sooner."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    def __iter__(self) -> Iterator[Coroutine[Any, Any, int]]:
        return (self.answer(number) for number in range(3))

    async def answer(self, number: int) -> int:
        self.begun.append(number)
        for _ in range(3 - number):
            await asyncio.sleep(0)
        self.ended.append(number)
        return number


@pytest.mark.parametrize("waiting", [IN_LIFE, NoWaiting()])
def test_answers_stand_in_the_order_in_which_they_were_asked_for(waiting: Waiting) -> None:
    assert asyncio.run(waiting.together(Asked())) == [0, 1, 2]


def test_at_once_nobody_waits_for_another() -> None:
    asked = Asked()
    asyncio.run(IN_LIFE.together(asked))
    assert (asked.begun, asked.ended) == ([0, 1, 2], [2, 1, 0])


def test_in_turn_the_next_is_asked_when_the_one_before_has_answered() -> None:
    asked = Asked()
    asyncio.run(NoWaiting().together(asked))
    assert (asked.begun, asked.ended) == ([0, 1, 2], [0, 1, 2])


def test_in_turn_nothing_is_asked_after_one_that_failed() -> None:
    asked: list[int] = []

    async def fails(number: int) -> int:
        asked.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        without_waiting(NoWaiting().together(fails(number) for number in range(3)))
    assert asked == [0]


@pytest.mark.parametrize("waiting", [IN_LIFE, NoWaiting()])
def test_of_nothing_there_are_no_answers(waiting: Waiting) -> None:
    assert asyncio.run(waiting.together([])) == []


def test_in_life_a_late_answer_is_given_up() -> None:
    async def asks() -> None:
        async with IN_LIFE.within(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(asks())


def test_in_life_what_would_lapse_is_renewed_until_the_answer_comes_and_not_after() -> None:
    async def asks() -> tuple[str, int, int]:
        renewed: list[int] = []
        thrice = asyncio.Event()

        async def again() -> None:
            renewed.append(len(renewed))
            if len(renewed) == 3:
                thrice.set()

        async def answer() -> str:
            await thrice.wait()
            return "late"

        told = await IN_LIFE.meanwhile(0.001, again, answer())
        at_the_answer = len(renewed)
        await asyncio.sleep(0.02)
        return told, at_the_answer, len(renewed)

    told, then, later = asyncio.run(asks())
    assert (told, then) == ("late", later)


def test_in_life_an_answer_is_not_lost_where_renewing_fails_and_renewing_goes_on() -> None:
    async def asks() -> str:
        tried: list[int] = []
        twice = asyncio.Event()

        async def again() -> None:
            tried.append(len(tried))
            if len(tried) == 2:
                twice.set()
            raise ValueError(tried)

        async def answer() -> str:
            await twice.wait()
            return "all the same"

        return await IN_LIFE.meanwhile(0.001, again, answer())

    assert asyncio.run(asks()) == "all the same"


def test_in_life_what_is_being_renewed_is_never_cut_off() -> None:
    async def asks() -> list[str]:
        told: list[str] = []
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def again() -> None:
            begun.set()
            await may_end.wait()
            told.append("renewed")

        work = asyncio.create_task(IN_LIFE.meanwhile(0.001, again, asyncio.Event().wait()))
        await begun.wait()
        for _ in range(2):
            work.cancel()
            await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.sleep(0.01)
        return told

    assert asyncio.run(asks()) == ["renewed"]


def test_where_nothing_has_to_be_waited_for_no_loop_is_needed_and_nothing_is_renewed() -> None:
    async def again() -> None:
        raise AssertionError

    async def answer() -> str:
        async with NoWaiting().within(0.0):
            return "now"

    assert without_waiting(NoWaiting().meanwhile(0.0, again, answer())) == "now"


def test_what_has_to_be_waited_for_is_no_answer_at_once_and_is_ended() -> None:
    ended: list[bool] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    with pytest.raises(RuntimeError, match="waited for"):
        without_waiting(waits())
    assert ended == [True]
