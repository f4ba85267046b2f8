"""Reads ServeGen's measured rates of a workload and of its clients, and draws arrivals from them, second by second.

Source: alibaba/ServeGen, licence Apache-2.0, as two tables: `workload_rate_10min.csv[.gz]` (workload, t_s, rate_rps)
and `client_arrivals_10min.csv[.gz]` (workload, client, t_s, rate_rps, cv, pattern, p1, p2). The rates are measured; the
moments of single requests are not published, so they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from connectors.traces.files import Row, broken, number, rows
from connectors.traces.shape import Counts, Load, Seconds
from contracts.errors import ConfigError

RATES, CLIENTS = "workload_rate_10min.csv", "client_arrivals_10min.csv"
DRAWN = (
    "seconds within each {minutes:g}-minute window, whose totals are measured: gaps of each client by its own "
    "Gamma or Weibull shape, the rate drawn straight from window middle to window middle"
)
DRAWN_RAW = "seconds within each {minutes:g}-minute window, whose totals are measured: Poisson at a constant rate"

_LONE_WINDOW_S = 600


@dataclass(frozen=True, slots=True)
class Client:
    """What one client sent in one window: requests a second, and the shape of its gaps (1 is Poisson)."""

    rate_rps: float
    weibull: bool
    shape: float


@dataclass(frozen=True, eq=False)
class Windows:
    """A workload in windows of equal length. `rate_rps`: [windows], 0 where the file has none; `clients` of each."""

    workload: str
    window_s: int
    begin_s: int
    rate_rps: Seconds
    clients: tuple[tuple[Client, ...], ...]
    origin: str

    def totals(self) -> Counts:
        """Requests of each window, whole numbers: [windows]."""
        return np.rint(self.rate_rps * self.window_s).astype(np.int64)


def at(folder: Path) -> bool:
    """Whether a folder holds ServeGen's tables."""
    return table(folder, RATES) is not None


def workloads(folder: Path) -> list[str]:
    """The workloads of a folder, sorted. Raises ConfigError."""
    return sorted({row["workload"] for _, row in rows(_rates(folder), ("workload", "t_s", "rate_rps"))})


