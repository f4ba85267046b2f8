"""One server, as far as a file tells of it: its flags, environment and settings, whatever form they came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvtier.configs.terms import number


@dataclass(frozen=True)
class Server:
    """What was read. `transfer`: a bare --kv-transfer-config; `settings`: an LMCache file; `volumes`: what lies behind
    each mounted folder. `whole`: its environment is all there, so that what is missing is missing."""

    where: str
    program: str = ""
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    transfer: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None
    replicas: int = 1
    memory_bytes: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True

    def flag(self, name: str) -> str | None:
        """The last value given; None where the flag is not there."""
        return self.flags[name][-1] if name in self.flags else None

    def count(self, name: str, default: int) -> int:
        """A flag that is a whole number above 0."""
        value = number(self.flag(name))
        return int(value) if value and value >= 1 else default

    @property
    def workers(self) -> int:
        """Processes with a GPU each: tensor times pipeline parallel."""
        return self.count("tensor-parallel-size", 1) * self.count("pipeline-parallel-size", 1)

    def volume(self, folder: str) -> str:
        """Where a folder lies, so that two equal answers are one place."""
        mounts = [mount for mount in self.volumes if folder == mount or folder.startswith(mount.rstrip("/") + "/")]
        if not mounts:
            return folder.rstrip("/")
        mount = max(mounts, key=len)
        return self.volumes[mount] + folder[len(mount.rstrip("/")) :].rstrip("/")

    def shared(self, folder: str) -> bool:
        """Whether the replicas of this server meet in that folder: a claim that all of them mount."""
        return self.replicas > 1 and self.volume(folder).startswith("claim ")
