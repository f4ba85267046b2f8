"""`optiinfra catalog`: the canonical metrics that come in, the SLIs that go out, and what agents find."""

from __future__ import annotations

import math
from dataclasses import asdict

import typer

from optiinfra.commands.common import JsonOption, print_json, print_table

app = typer.Typer(
    no_args_is_help=True, help="What is measured: canonical metrics, SLIs and findings, with unit and meaning."
)


@app.command()
def metrics(as_json: JsonOption = False) -> None:
    """List the canonical metrics that connectors translate upstream names into.

    Example: `optiinfra catalog metrics --json`
    """
    from contracts.catalog.metrics import METRICS

    if as_json:
        print_json([asdict(metric) | {"high": _finite(metric.high)} for metric in METRICS.values()])
        return
    print_table(
        ("metric", "type", "unit", "range", "meaning"),
        [(m.name, m.kind.value, m.unit, _range(m.low, m.high), m.doc) for m in METRICS.values()],
    )


@app.command()
def slis(as_json: JsonOption = False) -> None:
    """List the service-level indicators that rules, dashboards and people may speak of.

    Example: `optiinfra catalog slis`
    """
    from contracts.catalog.slis import SLIS

    if as_json:
        print_json([asdict(sli) | {"high": _finite(sli.high)} for sli in SLIS.values()])
        return
    print_table(
        ("SLI", "unit", "better", "latest value too", "meaning"),
        [(s.name, s.unit, s.better, "yes" if s.latest else "", s.doc) for s in SLIS.values()],
    )


@app.command()
def findings(as_json: JsonOption = False) -> None:
    """List the numbers that agents find and rules may speak of beside SLIs.

    Example: `optiinfra catalog findings`
    """
    from contracts.catalog.findings import FINDINGS, span_s

    if as_json:
        rows = [asdict(each) | {"high": _finite(each.high), "span_s": span_s(each.name)} for each in FINDINGS.values()]
        print_json(rows)
        return
    print_table(
        ("number", "finding", "every", "unit", "meaning"),
        [(each.name, each.kind, f"{span_s(each.name)} s", each.unit, each.doc) for each in FINDINGS.values()],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _range(low: float, high: float) -> str:
    return f"{low:g}…{high:g}" if math.isfinite(high) else f"≥ {low:g}"
