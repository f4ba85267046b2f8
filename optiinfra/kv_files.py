"""Files of the KV tier commands: a model's config.json, and the prompts of a trace with the ids of their blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.traces import mooncake
from contracts.errors import ConfigError
from contracts.laws.kv_bytes import KvShape, kv_shape
from kvtier.simulator import Prompt

_MOST_TOKENS = 10**8


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


@dataclass(frozen=True, eq=False)
class Recorded:
    """Prompts with the ids of their blocks, in order. `at_s`: seconds since the first; `output_tokens`: 0 where the
    file does not tell; both [prompts]."""

    prompts: list[Prompt]
    at_s: list[float]
    output_tokens: list[int]
    block_tokens: int

    @property
    def span_s(self) -> float:
        """Seconds from the first prompt to the last."""
        return self.at_s[-1] - self.at_s[0] if self.at_s else 0.0


def _mooncake(path: Path) -> Recorded:
    found = mooncake.read(path)
    if found.blocks is None or found.prompt_tokens is None:
        raise ConfigError(
            "not every request has hash_ids", where=str(path), fix="Take a trace that tells the blocks of prompts."
        )
    told = [0] * len(found) if found.output_tokens is None else found.output_tokens.tolist()
    recorded = Recorded([], [], [], found.block_tokens)
    for keys, tokens, at_s, output in zip(
        found.blocks, found.prompt_tokens.tolist(), found.arrival_s.tolist(), told, strict=True
    ):
        if len(keys) > -(-tokens // found.block_tokens):
            raise ConfigError(
                f"{len(keys)} blocks for {tokens} tokens",
                where=str(path),
                fix=f"A block has {found.block_tokens} tokens.",
            )
        if tokens > _MOST_TOKENS:
            raise ConfigError(
                f"a prompt of {tokens:,} tokens",
                where=str(path),
                fix=f"Leave out those of more than {_MOST_TOKENS:,}: no model takes them.",
            )
        recorded.prompts.append((keys, tokens))
        recorded.at_s.append(at_s)
        recorded.output_tokens.append(output)
    if not any(keys for keys, _ in recorded.prompts):
        raise ConfigError(
            "no prompt has a block", where=str(path), fix="Take a trace that tells the blocks of prompts."
        )
    return recorded


READERS: dict[str, Callable[[Path], Recorded]] = {".jsonl": _mooncake, ".jsonl.gz": _mooncake}
"""What reads a trace, by how the name of its file ends; any other name is read as Mooncake's."""


def read_trace(path: Path) -> Recorded:
    """Prompts with their blocks. Raises ConfigError where there is no file, or it tells of no blocks."""
    if path.is_dir():
        raise ConfigError("a folder", where=str(path), fix="Name a trace in it (.jsonl or .jsonl.gz).")
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), fix="Name a Mooncake trace (.jsonl or .jsonl.gz).")
    endings = sorted(READERS, key=len, reverse=True)
    reader = next((READERS[each] for each in endings if path.name.endswith(each)), _mooncake)
    return reader(path)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a trace alone. Raises ConfigError."""
    return read_trace(path).prompts
