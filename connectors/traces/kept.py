"""Keeps arrivals that were drawn: those of 14 busy days take some ten seconds, and come out the same each time.

A file is named by all that it was drawn from: the measured windows, the seed, the code that draws and numpy's version.
One that is broken, or does not add up to the measured totals, is drawn anew; where nothing can be written, nothing is.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
import tokenize
from contextlib import suppress
from pathlib import Path

import numpy as np

from connectors.traces import servegen
from connectors.traces.servegen import Windows
from connectors.traces.shape import Counts, Load

LEAST_REQUESTS = 5_000_000
"""Fewer take no time to draw, and are not kept."""
FILES_LIMIT = 32
"""Of more, those that were used longest ago go."""


def default_folder() -> Path | None:
    """Where they are kept when nobody says otherwise; None for a user without a home. Whoever deletes it loses time,
    and nothing else."""
    try:
        return Path.home() / ".cache" / "optiinfra" / "drawn"
    except RuntimeError:
        return None


def arrivals(windows: Windows, seed: int, folder: Path | None, *, raw: bool = False) -> Load:
    """As `servegen.arrivals`, from a file of this folder where one is kept; None: nothing is kept."""
    totals = windows.totals()
    if folder is None or int(totals.sum()) < LEAST_REQUESTS:
        return servegen.arrivals(windows, seed, raw=raw)
    try:
        path = folder / f"{_name(windows, seed, raw=raw)}.npy"
    except OSError:  # nobody knows which code draws
        return servegen.arrivals(windows, seed, raw=raw)
    seconds = _read(path, totals, windows.window_s)
    if seconds is not None:
        return servegen.load_of(windows, seconds, raw=raw)
    drawn = servegen.arrivals(windows, seed, raw=raw)
    with suppress(OSError):
        _write(path, drawn.per_second)
    return drawn


def _name(windows: Windows, seed: int, *, raw: bool) -> str:
    """The hash of what the arrivals depend on. Raises OSError where the code that draws has no source."""
    told = (
        np.__version__,
        inspect.getsource(servegen),
        windows.window_s,
        windows.rate_rps.tolist(),
        windows.clients,
        seed,
        raw,
    )
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _read(path: Path, totals: Counts, window_s: int) -> Counts | None:
    try:
        seconds = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, tokenize.TokenError):  # numpy reads the header as Python
        return None
    if seconds.dtype.kind != "u" or seconds.shape != (len(totals) * window_s,):
        return None
    if not np.array_equal(seconds.reshape(-1, window_s).sum(axis=1, dtype=np.int64), totals):
        return None
    with suppress(OSError):  # it may be somebody else's
        os.utime(path)
    return np.array(seconds, dtype=np.int64)


def _write(path: Path, seconds: Counts) -> None:
    """It appears by one rename, so nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".npy", delete=False) as file:
        try:
            np.save(file, seconds.astype(np.min_scalar_type(int(seconds.max()))))
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    by_use = sorted(path.parent.glob("[!.]*.npy"), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in by_use[FILES_LIMIT:]:
        old.unlink(missing_ok=True)
