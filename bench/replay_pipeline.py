"""How long a replay of the whole policy takes: two weeks entered at a workload's SLIs, and at a page of each replica.

The load is generated: a daily wave with Poisson arrivals and a burst every few hours, on fifteen replicas on average.
Pages are replayed for a twentieth of a day and their time multiplied: two weeks of them take a quarter of an hour.
Times are CPU seconds. The share of each stage is that of a day; what is left is the simulated fleet and its SLIs.
`python -m bench.replay_pipeline 15` looks at scrapes 15 s apart alone.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from bench.report import Row, report
from contracts.events import Message
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.acting import Acting
from optiinfra.replay.options import Entry, PipelineOptions
from optiinfra.replay.pipeline import replay_pipeline
from optiinfra.replay.virtual import StageSeat

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
    """CPU seconds, and what came of it."""
    arrivals = load(days)
    options = PipelineOptions(capacity_rps=MEAN_RPS / REPLICAS, scrape_s=scrape_s, entry=entry, startup_s=60)
    began_s = time.process_time()
    result = replay_pipeline(arrivals, options)
    return time.process_time() - began_s, result


@contextmanager
def metered() -> Iterator[dict[str, float]]:
    """CPU seconds by stage, and of reviewer and executor, of the replays that run meanwhile."""
    spent: dict[str, float] = defaultdict(float)

    def meter(take: Callable[[Any, Message], Sequence[Message]], name: Callable[[Any], str]) -> Any:
        def metered_take(taker: Any, message: Message) -> Sequence[Message]:
            began_s = time.process_time()
            try:
                return take(taker, message)
            finally:
                spent[name(taker)] += time.process_time() - began_s

        return metered_take

    with (
        patch.object(StageSeat, "take", meter(StageSeat.take, lambda seat: seat.stage.name)),
        patch.object(Acting, "_review", meter(Acting._review, lambda _: "reviewer")),
        patch.object(Acting, "_execute", meter(Acting._execute, lambda _: "executor")),
    ):
        yield spent


def main(scrapes_s: Sequence[int]) -> None:
    """Replay, print, and keep."""
    rows: list[Row] = []
    for scrape_s in scrapes_s:
        cpu_s, result = timed(DAYS, Entry.WORKLOAD, scrape_s)
        paged_s = timed(PAGED_DAYS, Entry.REPLICA, scrape_s)[0] / PAGED_DAYS * DAYS
        what = f"{DAYS} days, a scrape every {scrape_s} s"
        messages = sum(result.handled.values())
        rows += [
            _row(f"{what}: CPU", cpu_s, "s", "a page of each replica", paged_s, paged_s / cpu_s),
            _row(f"{what}: CPU", cpu_s, "s", "limit", LIMIT_S, LIMIT_S / cpu_s),
            _row(f"{what}: messages", messages / cpu_s, "1/s", None, None, None),
        ]
        with metered() as spent:
            day_s, _ = timed(1, Entry.WORKLOAD, scrape_s)
        for name, spent_s in sorted(spent.items(), key=lambda each: -each[1]):
            rows.append(_row(f"{what}: share of {name}", spent_s / day_s, "ratio", None, None, None))
    report("replay_pipeline", rows)


def _row(
    name: str, value: float, unit: str, peer: str | None, peer_value: float | None, ratio: float | None
) -> dict[str, str | float | None]:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [15, 5])
