"""Reads shell text: what starts a server, with its flags and the environment that stands before it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

_BREAKS = {"\n", ";", "&", "&&", "|", "||", "(", ")"}
_SHORT = {"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-dp": "data-parallel-size"}
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PROGRAMS = (
    ("lmcache", re.compile(r"\blmcache(\.v1\.multiprocess\S*)? (server|http_server)\b|lmcache\.v1\.multiprocess")),
    ("vllm", re.compile(r"\bvllm serve\b|vllm\.entrypoints|\bdynamo\.vllm\b")),
)


@dataclass(frozen=True)
class Command:
    """One command. A flag has every value that it was given, dashes for underscores; `program` is vllm, lmcache or
    empty."""

    program: str = ""
    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def commands(text: str) -> list[Command]:
    """Every command of a script that has flags, with what was exported before it; the exports alone where there is
    none. Raises ValueError where a quote is not closed."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace, lexer.whitespace_split = " \t\r", True
    exported: dict[str, str] = {}
    lines: list[list[str]] = [[]]
    for word in lexer:
        if word.strip("\n") == "" or word in _BREAKS or set(word) <= set(";&|()\n"):
            lines.append([])
        else:
            lines[-1].append(word)
    found: list[Command] = []
    for words in lines:
        own: dict[str, str] = {}
        rest = words[1:] if words[:1] == ["export"] else list(words)
        while rest and (given := _ASSIGNED.fullmatch(rest[0])):
            own[given[1]] = given[2]
            rest.pop(0)
        if not rest:
            exported |= own
        elif rest[0].startswith("-") and found:  # a file of arguments has one on each line
            found[-1] = replace(found[-1], flags={**found[-1].flags, **flags(rest)})
        elif any(word.startswith("-") for word in rest):
            found.append(Command(_program(rest), flags(rest), {**exported, **own}))
    return found or ([Command(env=exported)] if exported else [])


def command(words: Sequence[str]) -> Command:
    """A command that is split already."""
    return Command(_program(words), flags(words))


def flags(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Flags and their values; an empty text for one that stands alone.

    >>> flags(["--block-size=64", "-tp", "8", "--l2_adapter", "{}", "--l2-adapter", "{}", "--eager"])["l2-adapter"]
    ('{}', '{}')
    """
    found: dict[str, tuple[str, ...]] = {}
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in _SHORT and not name.startswith("--"):
            continue
        if not equals and at + 1 < len(words) and not words[at + 1].startswith("-"):
            value = words[at + 1]
        name = _SHORT.get(name) or name[2:].replace("_", "-")
        found[name] = (*found.get(name, ()), value)
    return found


def _program(words: Sequence[str]) -> str:
    line = " ".join(words)
    return next((name for name, pattern in _PROGRAMS if pattern.search(line)), "")
