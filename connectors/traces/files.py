"""Opening a trace file, packed or not, and refusing what cannot be read with the line and the edit that mends it."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from connectors.traces.shape import Counts, Seconds
from contracts.errors import ConfigError

Row = Mapping[str, str]


def opened(path: Path) -> TextIO:
    """The text of a file; `.gz` is unpacked. Raises ConfigError where there is none."""
    try:
        return (
            gzip.open(path, "rt", encoding="utf-8", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8", newline="")
        )
    except OSError as error:
        raise ConfigError(
            f"cannot be opened: {error.strerror}", where=str(path), fix="Name a trace file that exists."
        ) from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty. Raises ConfigError where the file breaks off."""
    number = 0
    with opened(path) as text:
        try:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line.strip()
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise broken(path, number + 1, f"cannot be read: {error}", "Fetch the file anew.") from None


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Line number and fields of each row of a csv file that has at least these columns. Raises ConfigError."""
    source = lines(path)
    _, head = next(source, (0, ""))
    names = [name.strip().removeprefix("\ufeff") for name in next(csv.reader([head]), [])]
    missing = [name for name in columns if name not in names]
    if missing:
        fix = f"The first line names the columns: {','.join(columns)}."
        raise broken(path, 1, f"no column {', '.join(missing)}", fix)
    numbers: list[int] = []

    def texts() -> Iterator[str]:
        for number, text in source:
            numbers.append(number)
            yield text

    for fields in csv.reader(texts()):
        number = numbers[-1]
        numbers.clear()
        if len(fields) != len(names):
            raise broken(path, number, f"{len(fields)} fields, {len(names)} columns", "Complete or delete the line.")
        yield number, dict(zip(names, fields, strict=True))


def number(path: Path, line: int, row: Row, column: str, *, least: float = -math.inf) -> float:
    """A finite number of at least `least` in this column. Raises ConfigError."""
    text = row[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < least:
        bound = "" if least == -math.inf else f" of {least:g} or more"
        raise broken(path, line, f"{column} is {text!r}", f"Write a number{bound}, or delete the line.")
    return value


def broken(path: Path, line: int, what: str, fix: str) -> ConfigError:
    """The error of one line."""
    return ConfigError(what, where=f"{path}:{line}", fix=fix)


def in_order(arrival_s: Sequence[float], *tokens: Sequence[int]) -> tuple[Seconds, tuple[Counts, ...], Counts]:
    """Arrays sorted by arrival, those of one moment as in the file, and the order that sorted them."""
    at_s = np.asarray(arrival_s, dtype=np.float64)
    order = np.argsort(at_s, kind="stable")
    return at_s[order], tuple(np.asarray(each, dtype=np.int64)[order] for each in tokens), order
