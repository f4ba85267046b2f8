"""Prompts are found in an engine's KV events: what was computed, and what it stood on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier.serving.events import Requests


def _b(*numbers: int) -> list[bytes]:
    return [bytes([number]) for number in numbers]


def _prompts(found: Requests) -> list[tuple[list[bytes], int]]:
    return [(each.prompt, each.answered_blocks) for each in found.paused(1e9)]


def test_a_prompt_is_the_chain_before_the_new_blocks_and_these() -> None:
    found = Requests()
    found.stored(0.0, _b(1, 2, 3), None)
    found.stored(10.0, _b(4, 5), b"\2")
    assert _prompts(found) == [(_b(1, 2, 3), 0), (_b(1, 2, 4, 5), 0)]


def test_several_blocks_that_follow_soon_are_more_of_the_prompt_and_single_ones_its_answer() -> None:
    found = Requests(pause_s=2.0)
    found.stored(0.0, _b(1, 2), None)
    found.stored(1.0, _b(3, 4), b"\2")
    found.stored(2.0, _b(5), b"\4")
    found.stored(3.5, _b(6), b"\5")
    assert _prompts(found) == [(_b(1, 2, 3, 4), 2)]


def test_a_chain_that_goes_on_after_a_pause_is_the_next_request() -> None:
    found = Requests(pause_s=2.0)
    found.stored(0.0, _b(1, 2), None)
    found.stored(5.0, _b(3), b"\2")
    assert _prompts(found) == [(_b(1, 2), 0), (_b(1, 2, 3), 0)]


def test_blocks_that_were_computed_again_make_the_same_prompt() -> None:
    found = Requests()
    found.stored(0.0, _b(1, 2), None)
    assert _prompts(found) == [(_b(1, 2), 0)]
    found.stored(50.0, _b(1, 2), None)
    assert _prompts(found) == [(_b(1, 2), 0)]


def test_two_requests_that_store_the_same_at_once_are_two() -> None:
    found = Requests()
    found.stored(0.0, _b(1, 2), None)
    found.stored(0.1, _b(1, 2), None)
    assert _prompts(found) == [(_b(1, 2), 0), (_b(1, 2), 0)]


def test_blocks_after_one_that_nobody_told_of_are_orphans() -> None:
    found = Requests()
    found.stored(0.0, _b(1, 2), b"\x63")
    found.stored(1.0, _b(3), b"\2")
    found.stored(1.0, [], None)
    assert _prompts(found) == []
    assert found.orphans == 3


def test_no_more_blocks_are_remembered_than_it_was_said_and_what_is_forgotten_makes_orphans() -> None:
    found = Requests(pause_s=2.0, most_blocks=4)
    found.stored(0.0, _b(1, 2), None)
    found.stored(10.0, _b(3, 4), None)
    found.stored(20.0, _b(5), b"\2")  # 1 and 2 are asked for again, so 3 is the oldest
    assert _prompts(found) == [(_b(1, 2), 0), (_b(3, 4), 0), (_b(1, 2, 5), 0)]
    found.stored(50.0, _b(6, 7), b"\4")
    assert (_prompts(found), found.orphans) == ([], 2)
    found.stored(60.0, _b(8), b"\5")
    assert _prompts(found) == [(_b(1, 2, 5, 8), 0)]
    assert len(found._before) == 4


def test_a_request_is_told_when_it_has_paused_and_no_sooner() -> None:
    found = Requests(pause_s=2.0)
    found.stored(0.0, _b(1), None)
    assert found.paused(2.0) == []
    assert [each.arrived_s for each in found.paused(2.1)] == [0.0]
    assert found.paused(9.0) == []


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=30))
def test_of_prompts_far_apart_each_comes_back_unless_all_of_it_was_cached(prompts: list[list[int]]) -> None:
    found, cached, expected = Requests(), set[bytes](), list[list[bytes]]()
    for turn, prompt in enumerate(prompts):
        blocks = [bytes(prompt[: end + 1]) for end in range(len(prompt))]
        new = [block for block in blocks if block not in cached]
        cached.update(new)
        if new:
            before = blocks[: len(blocks) - len(new)]
            found.stored(turn * 100.0, new, before[-1] if before else None)
            expected.append(blocks)
    assert [prompt for prompt, _ in _prompts(found)] == expected
