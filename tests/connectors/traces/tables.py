"""Small trace files for the tests, written as their publishers write them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

RATES_HEAD = "workload,t_s,rate_rps"
CLIENTS_HEAD = "workload,client,t_s,rate_rps,cv,pattern,p1,p2"


def write(path: Path, lines: Iterable[str]) -> Path:
    """A text file, packed where the name ends in .gz."""
    text = "".join(f"{line}\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def servegen(folder: Path, rates: Iterable[str], clients: Iterable[str] | None = (), *, packed: bool = False) -> Path:
    """A ServeGen folder; `clients` None leaves that table out."""
    end = ".csv.gz" if packed else ".csv"
    write(folder / f"workload_rate_10min{end}", [RATES_HEAD, *rates])
    if clients is not None:
        write(folder / f"client_arrivals_10min{end}", [CLIENTS_HEAD, *clients])
    return folder
