"""How long a replay of the whole policy takes: two weeks entered at a workload's SLIs, and at a page of each replica.

The load is generated: a daily wave with Poisson arrivals and a burst every few hours, on fifteen replicas on average.
Pages are replayed for a twentieth of a day and their time multiplied: two weeks of them take a quarter of an hour.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from bench.report import Row, report
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.options import Entry, PipelineOptions
from optiinfra.replay.pipeline import replay_pipeline

DAYS = 14
PAGED_DAYS = 0.05
MEAN_RPS = 60.0
REPLICAS = 15
LIMIT_S = 60.0


def load(days: float, seed: int = 1) -> NDArray[np.int64]:
    """Requests of each second."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(int(days * 86_400))
    wave = 1 - 0.5 * np.cos(2 * np.pi * seconds / 86_400)
    for at_s in np.flatnonzero(rng.random(len(seconds)) < 1 / 14_400):
        wave[at_s : at_s + 900] *= 1.6
    return rng.poisson(MEAN_RPS * wave).astype(np.int64)


def timed(days: float, entry: Entry, scrape_s: int) -> tuple[float, PipelineResult]:
    """Wall seconds, and what came of it."""
    arrivals = load(days)
    options = PipelineOptions(capacity_rps=MEAN_RPS / REPLICAS, scrape_s=scrape_s, entry=entry, startup_s=60)
    began_s = time.perf_counter()
    result = replay_pipeline(arrivals, options)
    return time.perf_counter() - began_s, result


def main() -> None:
    """Replay, print, and keep."""
    rows: list[Row] = []
    for scrape_s in (15, 5):
        wall_s, result = timed(DAYS, Entry.WORKLOAD, scrape_s)
        paged_s = timed(PAGED_DAYS, Entry.REPLICA, scrape_s)[0] / PAGED_DAYS * DAYS
        what = f"{DAYS} days, a scrape every {scrape_s} s"
        messages = sum(result.handled.values())
        rows += [
            _row(f"{what}: wall", wall_s, "s", "a page of each replica", paged_s, paged_s / wall_s),
            _row(f"{what}: wall", wall_s, "s", "limit", LIMIT_S, LIMIT_S / wall_s),
            _row(f"{what}: messages", messages / wall_s, "1/s", None, None, None),
        ]
    report("replay_pipeline", rows)


def _row(
    name: str, value: float, unit: str, peer: str | None, peer_value: float | None, ratio: float | None
) -> dict[str, str | float | None]:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


if __name__ == "__main__":
    main()
