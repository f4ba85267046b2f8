"""`optiinfra status`, `doctor`, `reset` and `version`: look at what runs and what there is, and begin anew."""

from __future__ import annotations

import platform
import time
from typing import Annotated, Any

import typer

from optiinfra.commands.common import FLAG, JsonOption, PortOption, StateOption, loaded, print_json, print_table

NOT_RUNNING = 3


def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say what the running `up` of this directory is doing. Exit code 0 ready, 1 running and not ready, 3 not running.

    Example: `optiinfra status --json`
    """
    from optiinfra.statedir import StateDir

    directory = StateDir(loaded(state=state).settings.state)
    run = directory.run_info()
    if run is None:
        if as_json:
            print_json({"running": False, "state": str(directory.path)})
        else:
            typer.echo(f"not running in {directory.path}; start it with `optiinfra up`")
        raise typer.Exit(NOT_RUNNING)
    health = _health(run.health_url)
    if as_json:
        print_json({"running": True, **run.model_dump(mode="json"), "health": health})
    else:
        since_s = time.time() - run.started_wall_ms / 1000
        typer.echo(f"running as process {run.pid} for {since_s:.0f} s, event time at {run.anchor.speed:g}× wall")
        typer.echo(f"broker {run.broker} ({run.bootstrap}) · store {run.store} · redis {run.redis} · fleet {run.fleet}")
        _show(health, run.logs)
    if not health.get("ready"):
        raise typer.Exit(1)


def _show(health: dict[str, Any], logs: str) -> None:
    from rich.console import Console

    from optiinfra.health import ChildView
    from optiinfra.view import child_table

    if "checks" not in health:
        typer.secho(f"health does not answer: {health.get('error')}", fg="red")
        return
    console = Console(highlight=False)
    console.print(child_table(tuple(ChildView(**child) for child in health["children"])))
    for name, check in health["checks"].items():
        typer.secho(f"{'ok ' if check['ok'] else 'NOT'} {name}: {check['detail']}", fg=None if check["ok"] else "red")
    typer.echo(" · ".join(f"{count} {name.replace('_', ' ')}" for name, count in health["counts"].items()))
    typer.echo(f"logs in {logs}")


def _health(url: str) -> dict[str, Any]:
    import json
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(f"{url}/health/ready", timeout=5) as answer:  # noqa: S310 - our own loopback address
            return dict(json.load(answer))
    except HTTPError as error:  # 503 carries the same body: which check fails
        return dict(json.load(error))
    except (URLError, OSError, ValueError) as error:
        return {"ready": False, "error": str(error)}


def doctor(state: StateOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Check this machine and the settings: what is there, what is missing, how to get it.

    Exit code 1 where `up` could not run.

    Example: `OPTIINFRA_KAFKA=broker:9092 optiinfra doctor`
    """
    from dataclasses import asdict

    from rich.text import Text

    from optiinfra.doctor import examine
    from optiinfra.finding import Grade

    findings = examine(loaded(state=state, health_port=port).settings)
    colours = {Grade.OK: "green", Grade.MISSING: "yellow", Grade.BROKEN: "red"}
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            ("", "part", "found", "how to fix"),
            [(Text(f.grade.value, style=colours[f.grade]), f.name, f.detail, f.fix) for f in findings],
        )
    if any(finding.grade is Grade.BROKEN for finding in findings):
        raise typer.Exit(1)


def reset(
    state: StateOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar=FLAG, help="Do not ask.")] = False,
) -> None:
    """Delete what `up` keeps in the state directory: clock, lock, logs, redis, store, twin. Refused while one runs.

    Nothing else there is touched; `kafka/`, the data of `make kafka`, is kept too.

    Example: `optiinfra reset --yes`
    """
    from optiinfra.statedir import StateDir

    directory = StateDir(loaded(state=state).settings.state)
    names = directory.ours()
    if not names:
        typer.echo(f"nothing to delete in {directory.path}: no `up` has left anything there")
        return
    if not yes and not typer.confirm(f"Delete {', '.join(names)} in {directory.path}?"):
        typer.echo("nothing was deleted")
        raise typer.Exit(1)
    gone, left = directory.reset()
    typer.echo(f"deleted: {', '.join(gone) or 'nothing'}" + (f"; left: {', '.join(left)}" if left else ""))


def version(as_json: JsonOption = False) -> None:
    """Print the version.

    Example: `optiinfra version --json`
    """
    from optiinfra import __version__

    if as_json:
        print_json({"optiinfra": __version__, "python": platform.python_version(), "platform": platform.platform()})
    else:
        typer.echo(f"optiinfra {__version__}")
