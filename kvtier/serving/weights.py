"""Which weights lie in a model's folder, so that KV of weights that were there before is not served."""

from __future__ import annotations

from pathlib import Path

_FILES = ("*.safetensors", "config.json")


def weights_of(model: str) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change (ns) of the files that a model in a folder is loaded from; none for a name of a
    hub. Raises OSError where they cannot be looked at."""
    folder = Path(model)
    if not folder.is_dir():
        return []
    found = sorted(path for each in _FILES for path in folder.glob(each))
    stats = [(path.name, path.stat()) for path in found]
    return [(name, each.st_size, each.st_mtime_ns) for name, each in stats]
