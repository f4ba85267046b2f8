"""Reads any trace for scaling: looks at what a file or folder holds, and hands it to the reader of that format."""

from __future__ import annotations

from pathlib import Path

from connectors.traces import azure, burstgpt, generated, kept, lengths, mooncake, servegen
from connectors.traces.cut import Cut
from connectors.traces.files import fields_of, lines
from connectors.traces.shape import Load, Requests
from contracts.errors import ConfigError

GENERATED = "generated"
FORMATS = "a ServeGen folder, an Azure or BurstGPT csv, a Mooncake jsonl (each may be .gz), or the word generated"


def load(
    trace: Path,
    workload: str | None,
    seed: int,
    *,
    raw: bool = False,
    cut: Cut | None = None,
    keep: Path | None = None,
) -> Load:
    """Requests in each second of a trace. Raises ConfigError: unknown format or workload, a line that is broken.

    `workload` picks one of ServeGen's workloads or one of BurstGPT's models, and names the trace elsewhere. `seed` and
    `raw` are for what is drawn. A folder may also hold one single trace file. `cut`: only this span.
    `keep`: the folder in which long drawings are kept for the next time; None: nowhere.
    """
    found = _drawn(trace, workload, seed, raw=raw, keep=keep)
    if found is None:
        path = _file(trace)
        found = _requests(path, workload).load(workload or _name(path))
    return (cut or Cut()).load(found)


def requests(
    trace: Path, workload: str | None, seed: int, *, raw: bool = False, cut: Cut | None = None
) -> tuple[Load, Requests]:
    """The load of a trace, and the single requests that make it: as many in each second. Raises ConfigError as `load`.

    Where a trace tells no single requests, their moments within the second and their lengths are drawn.
    """
    span = cut or Cut()
    drawn = _drawn(trace, workload, seed, raw=raw)
    if drawn is not None:
        part = span.load(drawn)
        return part, lengths.requests(part, _mixes(trace, drawn.workload, span.from_s), seed)
    path = _file(trace)
    found = _requests(path, workload)
    whole = found.load(workload or _name(path))
    return span.load(whole), span.requests(found, len(whole.per_second))


def recorded(trace: Path, model: str | None = None) -> Requests:
    """The requests of a file that tells single ones: nothing is drawn. Raises ConfigError as `load`, and for a trace
    that tells rates only."""
    if trace.is_dir() and servegen.at(trace):
        raise ConfigError("tells rates, no single requests", where=str(trace), fix="Name an Azure or Mooncake file.")
    return _requests(_file(trace), model)


def _drawn(trace: Path, workload: str | None, seed: int, *, raw: bool, keep: Path | None = None) -> Load | None:
    """The load of a trace that tells no single requests; None for any other."""
    if str(trace) == GENERATED and not trace.exists():
        return generated.arrivals(generated.Profile(), 14 * generated.DAY_S, seed, workload or GENERATED)
    if trace.is_dir() and servegen.at(trace):
        return kept.arrivals(servegen.read(trace, workload or _only(trace)), seed, keep, raw=raw)
    return None


def _mixes(trace: Path, workload: str, from_s: int) -> dict[int, lengths.Mix]:
    """ServeGen's lengths by the second of the span from which they hold."""
    if not trace.is_dir():
        return {}
    begin_s = servegen.read(trace, workload).begin_s + from_s
    return {start - begin_s: mix for start, mix in lengths.mixes(trace, workload).items()}


def _file(trace: Path) -> Path:
    if not trace.is_dir():
        return trace
    files = sorted(path for path in trace.iterdir() if path.name.removesuffix(".gz").endswith((".csv", ".jsonl")))
    if len(files) != 1:
        held = f"It holds {', '.join(path.name for path in files)}: name one of them." if files else f"Name {FORMATS}."
        raise ConfigError("no ServeGen folder", where=str(trace), fix=held)
    return files[0]


def _name(path: Path) -> str:
    return path.name.partition(".")[0]


def _requests(path: Path, model: str | None) -> Requests:
    _, head = next(lines(path), (0, ""))
    if head.startswith("{"):
        return mooncake.read(path)
    if not head:
        raise ConfigError("the file is empty", where=f"{path}:1", fix=f"Name {FORMATS}.")
    columns = {column.strip() for column in fields_of(path, 1, head)}
    # One of a format's columns tells it; the reader says which others are missing.
    if columns & set(azure.COLUMNS):
        return azure.read(path)
    if columns & set(burstgpt.COLUMNS):
        return burstgpt.read(path, model)
    raise ConfigError("of no format that is known", where=f"{path}:1", fix=f"Name {FORMATS}.")


def _only(folder: Path) -> str:
    names = servegen.workloads(folder)
    if len(names) != 1:
        fix = f"Write --workload with one of {', '.join(names)}." if names else "The table of rates is empty."
        raise ConfigError(f"{len(names)} workloads", where=str(folder), fix=fix)
    return names[0]
