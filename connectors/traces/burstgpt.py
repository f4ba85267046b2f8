"""Reads BurstGPT traces: one request a line with seconds, the model, token counts and where it came from.

Source: HPMLL/BurstGPT, BurstGPT_*.csv, licence CC-BY 4.0. A line with no response tokens is a request that failed.
"""

from __future__ import annotations

import math
from pathlib import Path

from connectors.traces.files import begin_s, in_order, number, rows
from connectors.traces.shape import Requests
from contracts.errors import ConfigError

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")


def read(path: Path, model: str | None = None) -> Requests:
    """The requests of a `.csv` or `.csv.gz`, of one model or of all; failed ones count, they came. Raises ConfigError.

    Timestamps are seconds since a midnight, as the publishers say, 1970 or another. Second 0 is the whole second of the
    first request of any model, so that models stay side by side.
    """
    at_s: list[float] = []
    prompt: list[int] = []
    output: list[int] = []
    models: set[str] = set()
    first_s = math.inf
    for line, row in rows(path, COLUMNS):
        models.add(row["Model"])
        moment_s = number(path, line, row, "Timestamp", least=0)
        first_s = min(first_s, moment_s)
        if model is not None and row["Model"] != model:
            continue
        at_s.append(moment_s)
        prompt.append(int(number(path, line, row, "Request tokens", least=0)))
        output.append(int(number(path, line, row, "Response tokens", least=0)))
    if not at_s:
        has = f"Its models: {', '.join(sorted(models))}." if models else "Name a trace with at least one line of data."
        raise ConfigError(f"no requests of {model}" if models else "no requests", where=str(path), fix=has)
    arrival_s, (prompts, outputs), _ = in_order(at_s, prompt, output)
    from_s = begin_s(path, first_s, arrival_s[-1])
    return Requests(arrival_s - from_s, prompts, outputs, f"burstgpt {path.name}", midnight_s=from_s % 86_400)
