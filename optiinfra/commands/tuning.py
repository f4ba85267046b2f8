"""`optiinfra tune`: the engine setting that serves most of one's own requests for each GPU, found on the twin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import JsonOption, duration_s, print_json, print_table

LIVE_SHARE = 0.7
COLUMNS = ("setting", "req/s per GPU", "TTFT", "inter-token", "kept")


def tune(
    trace: Annotated[Path, typer.Option("--trace", help="Lengths: an Azure or BurstGPT csv, a Mooncake jsonl.")],
    engine: Annotated[
        str, typer.Option("--engine", help="The present replica: model, GPU and tensor parallelism.")
    ] = "llama2-70b/h100-80gb/tp4",
    seqs: Annotated[int, typer.Option("--max-num-seqs", min=1, help="As it is now.")] = 64,
    tokens: Annotated[int, typer.Option("--max-num-batched-tokens", min=2, help="As it is now.")] = 512,
    live: Annotated[
        float | None,
        typer.Option("--live", help="Requests a second for each GPU now; by default 70 % of what is borne."),
    ] = None,
    ttft: Annotated[str, typer.Option("--ttft", help="A first token within.")] = "2s",
    itl: Annotated[str, typer.Option("--itl", help="A mean interval between tokens within, seconds.")] = "0.1",
    share: Annotated[float, typer.Option("--share", min=0.5, max=0.999, help="Of requests that must have it.")] = 0.95,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, max=8, help="Try every setting, on up to so many GPUs a replica.")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", min=100, help="So many are drawn from the trace.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of requests drawn and of their arrivals.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Find the engine setting with the most goodput per GPU for the requests of a trace, on the twin.

    It searches as a canary would in life: from the present setting, and never what is likely to break the objective.
    With `--gpus 8` it tries every setting of every degree of tensor parallelism instead, in half a minute.

    Example: `optiinfra tune --trace AzureLLMInferenceTrace_conv.csv.gz --max-num-seqs 32`
    """
    from agents.performance.core.trials import Setting, Tried
    from agents.performance.core.tuning import Space, ended, search
    from optiinfra.replay.trials import SEQS, TOKENS, Goal, TwinTrials, read_mix, settings_of

    kind, _, degree = engine.rpartition("/tp")
    if not degree.isdigit():
        raise ConfigError(f"{engine!r} is no engine", where="--engine", fix="Write llama2-70b/h100-80gb/tp4.")
    mix = read_mix(trace).drawn(requests, seed)
    present = Setting(seqs, tokens, int(degree))
    goal = Goal(duration_s(ttft, "--ttft"), duration_s(itl, "--itl"), share)
    most = gpus or present.tensor_parallel
    found = settings_of(kind, mix.longest, most, sorted({*SEQS, seqs}), sorted({*TOKENS, tokens}))
    settings = tuple(each for each in found if gpus or each.tensor_parallel == present.tensor_parallel)
    if present not in settings:
        raise ConfigError(
            f"{engine} with {present} cannot hold requests of {mix.longest} tokens",
            where="--engine",
            fix="Name a replica with more memory, or more batched tokens than sequences.",
        )
    if live is None:
        bears = TwinTrials(kind, mix, goal, 0.2, seed=seed).run(present).goodput_rps
        live = bears / present.tensor_parallel * LIVE_SHARE
    if live <= 0:
        raise ConfigError(
            f"{present} breaks the objective at any load", where="--ttft", fix="Allow more time, or begin elsewhere."
        )
    runner = TwinTrials(kind, mix, goal, live, seed=seed)
    if gpus:
        past = tuple(Tried(each, runner.run(each)) for each in (present, *(s for s in settings if s != present)))
        done = ended(past, "every setting was tried")
    else:
        done, past = search(runner, Space(settings, present, live))
    if json_:
        print_json(
            {
                "engine": kind,
                "trace": mix.origin,
                "requests": len(mix),
                "objective": asdict(goal),
                "live_rps_per_gpu": live,
                "best": asdict(done) | {"gain_ratio": done.gain_ratio},
                "trials": [asdict(each) | {"per_gpu_rps": each.per_gpu_rps} for each in past],
            }
        )
        return
    typer.echo(f"{mix.origin}, {len(mix)} requests drawn with seed {seed}, on the twin; live {live:.3g} req/s per GPU")
    rows = [
        (
            str(each.setting),
            f"{each.per_gpu_rps:.3f}",
            f"{each.measured.ttft_ratio:.0%}",
            f"{each.measured.itl_ratio:.0%}",
            "yes" if each.measured.kept else "no",
        )
        for each in past
    ]
    print_table(COLUMNS, rows)
    typer.echo(done.explain())
