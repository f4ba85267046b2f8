"""Files of the KV tier commands: a model's config.json, and the prompts of a trace with the ids of their blocks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.traces import mooncake
from contracts.errors import ConfigError
from contracts.laws.kv_bytes import KvShape, kv_shape
from kvtier.simulator import Prompt

BLOCK_TOKENS = mooncake.BLOCK_TOKENS


@dataclass(frozen=True, eq=False)
class Recorded:
    """The prompts of a trace, and the tokens of one of their blocks."""

    prompts: list[Prompt]
    block_tokens: int


def read_config(path: Path) -> dict[str, Any]:
    """A model's configuration. Raises ConfigError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Name the config.json of the model's weights."
        ) from None
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ConfigError("not a JSON object", where=str(path), fix="Name the config.json of the model's weights.")
    return config


def shape_of(config: dict[str, Any], kv_dtype: str, path: Path) -> KvShape:
    """What a token leaves in the cache. Raises ConfigError where no layer keeps any."""
    shape = kv_shape(config, kv_dtype=kv_dtype, where=str(path))
    if not shape.block_bytes(1):
        raise ConfigError("no layer keeps a KV cache", where=str(path), fix="There is nothing to put in a tier.")
    return shape


def read_trace(path: Path) -> Recorded:
    """Ids of the blocks of each prompt, and its tokens. Raises ConfigError where the trace tells of no blocks."""
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), fix="Name a Mooncake trace (.jsonl or .jsonl.gz).")
    found = mooncake.read(path)
    if found.blocks is None or found.prompt_tokens is None:
        raise ConfigError(
            "not every request has hash_ids", where=str(path), fix="Take a trace that tells the blocks of prompts."
        )
    size = found.block_tokens
    prompts: list[Prompt] = []
    for keys, tokens in zip(found.blocks, found.prompt_tokens.tolist(), strict=True):
        if len(keys) > -(-tokens // size):
            raise ConfigError(
                f"{len(keys)} blocks for {tokens} tokens", where=str(path), fix=f"A block has {size} tokens."
            )
        if keys:
            prompts.append((keys, tokens))
    return Recorded(prompts, size)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a trace alone. Raises ConfigError."""
    return read_trace(path).prompts
