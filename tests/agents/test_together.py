"""Answers come in the order in which they were asked for, waited for all at once or one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from agents.together import Together, at_once, in_turn


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


@pytest.mark.parametrize("together", [at_once, in_turn])
def test_answers_stand_in_the_order_in_which_they_were_asked_for(together: Together) -> None:
    assert asyncio.run(together(Asked())) == [0, 1, 2]


def test_at_once_nobody_waits_for_another() -> None:
    asked = Asked()
    asyncio.run(at_once(asked))
    assert (asked.begun, asked.ended) == ([0, 1, 2], [2, 1, 0])


def test_in_turn_the_next_is_asked_when_the_one_before_has_answered() -> None:
    asked = Asked()
    asyncio.run(in_turn(asked))
    assert (asked.begun, asked.ended) == ([0, 1, 2], [0, 1, 2])


def test_in_turn_nothing_is_asked_after_one_that_failed() -> None:
    asked: list[int] = []

    async def fails(number: int) -> int:
        asked.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        asyncio.run(in_turn(fails(number) for number in range(3)))
    assert asked == [0]


@pytest.mark.parametrize("together", [at_once, in_turn])
def test_of_nothing_there_are_no_answers(together: Together) -> None:
    assert asyncio.run(together([])) == []