def read(folder: Path, workload: str) -> Windows:
    """The windows of a workload. Raises ConfigError: no such table or workload, a line that cannot be read.

    The table of clients may be missing, or know nothing of some windows: arrivals there are Poisson.
    """
    path = _rates(folder)
    rates: dict[int, float] = {}
    others: set[str] = set()
    for line, row in rows(path, ("workload", "t_s", "rate_rps")):
        if row["workload"] != workload:
            others.add(row["workload"])
            continue
        at_s = _start_s(path, line, row)
        if at_s in rates:
            raise broken(path, line, f"a second window of {workload} at t_s {at_s}", "Delete one of them.")
        rates[at_s] = number(path, line, row, "rate_rps", least=0)
    if not rates:
        fix = f"Its workloads: {', '.join(sorted(others))}." if others else "The table is empty."
        raise ConfigError(f"no workload {workload!r}", where=str(path), fix=fix)
    starts = sorted(rates)
    window_s = min((b - a for a, b in pairwise(starts)), default=_LONE_WINDOW_S)
    odd = next((each for each in starts if (each - starts[0]) % window_s), None)
    if odd is not None:
        fix = f"Windows begin every {window_s} s from {starts[0]} on."
        raise ConfigError(f"the window of {workload} at t_s {odd} overlaps another", where=str(path), fix=fix)
    rate_rps = np.zeros((starts[-1] - starts[0]) // window_s + 1)
    for at_s, rate in rates.items():
        rate_rps[(at_s - starts[0]) // window_s] = rate
    clients = _clients(folder, workload, starts[0], window_s, len(rate_rps))
    return Windows(workload, window_s, starts[0], rate_rps, clients, f"servegen {folder.name} {workload}")


def arrivals(windows: Windows, seed: int, *, raw: bool = False) -> Load:
    """Requests in each second: [windows × window_s]. The total of each window is the measured one, exactly.

    Each client's gaps are drawn by its own shape and stretched so that its requests fill the window; its share of the
    window's requests is its share of the clients' rates. Within a window the rate goes straight from window middle to
    window middle. `raw`: Poisson instead, at the window's constant rate. A window is drawn from `seed` and its number
    alone: what comes later in the trace changes nothing before, but for the line to the next window's middle.
    """
    totals = windows.totals()
    size = windows.window_s
    middles = (np.arange(len(totals)) + 0.5) * size
    seconds = np.empty(len(totals) * size, dtype=np.int64)
    for index, total in enumerate(totals):
        rng = np.random.default_rng([seed, index])
        if raw:
            drawn = rng.multinomial(total, np.full(size, 1 / size))
        else:
            line = np.interp(index * size + np.arange(size) + 0.5, middles, windows.rate_rps)
            with np.errstate(over="ignore"):  # a shape near 0 outgrows all numbers, and is seen to there
                drawn = _window(rng, int(total), windows.clients[index], line)
        seconds[index * size : (index + 1) * size] = drawn
    return load_of(windows, seconds, raw=raw)


def load_of(windows: Windows, seconds: Counts, *, raw: bool) -> Load:
    """Arrivals that were drawn from these windows, [windows × window_s], with what they come from."""
    how = (DRAWN_RAW if raw else DRAWN).format(minutes=windows.window_s / 60)
    return Load(windows.workload, seconds, windows.origin, how, begin_s=windows.begin_s % 86_400)


def _window(rng: np.random.Generator, total: int, clients: tuple[Client, ...], rate: Seconds) -> Counts:
    """`total` requests of these clients over the seconds of a window whose rate goes as `rate`: [seconds]."""
    if total == 0:
        return np.zeros(len(rate), dtype=np.int64)
    edges = rate.cumsum()
    inner = edges[:-1] / edges[-1]  # where the seconds end, but for the last
    known = clients or (Client(1.0, weibull=False, shape=1.0),)
    before = np.zeros(len(rate) + 1, dtype=np.int64)  # requests before each edge
    for client, share in zip(known, _shares(total, known), strict=True):
        if share == 0:
            continue
        if client.weibull:
            gaps = rng.standard_exponential(share + 1) ** (1 / client.shape)
        else:
            gaps = rng.standard_gamma(client.shape, share + 1)
        moments = gaps.cumsum(out=gaps)
        if not 0 < moments[-1] < np.inf:  # every gap vanished, or one outgrew all numbers
            moments = rng.standard_exponential(share + 1).cumsum()
        before[1:-1] += moments[:-1].searchsorted(inner * moments[-1])
        before[-1] += share
    return np.diff(before)


def _shares(total: int, clients: tuple[Client, ...]) -> list[int]:
    """`total` split by the clients' rates, the largest remainders rounded up."""
    rates = np.array([client.rate_rps for client in clients])
    exact = total * rates / rates.sum()
    whole = np.floor(exact).astype(np.int64)
    left = total - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return [int(each) for each in whole]


def _clients(folder: Path, workload: str, begin_s: int, window_s: int, count: int) -> tuple[tuple[Client, ...], ...]:
    found: list[list[Client]] = [[] for _ in range(count)]
    path = table(folder, CLIENTS)
    if path is None:
        return tuple(() for _ in range(count))
    for line, row in rows(path, ("workload", "client", "t_s", "rate_rps", "pattern", "p1")):
        if row["workload"] != workload:
            continue
        index, rest = divmod(_start_s(path, line, row) - begin_s, window_s)
        if rest or not 0 <= index < count:
            raise broken(path, line, f"no window of {RATES} at t_s {row['t_s']}", "Delete the line.")
        rate = number(path, line, row, "rate_rps", least=0)
        if rate > 0:
            found[index].append(Client(rate, *_shape(path, line, row)))
    return tuple(tuple(each) for each in found)


def _shape(path: Path, line: int, row: Row) -> tuple[bool, float]:
    pattern = row["pattern"].strip().lower()
    if pattern in ("", "poisson", "exponential") or not row["p1"].strip():
        return False, 1.0
    if pattern not in ("gamma", "weibull"):
        raise broken(path, line, f"pattern is {row['pattern']!r}", "Write Gamma, Weibull or Poisson.")
    shape = number(path, line, row, "p1", least=0)
    if shape == 0:
        raise broken(path, line, "p1 is 0, a shape that nothing has", "Write a number above 0, or leave it empty.")
    return pattern == "weibull", shape


def _start_s(path: Path, line: int, row: Row) -> int:
    at_s = number(path, line, row, "t_s", least=0)
    if at_s != int(at_s):
        raise broken(path, line, f"t_s is {row['t_s']!r}", "Windows begin at whole seconds.")
    return int(at_s)


def _rates(folder: Path) -> Path:
    path = table(folder, RATES)
    if path is None:
        raise ConfigError(f"no {RATES} or {RATES}.gz", where=str(folder), fix="Name the folder that holds it.")
    return path


def table(folder: Path, name: str) -> Path | None:
    """A table of this name in a folder, packed or not; None where there is none."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
