"""A block's sum tells every change of its bytes, its length and its key."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.engine import checksum

SIZES = (1, 7, 4096, 65_536, 65_537, 200_000, checksum.SEGMENT_BYTES + 12_345)


def _bytes(size: int, seed: int = 1) -> bytearray:
    return bytearray(np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes())


@pytest.mark.parametrize("size", SIZES)
def test_any_single_bit_that_flips_is_seen(size: int) -> None:
    data, chance = _bytes(size), Random(size)
    right = checksum.of(b"key", data)
    for _ in range(40):
        bit = chance.randrange(size * 8)
        data[bit // 8] ^= 1 << bit % 8
        assert checksum.of(b"key", data) != right
        data[bit // 8] ^= 1 << bit % 8
    assert checksum.of(b"key", data) == right


@given(
    row=st.integers(0, 2), other=st.integers(0, 2), lane=st.integers(0, 8191), bits=st.tuples(*[st.integers(0, 63)] * 2)
)
@settings(deadline=None, max_examples=60)
def test_two_bits_of_one_lane_never_cancel(row: int, other: int, lane: int, bits: tuple[int, int]) -> None:
    words = np.random.default_rng(3).integers(0, 2**64, (3, 8192), np.uint64)
    right = checksum.segment(words.tobytes())
    words[row, lane] ^= np.uint64(1 << bits[0])
    words[other, lane] ^= np.uint64(1 << bits[1])
    same = row == other and bits[0] == bits[1]
    assert (checksum.segment(words.tobytes()) == right) is same


def test_two_highest_bits_do_not_cancel_as_a_plain_product_would_let_them() -> None:
    words = np.zeros((2, 8192), np.uint64)
    right = checksum.segment(words.tobytes())
    words[:, 5] ^= np.uint64(1 << 63)
    assert checksum.segment(words.tobytes()) != right


@pytest.mark.parametrize("size", SIZES)
def test_bytes_that_are_missing_or_too_many_are_seen_also_when_they_are_zeros(size: int) -> None:
    zeros = bytes(size)
    assert len({checksum.of(b"key", zeros), checksum.of(b"key", zeros + b"\0"), checksum.of(b"key", zeros[:-1])}) == 3


def test_segments_in_another_order_are_another_block() -> None:
    data = bytes(_bytes(2 * checksum.SEGMENT_BYTES))
    half = checksum.SEGMENT_BYTES
    assert checksum.of(b"key", data) != checksum.of(b"key", data[half:] + data[:half])


def test_the_same_bytes_under_another_key_are_another_block() -> None:
    assert checksum.of(b"one", b"data") != checksum.of(b"two", b"data")


def test_the_sum_does_not_depend_on_how_the_bytes_are_held() -> None:
    data = _bytes(100_000)
    array = np.frombuffer(bytes(data), np.uint16)
    assert checksum.of(b"k", data) == checksum.of(b"k", bytes(data)) == checksum.of(b"k", memoryview(array))
