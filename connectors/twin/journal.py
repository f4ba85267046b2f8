"""The twin's memory on disk: what a cloud would not forget when one of its processes is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from contracts.errors import ConfigError, Unavailable

log = structlog.get_logger(__name__)

Change = Mapping[str, Mapping[str, Any]]
"""Section -> key -> JSON value; the value None forgets the key."""

_COMPACT_AFTER = 10_000
"""Lines after which the file is written anew: a few MiB."""

M = TypeVar("M", bound=BaseModel)


class Journal:
    """Sections of keyed JSON values, one line a change. A change is on disk, whole, when `append` returns.

    Without a path it remembers for as long as its process lives. A last line that a kill tore is ignored: nobody was
    answered on its strength. The file is compacted to one line when it is opened, and when it has grown long.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Raises ConfigError for a file that is not a journal, Unavailable for one that cannot be read or written."""
        self.path = path
        self.state: dict[str, dict[str, Any]] = {}
        self._lines, self._torn = 0, False
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._load(path)
                self._compact(path)
            except OSError as error:
                raise self._away(error) from error

    def section(self, name: str) -> dict[str, Any]:
        """A section by key, oldest first; empty when nothing was ever kept in it."""
        return self.state.get(name, {})

    def models(self, name: str, model: type[M]) -> dict[str, M]:
        """A section whose values are objects, as `model`. Raises ConfigError for values of another shape."""
        try:
            return {key: model.model_validate(value) for key, value in self.section(name).items()}
        except ValidationError as error:
            raise self._foreign(f"section {name!r}: {error.errors()[0]['msg']}") from error

    def numbers(self, name: str) -> dict[str, int]:
        """A section whose values are whole numbers. Raises ConfigError for others."""
        found = self.section(name)
        if not all(isinstance(value, int) for value in found.values()):
            raise self._foreign(f"section {name!r} holds something other than numbers")
        return dict(found)

    def append(self, change: Change) -> None:
        """Keep a change. Raises Unavailable when the disk does not take it: then nothing of it is kept."""
        if self.path is not None:
            try:
                if self._torn or self._lines >= _COMPACT_AFTER:
                    self._compact(self.path)
                self._torn = True  # until the line is known to be whole
                with self.path.open("ab", buffering=0) as file:
                    _write(file.fileno(), change)
            except OSError as error:
                raise self._away(error) from error
            self._torn, self._lines = False, self._lines + 1
        self._merge(change)

    def _merge(self, change: Change) -> None:
        for name, values in change.items():
            section = self.state.setdefault(name, {})
            for key, value in values.items():
                if value is None:
                    section.pop(key, None)
                else:
                    section[key] = value

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        if not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines, 1):
            try:
                self._merge(_change(line))
            except ValueError as error:
                if number < len(lines):
                    raise self._foreign(f"line {number} is not a change: {error}") from error
                log.warning("journal_torn", path=str(path), line=number, bytes=len(line))

    def _compact(self, path: Path) -> None:
        fresh = path.with_name(f".{path.name}.new")
        with fresh.open("wb", buffering=0) as file:
            _write(file.fileno(), self.state)
        os.replace(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._lines, self._torn = 1, False

    def _foreign(self, what: str) -> ConfigError:
        fix = "Delete the file: the twin then begins with the replicas that its workloads name."
        return ConfigError(what, where=str(self.path), fix=fix)

    def _away(self, error: OSError) -> Unavailable:
        what = f"the twin's journal cannot be kept: {error.strerror or error}"
        return Unavailable(what, where=str(self.path), fix="Look at the disk and at the rights of its folder.")


def _change(line: bytes) -> Change:
    found = json.loads(line)
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise ValueError("not an object of objects")
    return found


def _write(descriptor: int, change: Change) -> None:
    left = memoryview(json.dumps(change, separators=(",", ":"), allow_nan=False).encode() + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)
