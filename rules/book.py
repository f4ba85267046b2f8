"""The rules in force: read from files, read again when they change, and never replaced by files that have errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from contracts.errors import ConfigError
from rules.core.loader import load_packs
from rules.core.places import MAX_BYTES
from rules.core.ruleset import RuleSet, make_ruleset
from rules.core.shapes import Engine, RuleShape

BUILT_IN = Path(__file__).parent / "packs"
"""The packs that come with the platform."""

MakeEngine = Callable[[Sequence[RuleShape]], Engine]
"""How an engine is made for rules: new rules get a new one."""


def pack_files(paths: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The files of packs: those named, and all `*.yaml` of directories that are named; without any, the built-in ones.

    Raises ConfigError for a path that is not there and for a directory without packs.
    """
    files: list[Path] = []
    for path in paths or (BUILT_IN,):
        found = sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
        if not found:
            raise ConfigError("no pack in this directory", where=str(path), fix="Packs are files named *.yaml.")
        files += found
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"no such file: {', '.join(missing)}", where="rules", fix="Correct the path of the pack.")
    return tuple(dict.fromkeys(files))


def read_files(paths: Sequence[Path] = ()) -> list[tuple[str, bytes]]:
    """Every pack file with its bytes, no more of it than the loader takes. Raises ConfigError where one cannot be
    read."""
    found = []
    for file in pack_files(paths):
        try:
            with file.open("rb") as opened:
                found.append((str(file), opened.read(MAX_BYTES + 1)))
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror}", where=str(file), fix="Make it a readable file."
            ) from error
    return found


class RuleBook:
    """Holds the rules in force. Raises ConfigError at the start when the files have errors; all are in it."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        self._paths = tuple(paths)
        files = read_files(self._paths)
        self._seen = _mark(files)
        self._unread = ""
        self.rules: RuleSet = make_ruleset(load_packs(files))

    def reload_if_changed(self) -> ConfigError | None:
        """Look at the files again. Sound ones replace the rules in force; of others the error comes back, once for each
        change, and the rules stay as they were. May run in another thread than the stage does."""
        try:
            files = read_files(self._paths)
        except ConfigError as error:
            told, self._unread = self._unread, str(error)
            return None if told == str(error) else error
        self._unread = ""
        mark = _mark(files)
        if mark == self._seen:
            return None
        self._seen = mark
        try:
            self.rules = make_ruleset(load_packs(files))
        except ConfigError as error:
            return error
        return None


def _mark(files: Sequence[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, raw in files:
        digest.update(f"{name}\0{len(raw)}\0".encode() + raw)
    return digest.hexdigest()


class EngineSeat:
    """The engine for the rules in force, made when it is first asked and again when the rules are replaced."""

    def __init__(self, make: MakeEngine) -> None:
        self._make = make
        self._engine: Engine | None = None
        self._rules: RuleSet | None = None

    def engine_for(self, rules: RuleSet) -> Engine:
        """The engine that decides on `rules`; one for other rules is closed."""
        if self._engine is None or self._rules is not rules:
            self.close()
            self._engine, self._rules = self._make(rules.shapes), rules
        return self._engine

    def close(self) -> None:
        """End the engine, if one was made."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
