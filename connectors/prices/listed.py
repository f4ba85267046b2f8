"""A GPU instance and its list prices, from a catalogue of AWS as Karpenter makes it or of a cloud as SkyPilot does."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import ConfigError


@dataclass(frozen=True)
class Listed:
    """One row: US dollars an hour of a whole instance. `spot_usd_per_h` is None where none is listed; `source` names
    the file."""

    instance_type: str
    region: str
    gpu: str
    gpus: int
    on_demand_usd_per_h: float
    spot_usd_per_h: float | None
    source: str


def read_listed(path: Path, instance_type: str, region: str | None = None) -> Listed:
    """The row of an instance; of several regions the first, unless one is named.

    Two layouts are known by their columns. AWS: `instance_type, region, gpu_name, gpu_count, on_demand_usd_h`, and spot
    as `spot_savings_pct` below it. SkyPilot's: `gpu` for the name, and `spot_usd_h`. Raises ConfigError for a file or
    a row that cannot be read, and for an instance that is not in it.
    """
    known: list[str] = []
    try:
        with path.open(encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                known.append(row.get("instance_type") or "")
                if known[-1] == instance_type and region in (None, row.get("region")):
                    return _listed(path, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Name a catalogue of prices.") from error
    near = sorted({name for name in known if name})
    what = f"no {instance_type!r}" + (f" in {region}" if region else "")
    raise ConfigError(what, where=str(path), fix=f"It has {', '.join(near[:12])}{' …' if len(near) > 12 else ''}.")


def _listed(path: Path, row: Mapping[str, str | None]) -> Listed:
    on_demand = _amount(path, row, "on_demand_usd_h")
    gpus = _amount(path, row, "gpu_count")
    if on_demand is None or gpus is None:
        what = f"{row['instance_type']} has no price or no number of GPUs"
        raise ConfigError(what, where=str(path), fix="Fill in on_demand_usd_h and gpu_count.")
    saving_pct = _amount(path, row, "spot_savings_pct")
    spot = _amount(path, row, "spot_usd_h") if saving_pct is None else on_demand * (1 - saving_pct / 100)
    return Listed(
        instance_type=row["instance_type"] or "",
        region=row.get("region") or "",
        gpu=row.get("gpu_name") or row.get("gpu") or "GPU",
        gpus=int(gpus),
        on_demand_usd_per_h=on_demand,
        spot_usd_per_h=spot,
        source=path.name,
    )


def _amount(path: Path, row: Mapping[str, str | None], column: str) -> float | None:
    """A number of 0 or more; None where the column is missing or empty."""
    text = row.get(column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"{column} is {text!r}", where=f"{path}, {row['instance_type']}", fix="Write a number.")
    return value
