"""`optiinfra up`: run everything on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from optiinfra.commands.common import PortOption, StateOption, duration_s, loaded


def up(
    headless: Annotated[
        bool, typer.Option("--headless", help="One line every ten seconds instead of a table.")
    ] = False,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Stop after this wall time: 90s, 2m, 1h.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Event seconds a wall second, at most 100; for the simulated fleet only.")
    ] = None,
    targets: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Prometheus file_sd file of your own vLLM servers; repeatable."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write a report when it ends.")] = None,
    state: StateOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated fleet.")] = None,
    port: PortOption = None,
) -> None:
    """Run broker, store, fleet, scraper and stages, and show workloads with their SLIs. Ctrl-C stops everything.

    Without settings all parts are embedded and the fleet is simulated; the header says so. With OPTIINFRA_KAFKA,
    OPTIINFRA_CLICKHOUSE or OPTIINFRA_REDIS the same runs against yours.

    Examples:

        optiinfra up --speed 20

        optiinfra up --targets vllm.json --headless

        optiinfra up --headless --for 2m --json report.json
    """
    from rich.console import Console

    from optiinfra.start import run_up

    for_s = duration_s(for_) if for_ is not None else None
    found = loaded(
        speed=speed,
        targets=tuple(str(path) for path in targets) if targets else None,
        state=state,
        twin={"seed": seed} if seed is not None else None,
        health_port=port,
    )
    asyncio.run(run_up(found.settings, Console(highlight=False), headless=headless, for_s=for_s, report_path=report))
