"""`optiinfra kv`: what a disk tier for the KV cache would bring, before anybody buys a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ConfigError
from kvtier.sizes import FLOPS_PER_S
from optiinfra.commands.common import (
    FLAG,
    JsonOption,
    KvDtypeOption,
    ModelOption,
    again,
    amount,
    print_json,
    print_table,
)

app = typer.Typer(no_args_is_help=True, help="KV cache tiers: what a disk below the GPUs would hit, write and save.")


@app.command()
def simulate(
    context: typer.Context,
    trace: Annotated[Path, typer.Option("--trace", help="Prompts with ids of their blocks: a Mooncake jsonl.")],
    model: ModelOption,
    capacity: Annotated[
        str, typer.Option("--capacity", help="Of the disk tier, several with commas: 500GB,1TB.")
    ] = "500GB,1TB,2TB,4TB",
    policy: Annotated[
        str, typer.Option("--policy", help="all, or names with commas: lru,arc,optiinfra,belady.")
    ] = "all",
    bandwidth: Annotated[
        str, typer.Option("--bandwidth", help="Of reading the disk, several with commas: 3.5GB/s,7GB/s.")
    ] = "7GB/s",
    memory: Annotated[str, typer.Option("--memory", help="An LRU tier above the disk, as 200GB.")] = "0GB",
    kv_dtype: KvDtypeOption = "auto",
    flops: Annotated[
        float, typer.Option("--flops", min=1e9, help="Operations a second in prefill; 8 H100 at half their peak.")
    ] = FLOPS_PER_S,
    for_time: Annotated[
        bool,
        typer.Option(
            "--for-time", metavar=FLAG, help="Let ours weigh each block by the time that it saves, not by hits."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with pictures: hits, writes, seconds, TTFT.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Play a trace against a disk tier under each policy: hits, blocks written, tokens and seconds of prefill saved.

    Classic policies load what they hit, even where computing is faster. Ours loads the leading run of a prompt's hits
    that saves the most, or none; `choosing` is what each policy saves if its engine does so. TTFT is of prefill and
    loading alone, no queue. `belady` knows the future, and is the bound of a disk without `--memory` above it.

    Example: `optiinfra kv simulate --trace conversation_trace.jsonl.gz --model config.json --html kv.html`
    """
    from kvtier.prefill import prefill_of
    from kvtier.study import ALL, Setting, compare
    from optiinfra.kv_files import read_config, read_trace, shape_of
    from optiinfra.kv_page import COLUMNS, cells, render

    if html is not None:
        from optiinfra.commands.replay_options import writable
        from optiinfra.replay.page import check_installed

        check_installed()
        writable(html)
    config = read_config(model)
    shape = shape_of(config, kv_dtype, model)
    recorded = read_trace(trace)
    block_tokens = recorded.block_tokens
    block_bytes = shape.block_bytes(block_tokens)
    named = [each.strip() for each in policy.split(",")]
    wanted = tuple(dict.fromkeys(one for each in named for one in (ALL if each == "all" else (each,))))
    unknown = [each for each in wanted if each not in ALL]
    if unknown:
        raise ConfigError(f"no policy {', '.join(unknown)}", where="--policy", fix=f"One of all, {', '.join(ALL)}.")
    capacities = [int(amount(each, "--capacity")) for each in capacity.split(",")]
    if min(capacities) < block_bytes:
        raise ConfigError(
            f"{min(capacities):,} bytes hold no block of {block_bytes:,}", where="--capacity", fix="Give a larger tier."
        )
    setting = Setting(
        block_tokens=block_tokens,
        block_bytes=block_bytes,
        capacities=capacities,
        bandwidths=[amount(each, "--bandwidth", per_s=True) for each in bandwidth.split(",")],
        policies=wanted,
        memory_slots=int(amount(memory, "--memory") // block_bytes),
        for_time=for_time,
    )
    with progress() as told:
        rows = compare(recorded.prompts, prefill_of(config, flops, str(model)), setting, told)
    count = len(recorded.prompts)
    speed = f"prefill at {flops / 1e12:,.0f} TFLOP/s" + (": 8 H100 at half peak" if flops == FLOPS_PER_S else "")
    if html is not None:
        command = again(context).replace("optiinfra", "optiinfra kv", 1)
        text = render(
            rows,
            trace=trace.name,
            prompts=count,
            block_tokens=block_tokens,
            block_bytes=block_bytes,
            speed=speed,
            command=command,
        )
        html.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {html}", err=True)
    if json_:
        print_json([asdict(row) for row in rows])
        return
    typer.echo(
        f"{trace.name}: {count:,} prompts, blocks of {block_tokens} tokens and {block_bytes / 2**20:,.0f} MiB, {speed}"
    )
    print_table(COLUMNS[:-1], [cells(row)[:-1] for row in rows])  # all of them are as wide as a page


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, where that is a terminal; it is told what runs and the share of all that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
