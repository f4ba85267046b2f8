"""How well the twin's times fit the published tables, on rows kept out, and are its coefficients still the fit?"""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Row, report
from connectors.twin.coefficients import Coefficients
from connectors.twin.profiles import PROFILES

Array = np.ndarray[Any, np.dtype[np.float64]]
Key = tuple[str, str, int]
"""Model, hardware, tensor parallel."""

FLOOR_TOKENS = (0, 128, 256, 512)
"""Prefills of up to one of these many tokens take as long as reading the weights; the fit says which."""

DIGITS = 5


@dataclass(frozen=True)
class Table:
    """Measurements of one profile, a row each; times in ms. Rows of one (prompt, batch) are one `cell`."""

    prompt: Array
    batch: Array
    output: Array
    prefill_ms: Array
    decode_ms: Array

    @property
    def cell(self) -> Array:
        """Which cell a row is of."""
        return self.prompt * 1000 + self.batch

    @property
    def weight(self) -> Array:
        """Root weights that make every cell count the same: one of them has nine times the rows of the others."""
        _, where, count = np.unique(self.cell, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / np.sqrt(count[where]))

    def where(self, kept: Any) -> Table:
        """The rows for which `kept` holds."""
        return Table(*(column[kept] for column in vars(self).values()))


def traces() -> Path:
    """The folder of real traces."""
    return Path(os.environ.get("OPTIINFRA_TRACES", Path(__file__).parents[2] / "shared" / "traces"))


