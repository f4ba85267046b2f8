"""What a lint says and is told: findings, the tiers that a server would open, and the machine they must fit on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from math import isfinite

from contracts.errors import ConfigError

Version = tuple[int, ...]
"""Of a release, as (0, 32, 1)."""

NEWEST: Mapping[str, str] = {"vllm": "0.32", "lmcache": "0.5.6", "kvbm": "1.6"}
"""The last release of each that was read. What came later is taken to be like it."""


class Severity(StrEnum):
    """An error does not start, fill or bound as written; a warning costs something; a note is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong at `where`, and the edit that mends it. `code` is stable."""

    code: str
    severity: Severity
    where: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.severity}: {self.message} {self.fix} [{self.code}]"


@dataclass(frozen=True)
class Tier:
    """Memory or disk that a server takes. `byte_count` of one replica, over all its workers; None where nothing bounds
    it. `folder` of a disk; `volume` says where that lies, so that two equal ones are one place. `alone`: a second
    server on that folder is refused. `of_kv`: it holds KV blocks, and not weights."""

    where: str
    medium: str
    byte_count: int | None
    folder: str = ""
    volume: str = ""
    alone: bool = False
    of_kv: bool = True


@dataclass(frozen=True)
class Machine:
    """What the tiers must fit on. None is not known, and not checked.

    `disk_free(folder)` gives bytes, or None where it is not on this machine. `kv_bytes(tokens)`: KV of a prompt, over
    all ranks; `gpu_kv_bytes`: KV cache on the GPUs of one replica; `block_tokens` of the GPU's blocks, 0 for the
    server's own flag, or vLLM's default. `replicas` goes before what a manifest says.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    host_bytes: int | None = None
    disk_free: Callable[[str], int | None] = lambda _: None
    replicas: int | None = None
    kv_bytes: Callable[[int], int] | None = None
    request_tokens: int | None = None
    gpu_kv_bytes: int | None = None
    block_tokens: int = 0

    def version(self, system: str, told: Mapping[str, str] | None = None) -> Version:
        """The version to judge by: as given, else as the manifest's image tells, else the newest one read."""
        text = self.versions.get(system) or (told or {}).get(system) or NEWEST[system]
        return version(text, f"--{system}")


def version(text: str, where: str = "--version") -> Version:
    """A release as numbers. Raises ConfigError.

    >>> version("v0.28.1.post2") > version("0.28")
    True
    """
    found = re.fullmatch(r"v?(\d+(?:\.\d+){1,2})(?:[.+-]?[a-z].*|\+.*)?", text.strip())
    if not found:
        raise ConfigError(f"{text!r} is no version", where=where, fix="Write it as 0.32 or 0.5.6.")
    return tuple(int(part) for part in found[1].split("."))


def said(release: Version) -> str:
    """A release as people write it."""
    return ".".join(map(str, release))


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def quantity(text: str, where: str) -> int:
    """Bytes of `64GiB`, `500GB`, or Kubernetes' `64Gi` and `2e9`. Raises ConfigError.

    >>> quantity("64Gi", ""), quantity("500GB", "")
    (68719476736, 500000000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    if not found:
        raise ConfigError(f"{text!r} is no size", where=where, fix="Write 64GiB, 500GB or 2TB.")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def size(byte_count: float) -> str:
    """Bytes for people.

    >>> size(64 * 2**30), size(500e9)
    ('64 GiB', '500 GB')
    """
    for unit, name in ((2**40, "TiB"), (10**12, "TB"), (2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB")):
        if byte_count >= unit and byte_count % unit == 0:
            return f"{byte_count / unit:,.0f} {name}"
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if byte_count >= unit:
            return f"{byte_count / unit:.3g} {name}" if byte_count < 1000 * unit else f"{byte_count / unit:,.0f} {name}"
    return f"{byte_count:,.0f} bytes"


def number(value: object) -> float | None:
    """A finite number that is written as one, or as text; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        told = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return told if isfinite(told) else None


def nearest(name: str, names: object) -> str:
    """` Did you mean …?`, or nothing."""
    found = get_close_matches(name, [str(each) for each in names], 1, 0.6)  # type: ignore[attr-defined]
    return f"Did you mean {found[0]!r}?" if found else ""
