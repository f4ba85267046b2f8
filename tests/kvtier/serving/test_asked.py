"""The blocks of a request are read from the places that the engine noted for their keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier.serving.asked import chain, parents, thinned


def _key(number: int, group: int = 0) -> bytes:
    return number.to_bytes(32, "big") + group.to_bytes(4, "big")


def test_the_blocks_of_a_prompt_come_in_their_order_and_of_one_group() -> None:
    ends = {_key(2): 128, _key(1): 64, _key(1, 1): 64, _key(9): 192, _key(7): 100}
    assert chain(ends, 64) == (_key(1), _key(2), _key(9))
    assert chain({}, 64) == ()


def test_a_block_has_the_one_before_it_of_its_own_group() -> None:
    ends = {_key(1): 64, _key(2): 128, _key(1, 1): 64}
    assert parents(ends)[64, _key(0)[-4:]] == _key(1)
    assert parents(ends)[64, _key(0, 1)[-4:]] == _key(1, 1)


@given(st.integers(0, 100), st.integers(1, 20))
def test_long_blocks_have_the_keys_of_their_last_parts(count: int, every: int) -> None:
    keys = [_key(number) for number in range(count)]
    kept = thinned(keys, every)
    assert len(kept) == -(-count // every)
    assert kept[-1:] == keys[-1:]
    assert all(keys.index(key) % every == every - 1 for key in kept[:-1])
