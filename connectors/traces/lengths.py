"""Draws how many tokens requests have, where a trace tells moments only: from what was published of their lengths.

A length lies on a curve through p50, p90 and p99 that is straight in the logarithm, goes on as steep beyond them, and
is scaled so that its mean is the published one. ServeGen tells these of each client in spans of some hours
(`client_token_stats.csv[.gz]`: workload, client, t_s, field, mean, p50, p90, p99); a client is drawn by its rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.traces.files import number, rows
from connectors.traces.servegen import CLIENTS, table
from connectors.traces.shape import Counts, Load, Requests

STATS = "client_token_stats.csv"
FIELDS = ("input_tokens", "output_tokens")
MOMENTS = "moments within each second, evenly spread"
BY_CLIENT = "lengths by each client's published mean and percentiles"
BY_AZURE = "lengths by the mean and percentiles of Azure's conversation trace of 2023"

Numbers = NDArray[np.float64]

_RANKS = np.array([0.0, 0.5, 0.9, 0.99, 0.999])
_GRID = np.linspace(0.0005, 0.9995, 1000)


@dataclass(frozen=True, eq=False)
class Mix:
    """Who asks in a span of time. `share`: [clients], sums to 1; `prompt`, `output`: logarithms of lengths at the
    ranks 0, 0.5, 0.9, 0.99 and 0.999, [clients, 5]."""

    share: Numbers
    prompt: Numbers
    output: Numbers

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
        """Prompt and output tokens of so many requests, at least 1: [count] each."""
        who = rng.choice(len(self.share), size=count, p=self.share)
        return _lengths(self.prompt[who], rng.random(count)), _lengths(self.output[who], rng.random(count))


def curve(mean: float, p50: float, p90: float, p99: float) -> Numbers:
    """Logarithms of the lengths at the five ranks: [5]."""
    log50, log90, log99 = np.log(np.maximum((p50, p90, p99), 1.0))
    found = np.array([max(0.0, 2 * log50 - log90), log50, log90, log99, 2 * log99 - log90])
    scaled: Numbers = found + np.log(max(mean, 1.0) / np.mean(np.exp(np.interp(_GRID, _RANKS, found))))
    return scaled


AZURE = Mix(np.ones(1), curve(1155, 1020, 2734, 4147)[None], curve(211, 129, 424, 601)[None])
"""The Azure conversation trace of 2023."""


def requests(load: Load, mixes: dict[int, Mix], seed: int) -> Requests:
    """Single requests that make this load, second by second. `mixes`: by the second of the load from which they hold;
    {} for AZURE. The same seed draws the same."""
    rng = np.random.default_rng([seed, len(load.per_second), load.begin_s])
    second = np.repeat(np.arange(len(load.per_second)), load.per_second)
    arrival_s = np.sort(second + rng.random(len(second)))
    prompt, output = np.empty((2, len(second)), dtype=np.int64)
    known = mixes or {0: AZURE}
    starts = sorted(known)
    place = np.maximum(np.searchsorted(starts, second, side="right") - 1, 0)
    for index, start in enumerate(starts):
        mine = np.flatnonzero(place == index)
        prompt[mine], output[mine] = known[start].draw(len(mine), rng)
    how = "; ".join(each for each in (load.generated, MOMENTS, BY_CLIENT if mixes else BY_AZURE) if each)
    return Requests(arrival_s, prompt, output, load.origin, how, midnight_s=load.begin_s)


def mixes(folder: Path, workload: str) -> dict[int, Mix]:
    """ServeGen's lengths by `t_s`; {} where it tells none of this workload. Raises ConfigError for a broken line."""
    told: dict[int, dict[str, dict[str, Numbers]]] = {}
    path = table(folder, STATS)
    if path is None:
        return {}
    for line, row in rows(path, ("workload", "client", "t_s", "field", "mean", "p50", "p90", "p99")):
        if row["workload"] == workload and row["field"] in FIELDS:
            stats = (number(path, line, row, name, least=0) for name in ("mean", "p50", "p90", "p99"))
            span = told.setdefault(int(number(path, line, row, "t_s", least=0)), {})
            span.setdefault(row["client"], {})[row["field"]] = curve(*stats)
    rates = _rates(folder, workload, sorted(told))
    found = {start: _mix(clients, rates.get(start, {})) for start, clients in told.items()}
    return {start: mix for start, mix in found.items() if mix is not None}


def _mix(clients: dict[str, dict[str, Numbers]], rates: dict[str, float]) -> Mix | None:
    """Those of whom both lengths are known, by their rates; alike where no rate is known."""
    whole = {name: fields for name, fields in clients.items() if len(fields) == len(FIELDS)}
    if not whole:
        return None
    share = np.array([rates.get(name, 0.0) for name in whole])
    if not share.any():
        share = np.ones(len(whole))
    prompt, output = (np.array([fields[field] for fields in whole.values()]) for field in FIELDS)
    return Mix(share / share.sum(), prompt, output)


def _rates(folder: Path, workload: str, starts: list[int]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {start: {} for start in starts}
    path = table(folder, CLIENTS)
    if path is None or not starts:
        return found
    for line, row in rows(path, ("workload", "client", "t_s", "rate_rps")):
        if row["workload"] == workload:
            at_s = number(path, line, row, "t_s", least=0)
            mine = found[starts[max(0, int(np.searchsorted(starts, at_s, side="right")) - 1)]]
            mine[row["client"]] = mine.get(row["client"], 0.0) + number(path, line, row, "rate_rps", least=0)
    return found


def _lengths(curves: Numbers, ranks: Numbers) -> Counts:
    """Lengths at these ranks, each on its own curve: [requests, 5], [requests]."""
    inside = np.minimum(ranks, _RANKS[-1])
    left = np.minimum(np.searchsorted(_RANKS, inside, side="right") - 1, len(_RANKS) - 2)
    line = np.arange(len(ranks))
    low, high = curves[line, left], curves[line, left + 1]
    share = (inside - _RANKS[left]) / (_RANKS[left + 1] - _RANKS[left])
    drawn: Counts = np.maximum(1, np.rint(np.exp(low + share * (high - low)))).astype(np.int64)
    return drawn
