"""`optiinfra replay`: what a scaling policy would have cost on a real trace, beside its peers and an oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import duration_s, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from optiinfra.replay.course import Race
    from optiinfra.replay.frontier import Point
    from optiinfra.replay.policy import Policy
    from optiinfra.replay.whole import Asked, Whole

TraceOption = Annotated[
    Path,
    typer.Option(
        "--trace", help="A ServeGen folder, an Azure or BurstGPT csv, a Mooncake jsonl (or .gz), or the word generated."
    ),
]
WorkloadOption = Annotated[
    str | None,
    typer.Option("--workload", help="A workload of a ServeGen folder, a model of BurstGPT; elsewhere only a name."),
]
StartupOption = Annotated[
    list[str] | None, typer.Option("--startup", help="How long a replica takes to start, 3m or 90s; may be repeated.")
]
OutageOption = Annotated[
    str | None,
    typer.Option(
        "--outage",
        metavar="START/LENGTH",
        help="Measure nothing for a while: 200h/30m into the trace, or peak/30m around the peak of each scored day.",
    ),
]


def replay(
    trace: TraceOption,
    workload: WorkloadOption = None,
    startup: StartupOption = None,
    policy: Annotated[str, typer.Option("--policy", help="all, or names with commas between them.")] = "all",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn; meta says what is.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every operating point there.")] = None,
    outage: OutageOption = None,
    instances: Annotated[
        float, typer.Option("--instances", min=1.0, help="Replicas that the mean load keeps busy at capacity.")
    ] = 15.0,
    service: Annotated[str, typer.Option("--service", help="How long a request is in service.")] = "8s",
    raw: Annotated[bool, typer.Option("--raw", help="ServeGen: Poisson at each window's constant rate.")] = False,
    rules: Annotated[
        list[Path] | None, typer.Option("--rules", help="Policy rules: packs in place of the built-in ones.")
    ] = None,
    spot: Annotated[
        Path | None, typer.Option("--spot", help="Policy rules: a spot zone's record of losses, or a folder of them.")
    ] = None,
    spot_ratio: Annotated[
        float, typer.Option("--spot-ratio", min=0, max=1, help="Share of spot replicas there.")
    ] = 0.5,
    spot_floor: Annotated[
        float, typer.Option("--spot-floor", min=0, help="On-demand replicas first, for so much of the load.")
    ] = 0.0,
    spot_heed: Annotated[
        bool, typer.Option("--spot-heed/--no-spot-heed", help="Replace spot replicas when their loss is announced.")
    ] = True,
    prices: Annotated[
        str | None,
        typer.Option(
            "--prices", metavar="FILE:INSTANCE:GPUS", help="Policy rules: list prices; a replica takes so many GPUs."
        ),
    ] = None,
    kv_hit: Annotated[
        float,
        typer.Option("--kv-hit", min=0, max=0.99, help="Policy rules: prompt work that an assumed KV tier saves."),
    ] = 0.0,
    own_cost: Annotated[
        float, typer.Option("--own-cost", min=0, help="What OptiInfra itself costs, US dollars an hour.")
    ] = 0.0,
    scrape: Annotated[str, typer.Option("--scrape", help="Policy rules: between two scrapes.")] = "5s",
    counterfactuals: Annotated[
        bool, typer.Option("--counterfactuals", help="Policy rules: once more without each rule.")
    ] = False,
) -> None:
    """Replay scaling policies on a trace: cost relative to an oracle that knows the future, and requests in time.

    Every scaler is tried with a grid of its knobs. `rules` is the whole policy as it stands in life: metrics, SLIs,
    rule packs, review, arbiter and saga in virtual time. Start-up and drain are billed; days 8 to 14 of a trace are
    scored, or the second half of a shorter one. The same arguments write the same bytes.

    Example: `optiinfra replay --trace traces/servegen --workload language/m-large --startup 3m --json r.json`
    """
    from rich.console import Console

    from connectors.traces.reading import load as read
    from optiinfra.replay import report
    from optiinfra.replay.course import Fleet, Race, outages
    from optiinfra.replay.registry import WHOLE, chosen
    from optiinfra.replay.whole import DOC, Asked

    policies, with_rules = chosen(policy)
    asked = None
    if with_rules:
        scrape_s = round(duration_s(scrape, "--scrape"))
        asked = Asked(
            tuple(rules or ()),
            spot,
            spot_ratio,
            scrape_s,
            counterfactuals,
            spot_floor,
            spot_heed,
            _prices(prices),
            kv_hit,
            own_cost,
        )
    startups_s = list(dict.fromkeys(duration_s(text, "--startup") for text in startup or ["3m"]))
    fleet = Fleet(instances, duration_s(service, "--service"))
    blind = None if outage is None else _outage(outage)
    if json_path is not None and (json_path.is_dir() or not json_path.absolute().parent.is_dir()):
        raise ConfigError("cannot be written", where=str(json_path), fix="Name a file in a folder that exists.")
    screen = Console(stderr=True)
    with screen.status(f"reading {trace}"):
        load = read(trace, workload, seed, raw=raw)
    race = Race(load, fleet)
    if blind is not None:
        race = Race(load, fleet, outages(load, *blind, race.scored))
    found, wholes = _run(race, policies, asked, startups_s, screen)
    docs = {each.name: each.doc for each in policies} | ({WHOLE: DOC} if asked else {})
    about = report.meta(race, docs, policies, startups_s, seed)
    if json_path is not None:
        data = {"meta": about, "summary": report.summary(race, found), "results": report.results(race, found)}
        if asked:
            data[WHOLE] = [each.row() for each in wholes]
        json_path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    typer.echo(f"{load.origin}, {load.workload}: {about['requests']} requests in {about['span_s'] / 3600:g} h")
    if load.generated:
        typer.echo(f"drawn with seed {seed}: {load.generated}")
    typer.echo(f"scored: {about['scored']} · cost in units of the oracle's, start-up and drain billed")
    print_table(report.COLUMNS, report.lines(found))
    for each in wholes:
        for line in each.lines():
            typer.echo(line)


def _run(
    race: Race, policies: Sequence[Policy], asked: Asked | None, startups_s: Sequence[float], screen: Console
) -> tuple[list[Point], list[Whole]]:
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
                found += frontier.points(race, each, startup_s, lambda: progress.advance(task))
                before = number * sum(map(frontier.runs, policies)) + sum(map(frontier.runs, policies[: place + 1]))
                progress.update(task, completed=before)
            if asked:
                told = progress.add_task(f"the whole policy, start-up {startup_s:g} s", total=None)

                def seconds(done: int, of: int, of_task: TaskID = told) -> None:
                    progress.update(of_task, completed=done, total=of)

                wholes.append(whole.run(race, asked, startup_s, seconds))
                found.append(wholes[-1].point)
    return found, wholes


def _prices(text: str | None) -> tuple[Path, str, int] | None:
    """A catalogue, an instance in it, and the GPUs of a replica."""
    if text is None:
        return None
    path, instance, gpus = (["", "", *text.rsplit(":", 2)])[-3:]
    if not path or not instance or not gpus.isdigit():
        raise ConfigError(f"{text!r} names no price", where="--prices", fix="Write aws.csv:p5.48xlarge:4.")
    return Path(path), instance, int(gpus)


def _outage(text: str) -> tuple[float | None, float]:
    """Start, None for each day's peak, and length in seconds."""
    start, slash, length = text.partition("/")
    if not slash:
        raise ConfigError(f"{text!r} is no outage", where="--outage", fix="Write 200h/30m or peak/30m.")
    return None if start.strip() == "peak" else duration_s(start, "--outage"), duration_s(length, "--outage")
