"""A scaler as text and back, and a copy of it: what it has learnt, without a class or a rule of its own."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from agents.performance.core import choice, fleets, forecast, series
from contracts import scaling
from contracts.errors import ConfigError

_OURS = {
    each.__name__: each
    for module in (choice, fleets, forecast, series, scaling)
    for each in vars(module).values()
    if isinstance(each, type)
}


def clone(value: Any) -> Any:
    """A copy that shares nothing that is ever changed."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list) and value and hasattr(value[0], "__dict__"):
        return [clone(each) for each in value]
    if isinstance(value, list | deque):
        return value.copy()
    if not hasattr(value, "__dict__"):
        return value
    made = object.__new__(type(value))
    made.__dict__.update({name: clone(each) for name, each in vars(value).items()})
    return made


def packed(value: Any) -> str:
    """A value, and all that it holds, as JSON."""
    return json.dumps(_plain(value))


def unpacked(text: str) -> Any:
    """The value that was packed. Raises ConfigError for any other text."""
    try:
        return _made(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("the text of no scaler", where="scaler", fix="Begin a new scaler.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "type": value.dtype.name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, deque):
        return {"deque": [_plain(each) for each in value], "most": value.maxlen}
    if isinstance(value, tuple):
        return {"tuple": [_plain(each) for each in value]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if is_dataclass(value) or hasattr(value, "__dict__"):
        held = value.__dict__ if hasattr(value, "__dict__") else {n: getattr(value, n) for n in value.__slots__}
        return {"class": type(value).__name__, "holds": {name: _plain(each) for name, each in held.items()}}
    return value


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.array(value["array"], dtype=value["type"])
    if "deque" in value:
        return deque((_made(each) for each in value["deque"]), maxlen=value["most"])
    if "tuple" in value:
        return tuple(_made(each) for each in value["tuple"])
    made: Any = object.__new__(_OURS[value["class"]])
    for name, each in value["holds"].items():
        object.__setattr__(made, name, _made(each))
    return made
