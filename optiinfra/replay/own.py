"""Reads a workload's past from OptiInfra's own store, so that last month can be replayed like any trace.

The store knows rates of windows, not moments: within a window the requests are drawn, each second as likely. Windows
without a value are gaps. A gap is no silence: the load in it is taken to go straight from the rate before to the rate
after, nothing of it is shown to a scaler, and the report tells how much there was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from connectors.traces.shape import Counts, Load, Seconds
from contracts.errors import ConfigError
from contracts.ports import Scalar

SIZES_S = (10, 60)
"""Windows to look for, the finest first: those of 10 s leave the store earlier."""

LEAST_COVERAGE_RATIO = 0.5
"""A window of which less than this was measured counts as a gap."""

_DAY_S = 86_400
_PAGE = 100_000


class Asked(Protocol):
    """The half of the `Store` port that answers."""

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]: ...


async def past(store: Asked, workload: str | None, seed: int, *, page: int = _PAGE) -> Load:
    """The load of a workload from its first window in the store to its last, with its gaps.

    Raises ConfigError: no such workload, several and none named, or no window with a rate; Unavailable.
    """
    spans = {str(row["workload"]): row for row in await store.query("workloads")}
    name = workload if workload is not None else next(iter(spans)) if len(spans) == 1 else None
    if name not in spans:
        has = f"Its workloads: {', '.join(spans)}." if spans else "Let `optiinfra up` watch a fleet for a while."
        what = f"no workload {name!r}" if name else f"{len(spans)} workloads and none named"
        raise ConfigError(what, where="the store", fix=has if not spans or name else f"{has} Write --workload.")
    for size_s in SIZES_S:
        rows = await _rates(store, name, size_s, page)
        if any(_known(row) for row in rows):
            return load_of(rows, size_s, name, seed)
    raise ConfigError(
        f"no rate of {name!r}", where="the store", fix="Let `optiinfra up` watch it for some windows of 10 s."
    )


def load_of(rows: Sequence[Mapping[str, Scalar]], size_s: int, workload: str, seed: int) -> Load:
    """Rows of the query `arrival_rates`, oldest first and one at least with a rate, as a load: from the first window
    with a rate to the last, in seconds."""
    known = [row for row in rows if _known(row)]
    starts_s = np.array([int(row["start_ms"] or 0) // 1000 for row in known], dtype=np.int64)
    first_s = int(starts_s[0])
    place = (starts_s - first_s) // size_s
    rates = np.array([float(row["value"] or 0.0) for row in known])
    windows = np.arange(int(place[-1]) + 1)
    measured = np.zeros(len(windows), dtype=np.bool_)
    measured[place] = True
    totals = np.rint(np.interp(windows, place, rates) * size_s).astype(np.int64)
    slis = sorted({str(row["sli"]) for row in known})
    return Load(
        workload,
        _drawn(totals, size_s, seed),
        f"own store, {' and '.join(slis)} in windows of {size_s} s",
        f"seconds within each {size_s}-s window, whose totals are measured: each as likely{_gaps(measured, size_s)}",
        first_s % _DAY_S,
        None if measured.all() else np.repeat(measured, size_s),
    )


def _drawn(totals: Counts, size_s: int, seed: int) -> Counts:
    """The requests of each window over its seconds: [windows × size_s]."""
    each: Seconds = np.full(size_s, 1 / size_s)
    drawn = np.random.default_rng([seed, size_s]).multinomial(totals, each)
    return drawn.reshape(-1).astype(np.int64)


def _gaps(measured: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], size_s: int) -> str:
    """What is told of gaps; nothing where there is none."""
    missing = int((~measured).sum())
    if not missing:
        return ""
    count = int((np.diff(measured.astype(np.int8)) == -1).sum())
    return (
        f"; {count} gap{'s' if count > 1 else ''} of {missing * size_s / 60:g} min in all, unmeasured: "
        "the load there is a straight line, and no scaler sees it"
    )


def _known(row: Mapping[str, Scalar]) -> bool:
    coverage = row["coverage_ratio"]
    return row["value"] is not None and isinstance(coverage, int | float) and coverage >= LEAST_COVERAGE_RATIO


async def _rates(store: Asked, workload: str, size_s: int, page: int) -> list[dict[str, Scalar]]:
    found: list[dict[str, Scalar]] = []
    from_ms = 0
    while True:
        rows = await store.query("arrival_rates", workload=workload, size_s=size_s, from_ms=from_ms, limit=page)
        found += rows
        if len(rows) < page:
            return found
        from_ms = int(rows[-1]["start_ms"] or 0) + 1
