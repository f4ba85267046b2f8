"""Folders that tiers of other models, layouts or releases left on the disk: nothing but an operator removes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kvtier.engine.home import in_use


@dataclass(frozen=True)
class Leftover:
    """A tier's folder, the bytes that it takes on disk, and when it was last written (seconds since 1970)."""

    folder: Path
    size_bytes: int
    written_s: float

    def __str__(self) -> str:
        """For a log."""
        day = datetime.fromtimestamp(self.written_s, UTC).date()
        return f"{self.folder} ({self.size_bytes / 1e9:.1f} GB, last written {day})"


def leftovers(root: Path, own: str) -> list[Leftover]:
    """Tiers in `root` but the one named `own`, and those that a process holds, the largest first. What cannot be read
    is left out. Raises OSError where `root` cannot be."""
    found: list[Leftover] = []
    for written in root.glob("*/format.json"):
        folder = written.parent
        if folder.name == own or in_use(folder):
            continue
        try:
            stats = [path.stat() for path in folder.iterdir()]
        except OSError:
            continue
        size = sum(each.st_blocks * 512 for each in stats)
        found.append(Leftover(folder, size, max((each.st_mtime for each in stats), default=0.0)))
    return sorted(found, key=lambda each: -each.size_bytes)


def told(root: Path, own: str) -> str:
    """`leftovers` for a log. Raises nothing: a disk that cannot be looked through keeps no server from its start."""
    try:
        return ", ".join(map(str, leftovers(root, own)))
    except (OSError, ValueError, OverflowError) as error:
        return f"what cannot be told of {root}: {error}"
