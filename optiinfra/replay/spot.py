"""When spot capacity is to be had: the port, a zone that never fails, and a recorded zone."""

from __future__ import annotations

import gzip
import json
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import ConfigError

NEVER_S = 1 << 60


class Zone(Protocol):
    """Spot capacity of one zone over time, in seconds of the trace."""

    def available(self, at_s: int) -> bool:
        """Whether spot replicas can be had and kept at `at_s`."""
        ...

    def lost_at(self, at_s: int) -> bool:
        """Whether all spot replicas are taken at exactly `at_s`."""
        ...

    def next_loss_s(self, after_s: int) -> int:
        """The first loss later than `after_s`; `NEVER_S` where there is none."""
        ...


class SteadyZone:
    """Spot capacity that is always there."""

    def available(self, at_s: int) -> bool:
        return True

    def lost_at(self, at_s: int) -> bool:
        return False

    def next_loss_s(self, after_s: int) -> int:
        return NEVER_S


class _Meta(BaseModel):
    gap_seconds: int = Field(gt=0)


class _SpotFile(BaseModel):
    model_config = ConfigDict(extra="ignore")

    metadata: _Meta
    data: list[int] = Field(min_length=1)


class RecordedZone:
    """What was seen every `gap_s` seconds: 1, capacity was to be had, or 0. Past its end it stays as it was last."""

    def __init__(self, gap_s: int, seen: Sequence[int]) -> None:
        self._gap_s, self._seen = gap_s, tuple(bool(each) for each in seen)
        pairs = zip(self._seen, self._seen[1:], strict=False)
        self._losses = [number * gap_s for number, (was, now) in enumerate(pairs, 1) if was and not now]

    def available(self, at_s: int) -> bool:
        return self._seen[min(at_s // self._gap_s, len(self._seen) - 1)]

    def lost_at(self, at_s: int) -> bool:
        place = bisect_left(self._losses, at_s)
        return place < len(self._losses) and self._losses[place] == at_s

    def next_loss_s(self, after_s: int) -> int:
        place = bisect_right(self._losses, after_s)
        return self._losses[place] if place < len(self._losses) else NEVER_S


def read_zone(path: Path) -> RecordedZone:
    """A zone from a file of skypilot-org/spot-traces: JSON, gzip or plain, `{"metadata": {"gap_seconds"}, "data"}`.

    Raises ConfigError for a file that cannot be read.
    """
    try:
        raw = path.read_bytes()
        told = _SpotFile.model_validate(json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", where=str(path), fix="Name another.") from error
    except (ValueError, EOFError, ValidationError, zlib.error) as error:
        fix = 'It holds {"metadata": {"gap_seconds": 195}, "data": [0, 1, …]}.'
        raise ConfigError("this is no record of spot capacity", where=str(path), fix=fix) from error
    return RecordedZone(told.metadata.gap_seconds, told.data)


def read_zones(path: Path) -> dict[str, RecordedZone]:
    """The zone in a file, or all in a folder, by name of the file. Raises ConfigError, for a folder without any too."""
    files = sorted(each for each in path.iterdir() if ".json" in each.suffixes) if path.is_dir() else [path]
    if not files:
        raise ConfigError("no record of spot capacity in it", where=str(path), fix="Name a folder of .json.gz files.")
    return {each.name.partition(".")[0]: read_zone(each) for each in files}
