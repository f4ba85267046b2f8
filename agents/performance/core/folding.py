"""Folds named arrays into one line of text for JSON, and back: bytes as they are, compressed, in base 64.

Nothing is run when text is read, and text that is not what it should be is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping

import numpy as np

from agents.performance.core.series import Array
from contracts.errors import ConfigError

VERSION = "scaler4"
_MOST_BYTES = 16_000_000


def fold(arrays: Mapping[str, Array]) -> str:
    """Text that `unfold` makes these arrays of again, to the last bit. What single precision can hold is held in it."""
    head, body = [], b""
    for name, each in arrays.items():
        single = each.astype("<f4")
        short = np.array_equal(single, each, equal_nan=True)
        head.append([name, 4 if short else 8, list(each.shape)])
        body += (single if short else each.astype("<f8")).tobytes()
    told = json.dumps(head).encode()
    packed = zlib.compress(len(told).to_bytes(4, "little") + told + body, 9)
    return f"{VERSION}:{base64.b64encode(packed).decode()}"


def unfold(text: str) -> dict[str, Array]:
    """The arrays of `fold`. Raises ConfigError for any other text."""
    version, _, packed = text.partition(":")
    if version != VERSION:
        raise _bad(f"begins with {version[:20]!r}, not with {VERSION!r}")
    try:
        data = _inflate(base64.b64decode(packed, validate=True))
        at = 4 + int.from_bytes(data[:4], "little")
        arrays: dict[str, Array] = {}
        for name, size, shape in json.loads(data[4:at]):
            count = math.prod(shape)
            flat = np.frombuffer(data, {4: "<f4", 8: "<f8"}[size], count, at)
            arrays[name] = flat.astype(np.float64).reshape(shape)
            at += count * size
    except (binascii.Error, zlib.error, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _bad("cannot be read") from error
    return arrays


def _inflate(packed: bytes) -> bytes:
    reader = zlib.decompressobj()
    data = reader.decompress(packed, _MOST_BYTES)
    if not reader.eof:
        raise ValueError("more than a scaler knows, or cut off")
    return data


def _bad(what: str) -> ConfigError:
    return ConfigError(f"the text of a scaler {what}", where="scaler", fix="Begin a new scaler.")
