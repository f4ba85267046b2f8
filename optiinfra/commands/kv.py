"""`optiinfra kv`: what a disk tier for the KV cache would bring, before anybody buys a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import JsonOption, amount, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="KV cache tiers: what a disk below the GPUs would hit, write and save.")
COLUMNS = (
    "capacity",
    "policy",
    "hits",
    "of the bound",
    "written",
    "of LRU's",
    "saved tokens",
    "disk",
    "saved",
    "choosing",
)


@app.command()
def simulate(
    trace: Annotated[Path, typer.Option("--trace", help="Prompts with ids of their blocks: a Mooncake jsonl.")],
    model: Annotated[Path, typer.Option("--model", help="config.json of the model, as Hugging Face hosts it.")],
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
    kv_dtype: Annotated[str, typer.Option("--kv-dtype", help="As vLLM's --kv-cache-dtype: auto, fp8.")] = "auto",
    flops: Annotated[
        float, typer.Option("--flops", min=1e9, help="Operations a second in prefill; 8 H100 at half their peak.")
    ] = 8 * 989e12 * 0.5,
    for_time: Annotated[
        bool, typer.Option("--for-time", help="Let ours weigh each block by the time that it saves, not by hits.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Play a trace against a disk tier under each policy: hits, blocks written, tokens and seconds of prefill saved.

    Classic policies load what they hit, even where computing is faster; ours does what is faster, block by block.
    `choosing` is what every policy saves if its engine does so: an upper limit, since engines load from the first block
    on. `belady` knows the future, and is the bound of a disk without `--memory` above it.

    Example: `optiinfra kv simulate --trace conversation_trace.jsonl.gz --model config.json --capacity 1TB,2TB`
    """
    from kvtier.prefill import prefill_of
    from kvtier.study import ALL, Setting, compare
    from optiinfra.kv_files import read_config, read_trace, shape_of

    config = read_config(model)
    shape = shape_of(config, kv_dtype, model)
    recorded = read_trace(trace)
    prompts, block_tokens = recorded.prompts, recorded.block_tokens
    block_bytes = shape.block_bytes(block_tokens)
    wanted = ALL if policy == "all" else tuple(each.strip() for each in policy.split(","))
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
    with _progress() as told:
        rows = compare(prompts, prefill_of(config, flops, str(model)), setting, told)
    if json_:
        print_json([asdict(row) for row in rows])
        return
    typer.echo(
        f"{trace.name}: {len(prompts):,} prompts, blocks of {block_tokens} tokens and {block_bytes / 2**20:,.0f} MiB"
    )
    print_table(
        COLUMNS,
        [
            (
                f"{row.capacity_bytes / 1e9:,.0f} GB",
                row.policy,
                f"{row.hit_blocks:,}",
                None if row.hits_of_belady_ratio is None else f"{row.hits_of_belady_ratio:.1%}",
                f"{row.written_blocks:,}",
                None if row.writes_of_lru_ratio is None else f"{row.writes_of_lru_ratio:.1%}",
                f"{row.saved_tokens:,}",
                f"{row.bandwidth_bytes_per_s / 1e9:g} GB/s",
                f"{row.saved_s:,.0f} s",
                f"{row.saved_choosing_s:,.0f} s",
            )
            for row in rows
        ],
    )


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, where that is a terminal; it is told what runs and the share of all that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
