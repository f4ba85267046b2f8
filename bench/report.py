"""Prints the rows of a benchmark as a table and keeps them as JSON in `bench/out/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

OUT = Path(__file__).parent / "out"
COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio")

Row = Mapping[str, str | float | None]


def report(name: str, rows: Sequence[Row]) -> None:
    """Write `bench/out/NAME.json` and print the rows: `{name, value, unit, peer, peer_value, ratio}`.

    `ratio` is how many times better `value` is than `peer_value`, both from the same run; None without a peer.
    """
    for row in rows:
        if set(row) != set(COLUMNS):
            raise ValueError(f"a row has {', '.join(COLUMNS)}, not {', '.join(row)}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps([dict(row) for row in rows], indent=2) + "\n")
    table = [COLUMNS, *(tuple(_cell(row[column]) for column in COLUMNS) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
