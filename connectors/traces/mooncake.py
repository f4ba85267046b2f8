"""Reads Mooncake's traces: one JSON object a line with milliseconds, lengths and the ids of the prompt's KV blocks.

Source: kvcache-ai/Mooncake, FAST25-release, licence Apache-2.0; a block is 512 tokens. What our disk tier records of a
live engine (`kvtier/serving/recorder.py`) has the same form, and may tell other blocks by `block_tokens`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connectors.traces.files import MOST, begin_s, broken, in_order, lines
from connectors.traces.shape import Requests
from contracts.errors import ConfigError

BLOCK_TOKENS = 512
MOST_TOLD = 60
FIELDS = ("timestamp", "input_length", "output_length")


def read(path: Path) -> Requests:
    """The requests of a `.jsonl` or `.jsonl.gz`, with blocks where all of them have some; second 0 is the first
    request's whole second, whether stamps count from 0 or from 1970. Raises ConfigError."""
    at_s: list[float] = []
    prompt: list[int] = []
    output: list[int] = []
    blocks: list[tuple[int, ...] | None] = []
    block_tokens: int | None = None
    for line, text in lines(path):
        data = _object(path, line, text)
        at_s.append(data["timestamp"] / 1000)
        prompt.append(int(data["input_length"]))
        output.append(int(data["output_length"]))
        blocks.append(_blocks(path, line, data.get("hash_ids")))
        block_tokens = _block_tokens(path, line, data.get("block_tokens", BLOCK_TOKENS), block_tokens)
    if not at_s:
        raise ConfigError("no requests", where=str(path), fix="Name a trace with at least one line of data.")
    arrival_s, (prompts, outputs), order = in_order(at_s, prompt, output)
    known = tuple(each for number in order if (each := blocks[number]) is not None)
    from_s = begin_s(path, arrival_s[0], arrival_s[-1])
    return Requests(
        arrival_s - from_s,
        prompts,
        outputs,
        f"mooncake {path.name}",
        blocks=known if len(known) == len(at_s) else None,
        midnight_s=from_s % 86_400,
        block_tokens=block_tokens or BLOCK_TOKENS,
    )


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise broken(path, line, "not a JSON object", f"Write an object with {', '.join(FIELDS)}.")
    for name in FIELDS:
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MOST:
            raise broken(path, line, f"{name} is {_short(value)}", "Write a number of 0 or more, or delete the line.")
    return data


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_TOLD else text[:MOST_TOLD] + "…"


def _blocks(path: Path, line: int, ids: object) -> tuple[int, ...] | None:
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        raise broken(path, line, "hash_ids is not a list of whole numbers", "Mend the list, or delete the line.")
    return tuple(ids)


def _block_tokens(path: Path, line: int, told: object, before: int | None) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or not 0 < told < MOST:
        raise broken(path, line, f"block_tokens is {_short(told)}", "Write a whole number above 0.")
    if before not in (None, told):
        raise broken(path, line, f"block_tokens is {told}, and {before} above", "Record both in files of their own.")
    return told
