"""Follows target files while they change; a file that breaks keeps its last good targets and is reported once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import structlog

from connectors.vllm.targets import Target, load_targets
from contracts.errors import ConfigError

log = structlog.get_logger(__name__)


class TargetsSource(Protocol):
    """Where the scraper learns its targets. `poll` is quick, does not raise, and is called about once a second.

    `take_faults` gives each new fault once: `(file, message)`.
    """

    def poll(self) -> list[Target]: ...

    def take_faults(self) -> list[tuple[str, str]]: ...


class FixedTargets:
    """Targets that never change."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._targets = list(targets)

    def poll(self) -> list[Target]:
        return self._targets

    def take_faults(self) -> list[tuple[str, str]]:
        return []


_Signature = tuple[int, int, int] | None


class TargetFiles:
    """Targets of files, read again when time, size or inode of a file changes.

    A file that is missing at first counts as empty until it appears: whoever writes it may start later than we do. An
    `instance` that two files claim belongs to the first file.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._seen: dict[Path, _Signature] = {}
        self._good: dict[Path, list[Target]] = {Path(path): [] for path in paths}
        self._faults: list[tuple[str, str]] = []
        self._merged: list[Target] = []

    def poll(self) -> list[Target]:
        """The targets as of now."""
        changed = False
        for path in self._good:
            signature = _signature(path)
            if path in self._seen and self._seen[path] == signature:
                continue
            self._seen[path] = signature
            try:
                targets = load_targets([path])
            except ConfigError as error:
                kept = len(self._good[path])
                self._fault(path, f"{error.message}\nThe last good {kept} target(s) of this file stay in use")
                continue
            changed = changed or targets != self._good[path]
            self._good[path] = targets
        if changed:
            self._merged = self._merge()
        return self._merged

    def take_faults(self) -> list[tuple[str, str]]:
        taken, self._faults = self._faults, []
        return taken

    def _merge(self) -> list[Target]:
        by_id: dict[str, Target] = {}
        for path, targets in self._good.items():
            for target in targets:
                first = by_id.setdefault(target.instance_id, target)
                if (first.url, first.workload) != (target.url, target.workload):
                    self._fault(path, f"instance {target.instance_id!r} is also {first.shown}: the first one is asked")
        return list(by_id.values())

    def _fault(self, path: Path, message: str) -> None:
        log.warning("target file", file=str(path), fault=message)
        self._faults.append((str(path), message))


def _signature(path: Path) -> _Signature:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
