"""`optiinfra pools`: whether requests should go to pools of replicas by the length of their prompts, on the twin."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import JsonOption, duration_s, print_json, print_table

COLUMNS = ("prompts", "requests", "req/s a replica", "load", "replicas")


def pools(
    trace: Annotated[
        list[Path], typer.Option("--trace", help="Lengths: an Azure or BurstGPT csv, a Mooncake jsonl. Again for more.")
    ],
    demand: Annotated[float, typer.Option("--demand", min=1e-6, help="Requests a second, all lengths together.")],
    engine: Annotated[
        str, typer.Option("--engine", help="A replica: model, GPU and tensor parallelism.")
    ] = "llama2-70b/h100-80gb/tp4",
    seqs: Annotated[int, typer.Option("--max-num-seqs", min=1, help="Of every replica.")] = 128,
    tokens: Annotated[int, typer.Option("--max-num-batched-tokens", min=2, help="Of every replica.")] = 512,
    edge: Annotated[
        list[int] | None, typer.Option("--edge", min=1, help="Where pools may part, tokens: 2048 and 8192.")
    ] = None,
    least: Annotated[int, typer.Option("--least", min=1, help="Replicas of each pool at least.")] = 1,
    ttft: Annotated[str, typer.Option("--ttft", help="A first token within.")] = "2s",
    itl: Annotated[str, typer.Option("--itl", help="A mean interval between tokens within, seconds.")] = "0.1",
    share: Annotated[float, typer.Option("--share", min=0.5, max=0.999, help="Of requests that must have it.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the 2000 requests drawn from the traces.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Say whether to route by the length of the prompt, and how large each pool must be.

    A replica is measured on the twin for each range of lengths. A split is proposed only where it needs fewer replicas
    than one pool for all. It is advice: where requests go is set in your router.

    Example: `optiinfra pools --trace conversation_trace.jsonl.gz --demand 6 --ttft 30s`
    """
    from agents.performance.core.routing import EDGES, plan
    from agents.performance.core.trials import Setting
    from optiinfra.replay.trials import Goal, capacity_by_length, joined, read_mix

    kind, _, degree = engine.rpartition("/tp")
    if not degree.isdigit():
        raise ConfigError(f"{engine!r} is no engine", where="--engine", fix="Write llama2-70b/h100-80gb/tp4.")
    mix = joined([read_mix(each) for each in trace]).drawn(2000, seed)
    goal = Goal(duration_s(ttft, "--ttft"), duration_s(itl, "--itl"), share)
    capacity = capacity_by_length(kind, Setting(seqs, tokens, int(degree)), mix, goal)
    found = plan(mix.prompt_tokens.tolist(), capacity, demand, edges=edge or EDGES, least_replicas=least)
    if json_:
        told = [asdict(each) | {"below": each.below if isfinite(each.below) else None} for each in found.pools]
        print_json(
            {
                "engine": engine,
                "trace": mix.origin,
                "objective": asdict(goal),
                "pools": told,
                **found.values(),
                "words": found.explain(),
            }
        )
        return
    typer.echo(f"{mix.origin}, {len(mix)} requests drawn with seed {seed}, on the twin")
    rows = [
        (
            f"{each.least} to {each.below:g} tokens" if isfinite(each.below) else f"{each.least} tokens and more",
            f"{each.share:.1%}",
            f"{each.capacity_rps:.3g}",
            f"{each.load:.2f}",
            str(each.replicas),
        )
        for each in found.pools
    ]
    print_table(COLUMNS, rows)
    typer.echo(found.explain())
