"""`optiinfra kv plan`: which KV tiers to add for a model on some GPUs, from recorded traffic, or that none pays."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import FLAG, JsonOption, KvDtypeOption, ModelOption, amount, print_json, print_table
from optiinfra.commands.kv import progress

if TYPE_CHECKING:
    from kvtier.planner import Offer, Option, Plan
    from kvtier.planner_replica import Replica, Traffic
    from kvtier.planner_trial import Fleet

app = typer.Typer()
_COLUMNS = (
    "memory",
    "disk",
    "hits GPU, memory, disk",
    "prefill",
    "TTFT mean",
    "TTFT p95",
    "GPU time",
    "USD/month: saved, cost",
    "written a day",
)
_VERSION = "0.32"
_FOLDER = "/mnt/nvme/kv"


@app.command()
def plan(
    trace: Annotated[Path, typer.Option("--trace", help="Prompts of all replicas, with ids of their blocks.")],
    model: ModelOption,
    gpu: Annotated[str, typer.Option("--gpu", help="A100-40, A100-80, H100, H200, B200, L4, L40S or A10G.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs of one replica.")] = 1,
    tensor_parallel: Annotated[
        int, typer.Option("--tensor-parallel", min=0, help="0: all GPUs of a replica; less: pipeline stages of it.")
    ] = 0,
    utilization: Annotated[
        float, typer.Option("--gpu-memory-utilization", min=0.1, max=1.0, help="As vLLM's flag.")
    ] = 0.9,
    peak_share: Annotated[
        float, typer.Option("--mfu", min=0.01, max=1.0, help="Share of the GPUs' peak that prefill reaches.")
    ] = 0.5,
    kv_dtype: KvDtypeOption = "auto",
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, max=10_000, help="They share the trace; 0: as many as it keeps busy.")
    ] = 0,
    shared_disk: Annotated[
        bool, typer.Option("--shared-disk", metavar=FLAG, help="One disk for all replicas; else each has its own.")
    ] = False,
    sticky: Annotated[
        bool,
        typer.Option(
            "--sticky", metavar=FLAG, help="A router sends prompts where their beginning was served; else in turns."
        ),
    ] = False,
    host_memory: Annotated[
        str, typer.Option("--host-memory", help="That the host of a replica can spare for KV: 200GB.")
    ] = "0GB",
    disk: Annotated[str, typer.Option("--disk", help="Sizes to try, with commas; else up to all blocks.")] = "",
    bandwidth: Annotated[str, typer.Option("--disk-bandwidth", help="Of reading one disk.")] = "7GB/s",
    disk_price: Annotated[
        float, typer.Option("--disk-price", min=0.0, help="USD per GB and month, capacity only; AWS lists gp3 at 0.08.")
    ] = 0.08,
    memory_price: Annotated[
        float, typer.Option("--memory-price", min=0.0, help="USD per GB and month; GPU servers come with much.")
    ] = 0.0,
    gpu_price: Annotated[
        float | None, typer.Option("--gpu-price", min=0.0, help="USD per GPU and hour; else a list price.")
    ] = None,
    endurance: Annotated[
        float, typer.Option("--drive-writes", min=0.0, help="Of its own size a day that a drive endures.")
    ] = 1.0,
    overhead: Annotated[
        float, typer.Option("--overhead", min=0.0, max=0.5, help="GPU time that having tiers costs: 0.03 to 0.15.")
    ] = 0.03,
    json_: JsonOption = False,
) -> None:
    """Which tiers to add below the GPUs' own KV cache: sizes, hits, TTFT, throughput, dollars, and a plain verdict.

    The trace is played on the GPUs' cache (LRU), then host memory (LRU), then disks of several sizes under our policy;
    hits of the GPUs are not the tiers'. TTFT is of prefill and loading alone, no queue. "Do nothing" is an answer:
    where nothing comes again, the GPUs hold it, loading is slower than computing, the disk cannot keep up, or the gain
    is below --overhead. The last line is the command that writes the flags, where that command knows the server.

    Costs are capacity by the month alone: a drive's wear is not in them, nor throughput that is billed apart, as gp3's
    above 125 MB/s.

    Example: `optiinfra kv plan --trace conversation_trace.jsonl.gz --model config.json --gpu H100 --gpus 8`
    """
    from kvtier import planner
    from kvtier.planner_gpus import gpu as gpu_named
    from kvtier.planner_replica import Traffic, replica_of
    from kvtier.planner_trial import Fleet
    from kvtier.planner_words import cautions, verdict
    from optiinfra.kv_files import read_config, read_trace, shape_of

    config = read_config(model)
    shape_of(config, kv_dtype, model)
    recorded = read_trace(trace)
    traffic = Traffic(recorded.prompts, recorded.span_s, recorded.output_tokens)
    replica = replica_of(
        config,
        gpu_named(gpu),
        recorded.block_tokens,
        gpus=gpus,
        tensor_parallel=tensor_parallel,
        utilization=utilization,
        peak_share=peak_share,
        kv_dtype=kv_dtype,
        usd_per_gpu_h=gpu_price,
        where=str(model),
    )
    fleet = Fleet(replicas or planner.busy_replicas(traffic, replica), shared_disk, sticky)
    offer = planner.Offer(
        memory_bytes=int(amount(host_memory, "--host-memory")),
        disk_bytes=[int(amount(each, "--disk")) for each in disk.split(",")] if disk else (),
        disk_bytes_per_s=amount(bandwidth, "--disk-bandwidth", per_s=True),
        disk_usd_gb_month=disk_price,
        memory_usd_gb_month=memory_price,
        overhead_ratio=overhead,
        drive_writes_a_day=endurance,
    )
    _fits(offer, replica)
    with progress() as told:
        made = planner.plan(traffic, replica, fleet, offer, told)
    words, notes = verdict(made, fleet, offer), cautions(made, traffic, replica, fleet, offer)
    following, why = None, None
    if made.adds and made.best is not None:
        why = _no_command(fleet, replica, kv_dtype)
        following = None if why else _next(made.best, replica, model)
    notes += [why] if why else []
    if json_:
        print_json(_told(made, replica, fleet, traffic, words, notes, following))
        return
    typer.echo(
        f"{trace.name}: {len(traffic.prompts):,} prompts in {traffic.span_s / 3600:.2f} h on {fleet.replicas} x {gpus} "
        f"{gpu}. KV cache on a replica's GPUs: {replica.gpu_kv_bytes / 1e9:,.0f} GB, {replica.gpu_kv_tokens:,} tokens, "
        f"hits {made.base.gpu_hit_ratio:.1%}. What comes again: {made.reuse.reused_ratio:.1%} of blocks. "
        f"Prefill is {_share(made):.0%} of GPU time (estimate)."
    )
    if made.options:
        print_table(_COLUMNS, [_cells(each) for each in made.options if _near(each, made.best)])
    typer.secho(f"\n{words}", bold=True)
    if made.adds and made.best is not None:
        rate = len(traffic.prompts) / (made.base.prefill_s + made.decode_s) * fleet.replicas
        more = rate * made.best.throughput_ratio
        typer.echo(
            f"Throughput of these GPUs {rate:.2f} → {more:.2f} prompts a second, {overhead:.0%} overhead counted; "
            f"saves {made.best.saved_usd_month:,.0f} USD a month of GPU time, costs {made.best.cost_usd_month:,.0f}."
        )
    for note in notes:
        typer.echo(f"- {note}")
    if following:
        typer.echo(f"\nnext: {following}")


def _fits(offer: Offer, replica: Replica) -> None:
    """Raises ConfigError for a tier that holds no block."""
    for size, where in ((offer.memory_bytes, "--host-memory"), *((each, "--disk") for each in offer.disk_bytes)):
        if (size or where == "--disk") and size < replica.block_bytes:
            raise ConfigError(
                f"{size:,} bytes hold no block of {replica.block_bytes:,}", where=where, fix="Give a larger tier."
            )


def _share(made: Plan) -> float:
    return made.base.prefill_s / (made.base.prefill_s + made.decode_s)


def _cells(option: Option) -> tuple[str, ...]:
    trial = option.trial
    return (
        f"{trial.memory_bytes / 1e9:,.0f} GB",
        f"{trial.disk_bytes / 1e9:,.0f} GB",
        f"{trial.gpu_hit_ratio:.1%}, {trial.memory_hit_ratio:.1%}, {trial.disk_hit_ratio:.1%}",
        f"{-trial.saved_ratio:+.1%}",
        f"{trial.ttft_mean_without_s:.3f} → {trial.ttft_mean_s:.3f} s",
        f"{trial.ttft_p95_without_s:.3f} → {trial.ttft_p95_s:.3f} s",
        f"{option.net_ratio:+.1%}",
        f"{option.saved_usd_month:,.0f}, {option.cost_usd_month:,.0f}",
        f"{trial.written_bytes_a_day / 1e12:.1f} TB",
    )


def _near(option: Option, best: Option | None) -> bool:
    """Whether it has the memory or the disk of the best: of a grid of both, only those are printed."""
    if best is None:
        return True
    trial, chosen = option.trial, best.trial
    return trial.memory_bytes == chosen.memory_bytes or trial.disk_bytes == chosen.disk_bytes


def _no_command(fleet: Fleet, replica: Replica, kv_dtype: str) -> str | None:
    """Why no command writes the flags of this server; None where one does."""
    if fleet.shared and fleet.disks < fleet.replicas:
        return "No command follows: `kv config` writes a disk of one server's own."
    flags = [f"--kv-cache-dtype {kv_dtype}"] if kv_dtype != "auto" else []
    stages = replica.gpus // replica.tensor_parallel
    flags += [f"--pipeline-parallel-size {stages}"] if stages > 1 else []
    if not flags:
        return None
    return f"No command follows: the server that `kv config` writes has no {' and no '.join(flags)}, which this has."


def _next(best: Option, replica: Replica, model: Path) -> str:
    """The command that writes the flags of the tiers."""
    trial = best.trial
    words = ["optiinfra", "kv", "config", "--for", "vllm", "--version", _VERSION]
    words += ["--memory", f"{trial.memory_bytes / 1e9:g}GB"]
    if trial.disk_bytes:
        words += ["--disk", f"{trial.disk_bytes / 1e9:g}GB", "--folder", _FOLDER]
    return shlex.join([*words, "--tensor-parallel", str(replica.tensor_parallel), "--model", str(model)])


def _told(
    made: Plan, replica: Replica, fleet: Fleet, traffic: Traffic, words: str, notes: list[str], following: str | None
) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "verdict": made.verdict,
        "words": words,
        "notes": notes,
        "next": following,
        "replicas": fleet.replicas,
        "prompts": len(traffic.prompts),
        "span_s": traffic.span_s,
        "gpu_kv_bytes": replica.gpu_kv_bytes,
        "gpu_kv_tokens": replica.gpu_kv_tokens,
        "reused_ratio": made.reuse.reused_ratio,
        "distinct_blocks": made.reuse.distinct,
        "prefill_s": made.base.prefill_s,
        "decode_s": made.decode_s,
        "load_replicas": made.load_replicas,
        "break_even_bytes_per_s": made.break_even_bytes_per_s,
        "pays_bytes_per_s": made.pays_bytes_per_s,
        "base": asdict(made.base),
        "best": None if made.best is None else _option(made.best),
        "options": [_option(each) for each in made.options],
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        **asdict(option.trial),
        "swamped": option.swamped,
        "gain_ratio": option.gain_ratio,
        "net_ratio": option.net_ratio,
        "throughput_ratio": option.throughput_ratio,
        "saved_usd_month": option.saved_usd_month,
        "cost_usd_month": option.cost_usd_month,
        "net_usd_month": option.net_usd_month,
    }
