"""How long a replay takes request by request: the Azure conversation hour under a scaler, and how time grows with it.

Five sizes of the hour, from a quarter to four of them one after the other at the same rate, each with the same scaler;
the line is the least squares through them. Times are processor seconds of one core.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.calibration import traces
from bench.report import Row, report
from connectors.traces import azure
from connectors.traces.shape import Requests
from optiinfra.replay import report as told
from optiinfra.replay import requests
from optiinfra.replay.frontier import points
from optiinfra.replay.peers import reactive
from optiinfra.replay.registry import OURS
from optiinfra.replay.requests import RequestRace, Twin

SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)
STARTUP_S = 60.0
LIMIT_S = 30.0
KNOBS = {"margin_ratio": 1.35, "window_s": 30.0, "hold_s": 300.0, "clear_s": 30.0}


def repeated(hour: Requests, share: float) -> Requests:
    """So many hours one after the other, or the first part of one."""
    if hour.prompt_tokens is None or hour.output_tokens is None:
        raise ValueError("a trace without lengths")
    span_s = float(np.ceil(hour.arrival_s[-1]))
    rounds = int(np.ceil(share))
    at_s = np.concatenate([hour.arrival_s + turn * span_s for turn in range(rounds)])
    kept = int(np.searchsorted(at_s, share * span_s))
    return replace(
        hour,
        arrival_s=at_s[:kept],
        prompt_tokens=np.tile(hour.prompt_tokens, rounds)[:kept],
        output_tokens=np.tile(hour.output_tokens, rounds)[:kept],
    )


def race(hour: Requests, share: float, twin: Twin) -> RequestRace:
    """That much of the trace as a race."""
    part = repeated(hour, share)
    return requests.race(part.load("conv"), part, twin)


def seconds(run: RequestRace) -> float:
    """Processor seconds of one run of the reactive scaler."""
    began_s = time.process_time()
    run.run(reactive.POLICY, KNOBS, STARTUP_S)
    return time.process_time() - began_s


def tuned(hour: Requests) -> tuple[float, int, str]:
    """Processor seconds of all that the command does for our scaler on the hour, its runs, and what it would write."""
    began_s = time.process_time()
    run = race(hour, 1.0, Twin())
    found = points(run, run.tried(OURS, STARTUP_S), STARTUP_S)
    rows = told.results(run, [told.oracle_point(run, STARTUP_S), *found])
    return time.process_time() - began_s, len(found), json.dumps(rows)


def rows(path: Path) -> list[Row]:
    """All figures."""
    hour = azure.read(path)
    whole_s, runs, text = tuned(hour)
    again = tuned(hour)[2]
    if text != again:
        raise SystemExit("a second replay wrote other bytes: no figures")
    name = f"Azure conversation hour, {len(hour):,} requests"
    found = [
        _row(f"{name}: our scaler, capacity measured and {runs} points", whole_s, "CPU s", LIMIT_S),
        _row(f"{name}: our scaler, a point", whole_s / runs, "CPU s", LIMIT_S),
    ]
    twin = Twin(capacity_rps=3.0)
    sizes, times = [], []
    for share in SHARES:
        run = race(hour, share, twin)
        sizes.append(float(len(run.trace)))
        times.append(min(seconds(run) for _ in range(2)))
        found.append(_row(f"{len(run.trace):,} requests, reactive scaler, a run", times[-1], "CPU s", None))
    slope, start = np.polyfit(sizes, times, 1)
    rest = np.asarray(times) - (slope * np.asarray(sizes) + start)
    r2 = 1 - float(np.sum(rest**2)) / float(np.sum((np.asarray(times) - np.mean(times)) ** 2))
    found += [
        _row(f"line through {len(SHARES)} sizes: R²", r2, "", None),
        _row("line: a request", float(slope) * 1e6, "CPU µs", None),
        _row("line: at no request", float(start), "CPU s", None),
    ]
    return found


def _row(name: str, value: float, unit: str, limit: float | None) -> Row:
    peer = None if limit is None else "limit"
    ratio = None if limit is None else limit / value
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": limit, "ratio": ratio}


def main() -> None:
    """Replay, print, and keep; without the trace say how to get it."""
    path = traces() / "azure2023" / "AzureLLMInferenceTrace_conv.csv.gz"
    if not path.is_file():
        print(f"  no {path}: set OPTIINFRA_TRACES to the folder of traces. No figures.")
        return
    report("replay_requests", rows(path))


if __name__ == "__main__":
    main()
