"""`optiinfra kv config` and `kv lint`: settings of KV tiers, written for a release, and checked before they run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError, OptiInfraError
from optiinfra.commands.common import JsonOption, print_json

if TYPE_CHECKING:
    from contracts.laws.kv_bytes import KvShape

app = typer.Typer(no_args_is_help=True, help="KV cache tiers: their settings, written and checked.")

ModelOption = Annotated[
    Path | None, typer.Option("--model", help="config.json of the model, as Hugging Face hosts it.")
]
DtypeOption = Annotated[str, typer.Option("--kv-dtype", help="As vLLM's --kv-cache-dtype: auto, fp8.")]


@app.command()
def config(
    system: Annotated[str, typer.Option("--for", help="vllm, lmcache or kvbm.")],
    version: Annotated[str, typer.Option("--version", help="Of that program: 0.32.")],
    memory: Annotated[str, typer.Option("--memory", help="Of the host for KV blocks of one replica: 64GiB.")],
    disk: Annotated[str, typer.Option("--disk", help="Cap of a disk tier below it: 500GB.")] = "",
    folder: Annotated[str, typer.Option("--folder", help="Of the disk tier; each server has its own.")] = "",
    policy: Annotated[
        str, typer.Option("--policy", help="What memory gives up: lru, and arc where it is known.")
    ] = "lru",
    block: Annotated[int, typer.Option("--gpu-block", min=1, help="Tokens of a block on the GPU.")] = 16,
    chunk: Annotated[int, typer.Option("--chunk", min=0, help="Tokens that are moved together; 0: its default.")] = 0,
    workers: Annotated[int, typer.Option("--tensor-parallel", min=1, help="GPUs of one replica.")] = 1,
    model: ModelOption = None,
    kv_dtype: DtypeOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Write flags, file or environment of KV tiers as that release reads them. Notes go to stderr.

    Only tiers with a cap that is enforced are written; `kv lint` finds nothing wrong in them.

    Example: `optiinfra kv config --for vllm --version 0.32 --memory 64GiB --disk 500GB --folder /mnt/nvme/kv`
    """
    from kvtier.configs.terms import quantity
    from kvtier.configs.terms import version as release
    from kvtier.configs.writing import Wanted, write

    shape = _shape(model, kv_dtype)
    written = write(
        Wanted(
            system=system,
            release=release(version),
            memory_bytes=quantity(memory, "--memory"),
            disk_bytes=quantity(disk, "--disk") if disk else 0,
            folder=folder,
            policy=policy,
            block_tokens=block,
            chunk_tokens=chunk,
            workers=workers,
            token_bytes=0 if shape is None else shape.block_bytes(1),
        )
    )
    if json_:
        print_json(asdict(written))
        return
    typer.echo(written.text, nl=False)
    for note in written.notes:
        typer.echo(f"note: {note}", err=True)


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Scripts, JSON, yaml, env files; - is stdin.")],
    vllm: Annotated[str, typer.Option("--vllm", help="Version; else the image's tag, else the newest known.")] = "",
    lmcache: Annotated[str, typer.Option("--lmcache", help="Version of LMCache.")] = "",
    kvbm: Annotated[str, typer.Option("--kvbm", help="Version of KVBM.")] = "",
    host_memory: Annotated[str, typer.Option("--host-memory", help="Of the host that runs all of these: 512GiB.")] = "",
    disk_free: Annotated[
        str, typer.Option("--disk-free", help="For each folder; else as this machine tells, where it has the folder.")
    ] = "",
    replicas: Annotated[int, typer.Option("--replicas", min=0, help="Of each server on one host; 0: as it says.")] = 0,
    model: ModelOption = None,
    kv_dtype: DtypeOption = "auto",
    max_len: Annotated[int, typer.Option("--max-model-len", min=0, help="Where no flag of the server tells it.")] = 0,
    gpu_kv: Annotated[str, typer.Option("--gpu-kv", help="KV cache on the GPUs of one replica: 40GiB.")] = "",
    block: Annotated[int, typer.Option("--gpu-block", min=0, help="Tokens of a block on the GPU.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Check settings of KV tiers: caps that are not enforced, sizes that do not fit, keys of another release.

    Exit code 1 where there is an error. All files are taken to be of one machine.

    Example: `optiinfra kv lint deployment.yaml --host-memory 512GiB --model config.json`
    """
    from kvtier.configs.lint import lint as check
    from kvtier.configs.terms import Machine, Severity, quantity

    shape = _shape(model, kv_dtype)
    machine = Machine(
        versions={name: text for name, text in (("vllm", vllm), ("lmcache", lmcache), ("kvbm", kvbm)) if text},
        host_bytes=quantity(host_memory, "--host-memory") if host_memory else None,
        disk_free=_free(quantity(disk_free, "--disk-free") if disk_free else None),
        replicas=replicas or None,
        kv_bytes=None if shape is None else shape.bytes_of,
        request_tokens=max_len or None,
        gpu_kv_bytes=quantity(gpu_kv, "--gpu-kv") if gpu_kv else None,
        block_tokens=block,
    )
    found = check([(str(path), _text(path)) for path in files], machine)
    errors = [each for each in found if each.severity is Severity.ERROR]
    if json_:
        print_json({"ok": not errors, "findings": [asdict(each) for each in found]})
    else:
        colours = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: None}
        for each in found:
            typer.secho(str(each), fg=colours[each.severity])
        if not found:
            typer.echo("Nothing found.")
    if errors:
        raise typer.Exit(OptiInfraError.exit_code)


def _text(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Name a text file.") from None


def _free(told: int | None) -> Callable[[str], int | None]:
    """Free bytes of a folder: as told, or as this machine says where it has it."""

    def free(folder: str) -> int | None:
        if told is not None:
            return told
        return shutil.disk_usage(folder).free if Path(folder).is_dir() else None

    return free


def _shape(model: Path | None, kv_dtype: str) -> KvShape | None:
    """What one token leaves in the cache."""
    if model is None:
        return None
    from optiinfra.kv_files import read_config, shape_of

    return shape_of(read_config(model), kv_dtype, model)
