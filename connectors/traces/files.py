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

MOST_S = 366 * 86_400
MOST = 1e15
"""No moment, size or rate of a trace is larger: what is larger was not meant."""

_LATER = "surrogateescape"
"""What is no UTF-8 is found line by line: a decoder reads ahead, and would not know which line it was."""


def opened(path: Path) -> TextIO:
    """The text of a file; `.gz` is unpacked. Raises ConfigError where there is none."""
    try:
        return (
            gzip.open(path, "rt", encoding="utf-8", errors=_LATER, newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8", errors=_LATER, newline="")
        )
    except OSError as error:
        raise ConfigError(
            f"cannot be opened: {error.strerror}", where=str(path), fix="Name a trace file that exists."
        ) from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty. Raises ConfigError where the file breaks off."""
    number = 0
    with opened(path) as source:
        try:
            for number, line in enumerate(source, 1):
                if not line.isascii():
                    line.encode()
                if text := line.strip().removeprefix("\ufeff"):
                    yield number, text
        except UnicodeEncodeError:
            raise broken(path, number, "no UTF-8", "Write the file in UTF-8, or delete the line.") from None
        except (OSError, EOFError, zlib.error) as error:
            raise broken(path, number + 1, f"cannot be read: {error}", "Fetch the file anew.") from None


def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Line number and fields of each row of a csv file that has at least these columns. Raises ConfigError."""
    source = lines(path)
    _, head = next(source, (0, ""))
    names = [name.strip() for name in fields_of(path, 1, head)]
    missing = [name for name in columns if name not in names]
    if missing:
        fix = f"The first line names the columns: {','.join(columns)}."
        raise broken(path, 1, f"no column {', '.join(missing)}", fix)
    numbers: list[int] = []

    def texts() -> Iterator[str]:
        for number, text in source:
            numbers.append(number)
            yield text

    reader = csv.reader(texts())
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise broken(path, numbers[0], f"no csv: {error}", "Complete or delete the line.") from None
        number = numbers[0]  # where a quoted field that spans lines begins
        numbers.clear()
        if len(fields) != len(names):
            raise broken(path, number, f"{len(fields)} fields, {len(names)} columns", "Complete or delete the line.")
        yield number, dict(zip(names, fields, strict=True))


def fields_of(path: Path, line: int, text: str) -> list[str]:
    """The fields of one csv line. Raises ConfigError."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:
        raise broken(path, line, f"no csv: {error}", "Complete or delete the line.") from None


def number(path: Path, line: int, row: Row, column: str, *, least: float = -math.inf) -> float:
    """A finite number of at least `least` in this column. Raises ConfigError."""
    text = row[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not least <= value < MOST:
        bound = f" below {MOST:g}" if value >= MOST else "" if least == -math.inf else f" of {least:g} or more"
        raise broken(path, line, f"{column} is {text!r}", f"Write a number{bound}, or delete the line.")
    return value


def broken(path: Path, line: int, what: str, fix: str) -> ConfigError:
    """The error of one line."""
    return ConfigError(what, where=f"{path}:{line}", fix=fix)


def begin_s(path: Path, first_s: float, last_s: float) -> float:
    """The whole second at which a trace with these first and last arrivals begins: stamps may count from 1970, and what
    came before the first request is no silence. Raises ConfigError for a trace that no memory would hold."""
    if last_s - first_s > MOST_S:
        what = f"the last request comes {(last_s - first_s) / 86_400:,.0f} days after the first"
        raise ConfigError(
            what, where=str(path), fix="Delete lines whose moment is wrong; a trace lasts a year at most."
        )
    return float(math.floor(first_s))


def in_order(arrival_s: Sequence[float], *tokens: Sequence[int]) -> tuple[Seconds, tuple[Counts, ...], Counts]:
    """Arrays sorted by arrival, those of one moment as in the file, and the order that sorted them."""
    at_s = np.asarray(arrival_s, dtype=np.float64)
    order = np.argsort(at_s, kind="stable")
    return at_s[order], tuple(np.asarray(each, dtype=np.int64)[order] for each in tokens), order
