"""The runs that `optiinfra replay` makes, with a bar that shows how far they are, and what it says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.progress import Progress, TaskID

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
    race: Race,
    policies: Sequence[Policy],
    asked: Asked | None,
    startups_s: Sequence[float],
    screen: Console,
    jobs: int | None = None,
) -> tuple[list[Point], list[Whole]]:
    """Every policy at every start-up, the whole policy last: their operating points, and its accounts. Scalers are
    tried in `jobs` processes; None: as many as pay."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from optiinfra.replay import frontier, report, side_by_side, whole

    found: list[Point] = []
    wholes: list[Whole] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        tries = [(each, startup_s) for startup_s in startups_s for each in policies]
        count = side_by_side.processes(race, tries, jobs)
        total = sum(frontier.runs(each) for each, _ in tries)
        task = progress.add_task(
            f"scalers, {count} at once" if count > 1 else "scalers", total=total, visible=total > 0
        )
        tried = iter(side_by_side.points(race, tries, count, lambda runs: progress.advance(task, runs)))
        progress.update(task, completed=total)
        for startup_s in startups_s:
            found.append(report.oracle_point(race, startup_s))
            for _ in policies:
                found += next(tried)
            if asked:
                wholes.append(whole.run(race, asked, startup_s, _bars(progress, startup_s)))
                found.append(wholes[-1].point)
    return found, wholes


def _bars(progress: Progress, startup_s: float) -> Callable[[str, int, int], None]:
    """A bar for each thing that is done, drawn once it has begun."""
    tasks: dict[str, TaskID] = {}

    def told(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(f"{what}, start-up {startup_s:g} s")
        progress.update(tasks[what], completed=done, total=of)

    return told