def tables(path: Path) -> dict[Key, Table]:
    """The measurements by profile.

    Left out: `h100-80gb-pcap`, whose prefills are 1.3 times those of `h100-80gb` and whose decode times are the same
    figures, so nothing of its own; and 64 prompts at once on two GPUs, which "take" less than half of what 32 take:
    they did not fit, and something else was timed.
    """
    found: dict[Key, list[tuple[float, ...]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            key = row["model"], row["hardware"], int(row["tensor_parallel"])
            if key[1].endswith("-pcap") or (key[2] == 2 and float(row["batch_size"]) == 64):
                continue
            names = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
            found[key].append(tuple(float(row[name]) for name in names))
    return {key: Table(*np.array(rows).T) for key, rows in sorted(found.items())}


def least_squares(terms: Array, times_ms: Array, weight: Array) -> Array:
    """Coefficients with the least squares of relative residuals."""
    scale = weight / times_ms
    return np.asarray(np.linalg.lstsq(terms * scale[:, None], weight, rcond=None)[0])


def prefill_terms(prompt: Array, batch: Array) -> Array:
    """Constant, tokens, (token, earlier token) pairs, tokens beyond either knee."""
    tokens, pairs = prompt * batch, batch * prompt**2 / 2
    beyond = [np.maximum(0.0, tokens - knee) for knee in Coefficients.PREFILL_KNEES]
    return np.stack([np.ones_like(tokens), tokens, pairs, *beyond], axis=1)


def decode_terms(prompt: Array, batch: Array, output: Array) -> Array:
    """Constant, requests, requests beyond the knee, tokens of context half way through."""
    beyond = np.maximum(0.0, batch - Coefficients.DECODE_KNEE)
    return np.stack([np.ones_like(batch), batch, beyond, batch * (prompt + output / 2)], axis=1)


def fit(table: Table) -> Coefficients:
    """The coefficients of one profile. Terms that would come out below zero for attention or context are left out.

    Where no prefill was flat, the floor is a decode step of one request: it reads the same weights.
    """
    tokens, weight = table.prompt * table.batch, table.weight
    steps = without_negative(decode_terms(table.prompt, table.batch, table.output), table.decode_ms, weight, 3)
    terms = prefill_terms(table.prompt, table.batch)
    tried: list[tuple[float, float, Array]] = []
    for edge in FLOOR_TOKENS:
        flat, sloped = tokens <= edge, tokens > edge
        floor = float(steps[0] + steps[1])
        if flat.any():
            floor = float(least_squares(np.ones((int(flat.sum()), 1)), table.prefill_ms[flat], weight[flat])[0])
        slope = without_negative(terms[sloped], table.prefill_ms[sloped], weight[sloped], 2)
        off = np.maximum(floor, terms @ slope) / table.prefill_ms - 1
        tried.append((float(np.sum((weight * off) ** 2)), floor, slope))
    _, floor, slope = min(tried, key=lambda each: each[0])
    return Coefficients(*(float(f"{value:.{DIGITS}g}") for value in (floor, *slope, *steps)))


def without_negative(terms: Array, times_ms: Array, weight: Array, column: int) -> Array:
    """Least squares, without `column` when its coefficient would be negative."""
    found = least_squares(terms, times_ms, weight)
    if found[column] < 0:
        kept = [i for i in range(terms.shape[1]) if i != column]
        found = np.zeros(terms.shape[1])
        found[kept] = least_squares(terms[:, kept], times_ms, weight)
    return found


def errors(made: Coefficients, table: Table) -> tuple[Array, Array]:
    """Relative errors of prefill and decode time, row by row."""
    rows = zip(table.prompt, table.batch, table.output, strict=True)
    told = [
        (made.prefill_ms(int(p * b), b * p * p / 2), made.decode_ms(int(b), int(b * (p + o / 2)))) for p, b, o in rows
    ]
    prefill, decode = np.array(told).T
    return np.abs(prefill / table.prefill_ms - 1), np.abs(decode / table.decode_ms - 1)


def held_out(table: Table) -> Iterator[tuple[Table, Coefficients]]:
    """Each cell once, with the fit that has not seen any of its rows."""
    for cell in np.unique(table.cell):
        yield table.where(table.cell == cell), fit(table.where(table.cell != cell))


def inside(rows: Table, table: Table) -> Any:
    """Which rows are of cells that have measurements on both sides: keeping those out asks for no extrapolation."""
    ends = (rows.prompt == table.prompt.min()) | (rows.prompt == table.prompt.max()) | (rows.batch == table.batch.max())
    return ~ends


def quantile(values: Array, weight: Array, q: float) -> float:
    """The least value at or below which lies share `q` of the weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][np.searchsorted(reached, q - 1e-12)])


def off_by(kept: Coefficients, again: Coefficients) -> float:
    """The largest relative difference between two sets of coefficients."""
    pairs = zip(asdict(kept).values(), asdict(again).values(), strict=True)
    return max(float(abs(one - other) / max(abs(other), 1e-12)) for one, other in pairs)


def profile_rows(key: Key, table: Table) -> list[Row]:
    """Errors of one profile on cells kept out, each counting the same, and how far the committed coefficients are from
    the fit. `no ends` leaves out the shortest and longest prompt and the largest batch, which are extrapolated to."""
    name = f"{key[0]}, {key[2]} x {key[1]}"
    kept, again = PROFILES[f"{key[0]}/{key[1]}/tp{key[2]}"].coefficients, fit(table)
    moved = off_by(kept, again)
    if moved > 0:
        print(f"  {name}: the committed coefficients are not the fit, which is {tuple(asdict(again).values())}")
    folds = [(rows.weight**2, inside(rows, table), *errors(made, rows)) for rows, made in held_out(table)]
    weight, within, *kept_out = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    rows: list[Row] = []
    for what, off, own in zip(("TTFT", "ITL"), kept_out, errors(kept, table), strict=True):
        for label, q, mask in (("median", 0.5, weight > 0), ("p95", 0.95, weight > 0), ("p95, no ends", 0.95, within)):
            seen = inside(table, table) if mask is within else table.weight > 0
            rows.append(
                {
                    "name": f"{name}: {what} error, {label}",
                    "value": 100 * quantile(off[mask], weight[mask], q),
                    "unit": "%",
                    "peer": "the committed fit on rows it has seen",
                    "peer_value": 100 * quantile(own[seen], table.weight[seen] ** 2, q),
                    "ratio": None,
                }
            )
    coefficients: Row = {
        "name": f"{name}: committed coefficients off the fit, at most",
        "value": 100 * moved,
        "unit": "%",
        "peer": None,
        "peer_value": None,
        "ratio": None,
    }
    return [*rows, coefficients]


def over_all(rows: Sequence[Row]) -> Iterator[Row]:
    """The middle of the profiles, error by error."""
    for what in (f"{time} error, {label}" for time in ("TTFT", "ITL") for label in ("median", "p95", "p95, no ends")):
        found = [row for row in rows if str(row["name"]).endswith(what)]
        middle = {
            column: float(np.median([float(row[column] or 0.0) for row in found])) for column in ("value", "peer_value")
        }
        yield {**found[0], "name": f"middle of {len(found)} profiles: {what}", **middle}


def main() -> None:
    """Refit every profile; keep each cell out once."""
    path = traces() / "latency" / "perf_model.csv.gz"
    if not path.exists():
        print(f"  no {path}: set OPTIINFRA_TRACES to the folder of traces. No figures.")
        return
    rows = [row for key, table in tables(path).items() for row in profile_rows(key, table)]
    report("calibration", [*over_all(rows), *rows])


if __name__ == "__main__":
    main()
