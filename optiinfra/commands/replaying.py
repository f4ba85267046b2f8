"""`optiinfra replay`: what a scaling policy would have cost on a real trace, beside its peers and an oracle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands import replay_options as options
from optiinfra.commands.common import StateOption, again, duration_s, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optiinfra.replay.course import Race
    from optiinfra.replay.page import Other, Replayed
    from optiinfra.replay.policy import Policy
    from optiinfra.replay.several import Run


def replay(
    context: typer.Context,
    trace: options.TraceOption = None,
    workload: options.WorkloadOption = None,
    scenario: options.ScenarioOption = None,
    startup: options.StartupOption = None,
    policy: options.PolicyOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn; meta says what is.")] = 0,
    json_path: options.JsonPathOption = None,
    html_path: options.HtmlOption = None,
    compare: options.CompareOption = None,
    compare_anyway: options.AnywayOption = False,
    level: options.LevelOption = "fluid",
    begin: options.FromOption = None,
    length: options.ForOption = None,
    outage: options.OutageOption = None,
    state: StateOption = None,
    engine: options.EngineOption = None,
    ttft: options.TtftOption = "2s",
    itl: options.ItlOption = "0.1s",
    batched_tokens: options.BatchOption = 512,
    capacity: options.CapacityOption = None,
    instances: Annotated[
        float, typer.Option("--instances", min=1.0, help="Level fluid: replicas that the mean load keeps busy.")
    ] = 15.0,
    service: options.ServiceOption = None,
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
    review_log: options.ReviewLogOption = None,
    review_record: options.ReviewRecordOption = False,
    scrape: Annotated[str, typer.Option("--scrape", help="Policy rules: between two scrapes.")] = "5s",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes that try scalers side by side; the cores, where it pays."),
    ] = None,
    counterfactuals: Annotated[
        bool, typer.Option("--counterfactuals", help="Policy rules: once more without each rule.")
    ] = False,
) -> None:
    """Replay scaling policies on a trace: cost relative to an oracle that knows the future, and requests in time.

    Every scaler is tried with a grid of its knobs. `rules` is the whole policy as it stands in life: metrics, SLIs,
    rule packs, review, arbiter and saga in virtual time. Start-up and drain are billed; days 8 to 14 of a trace are
    scored, or the second half of a shorter one. The same arguments write the same bytes.

    `--scenario` needs no trace: the same mishaps meet every policy, and its table counts in the bill of static p99.

    Example: `optiinfra replay --trace traces/servegen --workload language/m-large --startup 3m --json r.json`
    """
    from rich.console import Console

    from optiinfra.commands.replay_runs import run, tell
    from optiinfra.replay import card, compared, page, report, scenarios, several, staged
    from optiinfra.replay.course import Fleet
    from optiinfra.replay.registry import WHOLE, chosen
    from optiinfra.replay.requests import Twin
    from optiinfra.replay.whole import DOC, Asked

    if scenario == scenarios.LIST:
        print_table(*scenarios.listed())
        return
    single = options.level(level) is card.Level.REQUESTS
    scene = None
    if scenario is not None:
        scene = scenarios.scenario(scenario)
        given = {"trace": trace, "workload": workload, "from": begin, "for": length, "outage": outage, "spot": spot}
        options.unstaged(given | {"level requests": single, "raw": raw})
    policies, with_rules = chosen(policy or (scenarios.DEFAULT_POLICIES if scene else "all"))
    if with_rules and single and (policy or "all").strip() != "all":
        raise ConfigError("plays on the fluid fleet only", where=f"--policy {WHOLE}", fix="Use --level fluid.")
    service_s = options.service(service, single)
    around = Asked(
        tuple(rules or ()),
        spot,
        spot_ratio,
        round(duration_s(scrape, "--scrape")),
        counterfactuals,
        spot_floor,
        spot_heed,
        options.prices(prices),
        kv_hit,
        own_cost,
        None if service_s is None else max(1, round(service_s)),
        review_log,
        options.reviewer(review_log, review_record, state),
    )
    usual = f"{scene.startup_s}s" if scene else "3m"
    startups_s = list(dict.fromkeys(duration_s(text, "--startup") for text in startup or [usual]))
    if with_rules and not single:
        options.playable(around, startups_s)
    else:
        idle: dict[str, object] = {"rules": rules}
        if scene is None:
            idle |= {"spot": spot, "prices": prices, "kv-hit": kv_hit, "own-cost": own_cost}
        options.unused(idle | {"counterfactuals": counterfactuals, "review-log": review_log})
    kind = Twin(
        ttft_s=duration_s(ttft, "--ttft"),
        itl_s=duration_s(itl, "--itl"),
        batched_tokens=batched_tokens,
        capacity_rps=capacity,
    )
    ask = card.Ask(
        seed,
        raw,
        options.cut(begin, length),
        options.level(level),
        Fleet(instances) if service_s is None else Fleet(instances, service_s),
        kind if engine is None else replace(kind, engine=engine),
        None if outage is None else options.outage(outage),
        state,
    )
    other = _other(html_path, compare)
    for path in (json_path, html_path):
        if path is not None:
            options.writable(path)
    screen = Console(stderr=True)
    races: list[Race] = []
    if scene is not None:
        made = staged.stage(scene, around, seed, ask.fleet)
        around = made.asked
        races.append(made)
    for name, of in card.pairs(options.traces(trace), workload or ()) if scene is None else ():
        with screen.status(f"reading {name}"):
            races.append(card.race(name, of, ask))
    card.apart([race.load for race in races])
    asked = around if with_rules and not single else None
    docs = {each.name: each.doc for each in policies} | ({WHOLE: DOC} if asked else {})
    abouts = [report.meta(race, docs, policies, startups_s, seed) for race in races]
    if other is not None and not compare_anyway:
        for about in abouts:
            compared.check(about, other.saved.meta, str(compare))
    runs = [
        several.Run(race, *run(race, policies, asked, startups_s, screen, jobs), about)
        for race, about in zip(races, abouts, strict=True)
    ]
    if json_path is not None:
        data = several.written(runs, WHOLE if asked else None)
        json_path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if html_path is not None:
        with screen.status(f"drawing {html_path}"):
            told = [_replayed(each, policies, other, WHOLE if asked else None) for each in runs]
            html_path.write_text(page.render(told, again(context)), encoding="utf-8")
    for each in runs:
        tell(each, seed)
    for columns, rows in staged.tables(runs) or [several.table(runs)]:
        print_table(columns, rows)
    if single:
        print_table(*several.measured(runs))
    for line in (line for each in runs for account in each.wholes for line in account.lines()):
        typer.echo(line)


def _other(html_path: Path | None, compare: Path | None) -> Other | None:
    """The run to compare with. What a report needs is asked for before weeks are replayed."""
    from optiinfra.replay import compared, page

    if html_path is not None:
        page.check_installed()
    if compare is None:
        return None
    if html_path is None:
        raise ConfigError("a comparison is a part of the report", where="--compare", fix="Name it with --html.")
    return page.Other(compare.name, compared.read(compare))


def _replayed(run: Run, policies: Sequence[Policy], other: Other | None, whole: str | None) -> Replayed:
    """One trace as the report takes it."""
    from optiinfra.replay import compared, page, several

    saved = compared.Saved.model_validate(several.written([run], whole))
    return page.Replayed(run.race, policies, run.found, run.wholes, saved, other)
