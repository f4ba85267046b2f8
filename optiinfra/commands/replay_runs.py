"""The runs that `optiinfra replay` makes, with a bar that shows how far they are, and what it says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from optiinfra.replay.course import Race
    from optiinfra.replay.frontier import Point
    from optiinfra.replay.policy import Policy
    from optiinfra.replay.several import Run
    from optiinfra.replay.whole import Asked, Whole


def tell(run: Run, seed: int) -> None:
    """What was replayed, in words."""
    load, about = run.race.load, run.about
    typer.echo(f"{load.origin}, {load.workload}: {about['requests']} requests in {about['span_s'] / 3600:g} h")
    if load.generated:
        typer.echo(f"drawn with seed {seed}: {load.generated}")
    if run.race.level == "requests":
        typer.echo(
            f"request by request on {about['engine']}: {about['capacity_rps']:g} req/s a replica "
            f"({about['capacity_from']}), {about['instances']:.1f} replicas on average"
        )
    unit = "the bill of static p99 is 100 %" if "story" in about else "cost in units of the oracle's"
    typer.echo(f"scored: {about['scored']} · {unit}, start-up and drain billed")
    if "story" in about:
        typer.echo(about["story"])


def run(
    race: Race, policies: Sequence[Policy], asked: Asked | None, startups_s: Sequence[float], screen: Console
) -> tuple[list[Point], list[Whole]]:
    """Every policy at every start-up, the whole policy last: their operating points, and its accounts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from optiinfra.replay import frontier, report, whole

    found: list[Point] = []
    wholes: list[Whole] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        total = len(startups_s) * sum(frontier.runs(each) for each in policies)
        task = progress.add_task("replay", total=total)
        for number, startup_s in enumerate(startups_s):
            found.append(report.oracle_point(race, startup_s))
            for place, each in enumerate(policies):
                progress.update(task, description=f"{each.name}, start-up {startup_s:g} s")
                tried = race.tried(each, startup_s)
                found += frontier.points(race, tried, startup_s, lambda: progress.advance(task))
                before = number * sum(map(frontier.runs, policies)) + sum(map(frontier.runs, policies[: place + 1]))
                progress.update(task, completed=before)
            if asked:
                told = progress.add_task(f"the whole policy, start-up {startup_s:g} s", total=None)

                def seconds(done: int, of: int, of_task: TaskID = told) -> None:
                    progress.update(of_task, completed=done, total=of)

                wholes.append(whole.run(race, asked, startup_s, seconds))
                found.append(wholes[-1].point)
    return found, wholes
