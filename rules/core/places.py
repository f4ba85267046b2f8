"""YAML text to plain values that remember on which line each of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists, from the top of the file."""

MAX_BYTES = 256 * 1024
MAX_VALUES = 50_000
"""Values of one file with aliases followed: a few nested aliases could stand for billions."""

_BOMB = f"more than {MAX_VALUES} values, aliases counted each time"
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_BLOCKED = {"tag:yaml.org,2002:merge": "`<<` is not part of the language; use a plain alias, or write the lines out"}


@dataclass(frozen=True)
class Problem:
    """One mistake: its line in the file (0: the whole file), what it is, and the edit that mends it."""

    line: int
    what: str
    fix: str = ""

    def at(self, file: str) -> str:
        """`file:line: what. fix`, as compilers write it."""
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {self.what.rstrip('.')}. {self.fix}".rstrip()


@dataclass
class Tree:
    """A file as plain values, the line of every place, and what is wrong with its form."""

    root: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, place: Sequence[str | int]) -> int:
        """The line of a place, or of the nearest one around it that has a line."""
        for end in range(len(place), 0, -1):
            if (found := self.lines.get(tuple(place[:end]))) is not None:
                return found
        return self.lines.get((), 1)


def read_tree(raw: bytes) -> Tree:
    """Read one YAML document. What cannot be read at all is one problem and no values."""
    if len(raw) > MAX_BYTES:
        return _unreadable(0, f"{len(raw)} bytes are more than the {MAX_BYTES} of a pack", "Split it into packs.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return _unreadable(line, f"not UTF-8: byte 0x{raw[error.start]:02x}", "Save the file as UTF-8.")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return _unreadable(0, "the file is empty", "A pack begins with `pack:`, `version:` and `doc:`.")
        reader = _Reader(loader)
        root = reader.value(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        return _unreadable(mark.line + 1 if mark else 0, f"not YAML: {what}", "Mind indents, colons and quotes.")
    except RecursionError:
        return _unreadable(0, "nested too deeply", "A pack needs no more than ten levels.")
    finally:
        loader.dispose()
    return Tree(root, reader.lines, reader.problems)


def _unreadable(line: int, what: str, fix: str) -> Tree:
    return Tree(problems=[Problem(line, what, fix)])


class _Reader:
    """Walks the nodes: keys stay the text that was written, so that `on` or `no` are names like any other."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._left = MAX_VALUES
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0:
            raise yaml.MarkedYAMLError(problem=_BOMB, problem_mark=node.start_mark)
        # The line of a value is that of its key: it is where a reader looks for it.
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN:
            self.problems.append(
                Problem(self.lines[place], f"tag {node.tag!r} is not part of the language", "Drop it.")
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, n)) for n, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except ValueError:
            self.problems.append(Problem(self.lines[place], f"{node.value!r} cannot be read", "Put it in quotes."))
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag in _BLOCKED:
                what = _BLOCKED.get(key.tag, "a key must be a plain word")
                self.problems.append(Problem(line, what))
                continue
            here = (*place, key.value)
            if key.value in found:
                self.problems.append(
                    Problem(line, f"key {key.value!r} again, first on line {self.lines[here]}", "Keep one.")
                )
                continue
            self.lines[here] = line
            found[key.value] = self.value(item, here)
        return found
