"""What commands share: options that recur, durations, tables and JSON."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import ConfigError

if TYPE_CHECKING:
    from optiinfra.settings_load import Loaded

FLAG = ""
"""Instead of the type that --help would show: a flag takes no value."""

StateOption = Annotated[
    Path | None, typer.Option("--state", help="State directory (default ./.optiinfra).", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print JSON instead of a table.")]
ModelOption = Annotated[Path, typer.Option("--model", help="config.json of the model, as Hugging Face hosts it.")]
KvDtypeOption = Annotated[str, typer.Option("--kv-dtype", help="As vLLM's --kv-cache-dtype: auto, fp8.")]
PortOption = Annotated[
    int | None, typer.Option("--port", help="Port of health and metrics on 127.0.0.1 (default 8686).")
]
KafkaOption = Annotated[
    str | None, typer.Option("--kafka", help="Bootstrap servers; else OPTIINFRA_KAFKA, else the running broker.")
]

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration_s(text: str, where: str = "--for", *, zero: bool = False) -> float:
    """Seconds of `90s`, `2m`, `1h`, `8d` or a bare number of seconds; above 0, or `zero`: 0 too, for a moment.

    >>> duration_s("2m"), duration_s("90")
    (120.0, 90.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not found or (float(found[1]) == 0 and not zero):
        raise ConfigError(f"{text!r} is not a duration", where=where, fix="Write 90s, 2m or 1h, days as 8d.")
    return float(found[1]) * _UNITS_S[found[2]]


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def amount(text: str, where: str, *, per_s: bool = False) -> float:
    """Bytes of `500GB`, `1.5TiB` or a bare number; with `per_s`, bytes a second of `3.5GB/s`.

    >>> amount("500GB", "--capacity"), amount("7GB/s", "--bandwidth", per_s=True)
    (500000000000.0, 7000000000.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]?i?)b?(/s)?", text.strip().lower())
    if not found or found[2] not in _SIZES or (found[3] and not per_s) or (per_s and float(found[1]) <= 0):
        raise ConfigError(f"{text!r} is no {'bandwidth' if per_s else 'size'}", where=where, fix=_AMOUNT_FIX[per_s])
    return float(found[1]) * _SIZES[found[2]]


_AMOUNT_FIX = ("Write 500GB, 1.5TB or 2TiB.", "Write 3.5GB/s or 900MB/s.")


def loaded(**flags: Any) -> Loaded:
    """Settings with these flags on top; None means that a flag was not given."""
    from optiinfra.settings_load import load

    return load({name: value for name, value in flags.items() if value is not None})


def again(context: typer.Context) -> str:
    """The command that was given, as a line of a shell: what differs from the defaults, in the order of --help."""
    words = ["optiinfra", context.info_name or ""]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if value is None or value == param.default or not param.opts:
            continue
        if value is False:
            words += param.secondary_opts[:1]
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [param.opts[0]] if each is True else [param.opts[0], str(each)]
    return shlex.join(words)


def print_json(data: object) -> None:
    """JSON on stdout, indented, as it is meant for both people and programs."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; `–` stands for what is missing. No word is cut: where the screen is too narrow for that, the
    last column stands below the others."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:  # a pipe has no width; eighty columns would break words
        console = Console(width=140)
    cells = [[each if isinstance(each, Text) else Text("–" if each is None else str(each)) for each in r] for r in rows]
    widths = [max([len(title), *(row[n].cell_len for row in cells)]) for n, title in enumerate(columns)]
    words = [all(" " not in row[n].plain for row in cells) for n in range(len(columns))]
    room = console.width - sum(each + _GAP for each, whole in zip(widths, words, strict=True) if whole)
    if sum(widths) + _GAP * len(widths) > console.width and room < _SENTENCE * words.count(False) and not words[-1]:
        for *before, last in [[Text(title, style="bold") for title in columns], *cells]:
            for cell, width in zip(before, widths, strict=False):
                cell.pad_right(width + _GAP - cell.cell_len)
            console.print(Text("").join(before))
            console.print(Padding(last, (0, 0, 0, 2 * _GAP)))
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for number, (title, whole) in enumerate(zip(columns, words, strict=True)):
        table.add_column(title, overflow="fold", no_wrap=number == 0 or (whole and room >= 0))
    for row in cells:
        table.add_row(*row)
    console.print(table)


_GAP = 2
_SENTENCE = 20
"""Columns of the screen in which a sentence can still be read."""
