"""Says whether a block's bytes are those that were written: 64 bits over key, length and payload, near memory speed.

The standard library has CRC-32 and cryptographic hashes, 1 to 4 GB/s, and a disk may be faster. Here numpy reads each
segment as rows of 1021 words and keeps two things, some 10 GB/s a core (`make bench NAME=kv_engine`): of each row the
sum of its words, each times an odd weight of its own, modulo 2^64; of all rows together, word by word, which bits are
set an odd number of times. BLAKE2b takes both in, with what fills no row, the length and the key.

So these are always seen: any odd number of wrong bits; any two; whatever is wrong within one page, or any 8168 bytes in
a row, since there no two bits fall together. 1021 is no whole part of any number of pages up to 4 MiB: pages that
change places meet other weights and other columns. What else goes wrong must cancel in every column and in every row's
sum at once. Highest bits of four words can, at the corners of a rectangle of rows and columns; random damage is missed
once in 2^64. This is no defence against someone who writes to the disk on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b, shake_128

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview

SEGMENT_BYTES = 2 << 20
"""A payload is summed in segments of this size, each by itself, so that several cores can share the work."""

ROW_WORDS = 1021
"""Words of a row: a prime, so that no pattern of the data's own, nor of the disk's, repeats from row to row."""

_ROW_BYTES = ROW_WORDS * 8
WEIGHTS: Words = np.frombuffer(shake_128(b"kvtier").digest(_ROW_BYTES), np.uint64) | np.uint64(1)


def segment(data: Buffer) -> bytes:
    """The sum of one segment, 16 bytes. Data of any length; zeros at its end count."""
    view = memoryview(data).cast("B")
    whole = len(view) // _ROW_BYTES * _ROW_BYTES
    parts = [bytes(view[whole:]), len(view).to_bytes(8, "little")]
    if whole:
        rows = np.frombuffer(view[:whole], np.uint64).reshape(-1, ROW_WORDS)
        parts += [np.einsum("ij,j->i", rows, WEIGHTS).tobytes(), np.bitwise_xor.reduce(rows, axis=0).tobytes()]
    return blake2b(b"".join(parts), digest_size=16).digest()


def block(key: bytes, length: int, segments: Iterable[bytes]) -> int:
    """The sum of a block: its key, its payload's length in bytes, and the sums of its segments in order."""
    digest = blake2b(len(key).to_bytes(2, "little") + key + length.to_bytes(8, "little"), digest_size=8)
    for each in segments:
        digest.update(each)
    return int.from_bytes(digest.digest(), "little")


def of(key: bytes, data: Buffer) -> int:
    """The sum of a block whose payload is at hand."""
    view = memoryview(data).cast("B")
    cuts = range(0, len(view), SEGMENT_BYTES)
    return block(key, len(view), (segment(view[start : start + SEGMENT_BYTES]) for start in cuts))
