"""Small traces of single requests for the tests of replay at request level: minutes of short prompts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from connectors.traces.shape import Requests
from tests.connectors.traces import tables

ENGINE = "llama2-70b/h100-80gb/tp4"


def requests(
    seconds: int = 600, rps: float = 5.0, *, seed: int = 1, shared: bool = False, more: float = 1.0
) -> Requests:
    """Poisson arrivals from 8 o'clock on; `shared` prompts begin with the same blocks, `more` is the later rate over
    the earlier."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(seconds) < seconds / 2, rps, rps * more)
    second = np.repeat(np.arange(seconds), rng.poisson(rate))
    count = len(second)
    blocks = tuple((0, 1, 1000 + number) for number in range(count)) if shared else None
    prompt = np.full(count, 1536) if shared else rng.integers(200, 2500, count)
    return Requests(
        np.sort(second + rng.random(count)), prompt, rng.integers(20, 200, count), "a test", "", blocks, 8 * 3600.0
    )


def azure(path: Path, found: Requests) -> Path:
    """As an Azure trace."""
    assert found.prompt_tokens is not None
    assert found.output_tokens is not None
    lines = [
        f"2023-11-16 {int(at // 3600) + 8:02d}:{int(at // 60) % 60:02d}:{at % 60:010.7f},{prompt},{output}"
        for at, prompt, output in zip(found.arrival_s, found.prompt_tokens, found.output_tokens, strict=True)
    ]
    return tables.write(path, ["TIMESTAMP,ContextTokens,GeneratedTokens", *lines])


def mooncake(path: Path, found: Requests) -> Path:
    """As a Mooncake trace."""
    assert found.prompt_tokens is not None
    assert found.output_tokens is not None
    assert found.blocks is not None
    rows = zip(found.arrival_s, found.prompt_tokens, found.output_tokens, found.blocks, strict=True)
    lines = [
        json.dumps({"timestamp": int(at * 1000), "input_length": int(a), "output_length": int(b), "hash_ids": ids})
        for at, a, b, ids in rows
    ]
    return tables.write(path, lines)
