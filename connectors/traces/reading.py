"""Reads any trace for scaling: looks at what a file or folder holds, and hands it to the reader of that format."""

from __future__ import annotations

import csv
from pathlib import Path

from connectors.traces import azure, burstgpt, generated, mooncake, servegen
from connectors.traces.files import lines
from connectors.traces.shape import Load
from contracts.errors import ConfigError

GENERATED = "generated"
FORMATS = "a ServeGen folder, an Azure or BurstGPT csv, a Mooncake jsonl (each may be .gz), or the word generated"


def load(trace: Path, workload: str | None, seed: int, *, raw: bool = False) -> Load:
    """Requests in each second of a trace. Raises ConfigError: unknown format or workload, a line that is broken.

    `workload` picks one of ServeGen's workloads or one of BurstGPT's models, and names the trace elsewhere. `seed` and
    `raw` are for what is drawn. A folder may also hold one single trace file.
    """
    if str(trace) == GENERATED and not trace.exists():
        return generated.arrivals(generated.Profile(), 14 * generated.DAY_S, seed, workload or GENERATED)
    if not trace.is_dir():
        return _file(trace, workload)
    if servegen.at(trace):
        return servegen.arrivals(servegen.read(trace, workload or _only(trace)), seed, raw=raw)
    files = sorted(path for path in trace.iterdir() if path.name.removesuffix(".gz").endswith((".csv", ".jsonl")))
    if len(files) != 1:
        held = f"It holds {', '.join(path.name for path in files)}: name one of them." if files else f"Name {FORMATS}."
        raise ConfigError("no ServeGen folder", where=str(trace), fix=held)
    return _file(files[0], workload)


def _file(path: Path, workload: str | None) -> Load:
    name = workload or path.name.partition(".")[0]
    _, head = next(lines(path), (0, ""))
    if head.startswith("{"):
        return mooncake.read(path).load(name)
    columns = {column.strip().removeprefix("\ufeff") for column in next(csv.reader([head]), [])}
    if columns >= set(azure.COLUMNS):
        return azure.read(path).load(name)
    if columns >= set(burstgpt.COLUMNS):
        return burstgpt.read(path, workload).load(name)
    raise ConfigError("of no format that is known", where=f"{path}:1", fix=f"Name {FORMATS}.")


def _only(folder: Path) -> str:
    names = servegen.workloads(folder)
    if len(names) != 1:
        fix = f"Write --workload with one of {', '.join(names)}." if names else "The table of rates is empty."
        raise ConfigError(f"{len(names)} workloads", where=str(folder), fix=fix)
    return names[0]
