"""A block's sum tells every change of its bytes, its length and its key."""

from __future__ import annotations

from hashlib import blake2b, shake_128
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.engine import checksum

SIZES = (1, 7, 4096, 65_536, 65_537, 200_000, checksum.SEGMENT_BYTES + 12_345)
BORDERS = (8, 512, 4096, 8168, 8192, 16_336, 256 * 8168, checksum.SEGMENT_BYTES)
"""Bytes at which a word, a sector, a page, a row, the last row or a segment ends."""


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


@pytest.mark.parametrize("border", BORDERS)
def test_bits_at_the_borders_of_rows_pages_and_segments_are_seen(border: int) -> None:
    data = _bytes(SIZES[-1])
    right = checksum.of(b"key", data)
    for at in (border - 1, border):
        for bit in range(8):
            data[at] ^= 1 << bit
            assert checksum.of(b"key", data) != right
            data[at] ^= 1 << bit


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [1, 512, 4096, checksum.ROW_WORDS * 8])
def test_pieces_that_change_places_across_a_border_are_seen(border: int, size: int) -> None:
    data = _bytes(SIZES[-1])
    right = checksum.of(b"key", data)
    size = min(size, border)
    data[border - 1] = data[border] ^ 0x5A  # so that swapping one byte changes something
    here, there = bytes(data[border - size : border]), bytes(data[border : border + size])
    changed = checksum.of(b"key", data)
    data[border - size : border + size] = there + here
    assert len({right, changed, checksum.of(b"key", data)}) == 3


@pytest.mark.parametrize("border", BORDERS)
def test_bytes_that_moved_or_end_at_a_border_are_seen(border: int) -> None:
    data = bytes(_bytes(SIZES[-1]))
    seen = [data, data[:border], data[border:], data[border:] + data[:border], data[:border] + data[border + 1 :]]
    seen += [data[1:] + data[:1], data[24:] + data[:24], data[:border] + bytes(len(data) - border)]
    assert len({checksum.of(b"key", each) for each in seen}) == len(seen)


@given(at=st.tuples(*[st.integers(0, 4 * checksum.ROW_WORDS - 1)] * 2), bits=st.tuples(*[st.integers(0, 63)] * 2))
@settings(deadline=None, max_examples=100)
def test_two_bits_never_cancel_wherever_they_are(at: tuple[int, int], bits: tuple[int, int]) -> None:
    words = np.random.default_rng(3).integers(0, 2**64, 4 * checksum.ROW_WORDS, np.uint64)
    right = checksum.segment(words.tobytes())
    for word, bit in zip(at, bits, strict=True):
        words[word] ^= np.uint64(1 << bit)
    assert (checksum.segment(words.tobytes()) == right) is (at[0] == at[1] and bits[0] == bits[1])


@given(
    start=st.integers(0, 3 * checksum.ROW_WORDS * 8),
    wrong=st.binary(min_size=1, max_size=checksum.ROW_WORDS * 8) | st.sampled_from([b"\0\x80" * 2048, b"\x80" * 4096]),
)
@settings(deadline=None, max_examples=100)
def test_whatever_is_wrong_within_a_page_is_seen(start: int, wrong: bytes) -> None:
    data = np.random.default_rng(4).integers(0, 256, 5 * checksum.ROW_WORDS * 8, np.uint8)
    right = checksum.segment(data.tobytes())
    data[start : start + len(wrong)] ^= np.frombuffer(wrong, np.uint8)
    assert (checksum.segment(data.tobytes()) == right) is not any(wrong)


@pytest.mark.parametrize("pages", [(0, 1), (0, 2), (1, 3), (0, 511), (2, 3)])
def test_highest_bits_of_two_pages_do_not_cancel_as_a_plain_product_would_let_them(pages: tuple[int, int]) -> None:
    words = np.zeros((512, 512), np.uint64)
    right = checksum.segment(words.tobytes())
    words[list(pages)] ^= np.uint64(1 << 63)
    assert checksum.segment(words.tobytes()) != right


@pytest.mark.parametrize("size", [0, 100, checksum.ROW_WORDS * 8, 3 * checksum.ROW_WORDS * 8 + 77])
def test_the_sum_is_the_one_that_the_version_of_the_format_stands_for(size: int) -> None:
    data, row = bytes(_bytes(size)), checksum.ROW_WORDS * 8
    seeds = shake_128(b"kvtier").digest(row)
    weights = [int.from_bytes(seeds[at : at + 8], "little") | 1 for at in range(0, row, 8)]
    sums, odd = list[bytes](), [0] * checksum.ROW_WORDS
    for first in range(0, size // row * row, row):
        words = [int.from_bytes(data[at : at + 8], "little") for at in range(first, first + row, 8)]
        total = sum(word * weight for word, weight in zip(words, weights, strict=True))
        sums.append((total % 2**64).to_bytes(8, "little"))
        odd = [old ^ word for old, word in zip(odd, words, strict=True)]
    columns = [word.to_bytes(8, "little") for word in odd] if sums else []
    whole = b"".join([data[size // row * row :], size.to_bytes(8, "little"), *sums, *columns])
    assert checksum.segment(data) == blake2b(whole, digest_size=16).digest()


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
    assert checksum.of(b"k", data) == checksum.of(b"k", bytes(data)) == checksum.of(b"k", array.data)
