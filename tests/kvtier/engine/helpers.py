"""Tiers of small blocks, blocks whose bytes follow from their key, and children that live as short as one likes."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path
from typing import Any

from kvtier.engine.terms import Settings
from kvtier.engine.tier import DiskTier

SLOT = 4096


def settings(slots: int = 8, **changes: Any) -> Settings:
    """Of a tier of `slots` small slots."""
    values: dict[str, Any] = {"cap_bytes": slots * (SLOT + 128), "slot_bytes": SLOT, "layout": "tiny bf16"}
    return Settings(**(values | {"policy": "lru", "threads": 2} | changes))


def key(number: int) -> bytes:
    """The key of block `number`."""
    return number.to_bytes(36, "big")


def content(number: int, size: int = SLOT) -> bytes:
    """The bytes of block `number`."""
    return shake_128(key(number)).digest(size)


def loaded(tier: DiskTier, number: int, size: int = SLOT) -> bytes | None:
    """What the tier serves for block `number`."""
    room = bytearray(size)
    return bytes(room) if tier.load(key(number), memoryview(room)) == "done" else None


def kept(tier: DiskTier, number: int, size: int = SLOT, parent: int | None = None) -> str:
    """Store block `number`; what the tier says."""
    above = None if parent is None else key(parent)
    return tier.store(key(number), content(number, size), above, number * 16, 16)


def exit_of(work: Callable[[], bool]) -> int:
    """The exit of a child process that does `work`: 0 where it was True, 1 where it was not, 2 where it raised."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def made_read_only(folder: Path, base: Path) -> None:
    """Nobody may write to the folder, and whoever is not its owner may read it too."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    opened_to_others(folder, base)


def opened_to_others(folder: Path, base: Path) -> None:
    """Let every user reach a test's folder: opens those above it that pytest made, its `base` among them."""
    for above in folder.parents:
        if above.is_relative_to(base) or above.name.startswith("pytest-"):
            above.chmod(above.stat().st_mode | 0o055)


def slabs(root: Path) -> int:
    """Bytes that a tier takes on disk."""
    return sum(path.stat().st_blocks * 512 for path in root.iterdir())
