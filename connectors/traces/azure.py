"""Reads the Azure LLM inference traces: one request a line with its moment, prompt tokens and generated tokens.

Source: Azure/AzurePublicDataset, AzureLLMInferenceTrace_*.csv, licence CC-BY 4.0.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from connectors.traces.files import begin_s, broken, in_order, number, rows
from connectors.traces.shape import Requests
from contracts.errors import ConfigError

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path) -> Requests:
    """The requests of a `.csv` or `.csv.gz`; second 0 is the first request's whole second. Raises ConfigError."""
    at_s: list[float] = []
    prompt: list[int] = []
    output: list[int] = []
    for line, row in rows(path, COLUMNS):
        at_s.append(_seconds(path, line, row["TIMESTAMP"]))
        prompt.append(int(number(path, line, row, "ContextTokens", least=0)))
        output.append(int(number(path, line, row, "GeneratedTokens", least=0)))
    if not at_s:
        raise ConfigError("no requests", where=str(path), fix="Name a trace with at least one line of data.")
    arrival_s, (prompts, outputs), _ = in_order(at_s, prompt, output)
    first_s = begin_s(path, arrival_s[0], arrival_s[-1])
    return Requests(arrival_s - first_s, prompts, outputs, f"azure {path.name}", midnight_s=first_s % 86_400)


def _seconds(path: Path, line: int, text: str) -> float:
    """Seconds since 1970. The published stamps have seven digits of a second and no zone; later ones a zone."""
    moment, dot, rest = text.strip().partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        whole = datetime.fromisoformat(moment + rest[digits:])
        fraction = float(f"0.{rest[:digits]}") if dot else 0.0
    except ValueError:
        raise broken(
            path, line, f"TIMESTAMP is {text!r}", "Write 2023-11-16 18:17:03.97, or delete the line."
        ) from None
    return (whole if whole.tzinfo else whole.replace(tzinfo=UTC)).timestamp() + fraction
