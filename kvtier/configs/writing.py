"""Writes the settings of KV tiers as one release of vLLM, LMCache or KVBM reads them, and only what has a cap."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from contracts.errors import ConfigError
from kvtier.configs import lmcache_keys, vllm_keys
from kvtier.configs.check_kvbm import PREFIX
from kvtier.configs.terms import Version, said, size

_GIB = 2**30
_OLDEST: Mapping[str, Version] = {"vllm": (0, 11), "lmcache": (0, 3, 9), "kvbm": (0, 7)}
_CHUNK = 256


@dataclass(frozen=True)
class Wanted:
    """Tiers of one replica: bytes of memory and, if any, of a disk at `folder`, over all its workers.

    `block_tokens` of the GPU's blocks, `chunk_tokens` of what is moved together (0 leaves it to the program).
    `token_bytes`, KV of a token over all ranks, is asked for only where a release counts in blocks.
    """

    system: str
    release: Version
    memory_bytes: int
    disk_bytes: int = 0
    folder: str = ""
    policy: str = "lru"
    block_tokens: int = 16
    chunk_tokens: int = 0
    workers: int = 1
    token_bytes: int = 0


@dataclass(frozen=True)
class Written:
    """The text for stdout, what form it has, and what its reader should know."""

    text: str
    form: str
    notes: tuple[str, ...] = ()


def write(wanted: Wanted) -> Written:
    """The settings. Raises ConfigError where that release cannot do it, and says which one can."""
    writers: Mapping[str, Callable[[Wanted], Written]] = {"vllm": _vllm, "lmcache": _lmcache, "kvbm": _kvbm}
    if wanted.system not in writers:
        raise ConfigError(f"no {wanted.system!r}", where="--for", fix=f"One of {', '.join(writers)}.")
    oldest = _OLDEST[wanted.system]
    if wanted.release < oldest:
        message = f"{wanted.system} {said(wanted.release)} has no tiers that are known here"
        raise ConfigError(message, where="--version", fix=f"Take {said(oldest)} or later.")
    if wanted.memory_bytes < 2**20:
        raise ConfigError(f"{size(wanted.memory_bytes)} hold no block", where="--memory", fix="Write it as 64GiB.")
    if bool(wanted.disk_bytes) != bool(wanted.folder):
        raise ConfigError("a disk tier has a size and a folder", where="--disk", fix="Give --disk and --folder.")
    if wanted.chunk_tokens % wanted.block_tokens:
        message = f"{wanted.chunk_tokens} tokens are no whole number of GPU blocks of {wanted.block_tokens}"
        fix = f"Write {-(-wanted.chunk_tokens // wanted.block_tokens) * wanted.block_tokens}."
        raise ConfigError(message, where="--chunk", fix=fix)
    return writers[wanted.system](wanted)


def _vllm(wanted: Wanted) -> Written:
    release, notes = wanted.release, []
    extra: dict[str, Any] = {}
    if release >= vllm_keys.OFFLOADING["cpu_bytes_to_use"].since:
        extra["cpu_bytes_to_use"] = wanted.memory_bytes
    else:
        extra["num_cpu_blocks"] = _blocks(wanted)
    if wanted.chunk_tokens:
        extra["block_size"] = wanted.chunk_tokens
    if wanted.policy != "lru":
        if wanted.policy != "arc" or release < vllm_keys.OFFLOADING["eviction_policy"].since:
            message = f"vLLM {said(release)} has no policy {wanted.policy!r}"
            raise ConfigError(message, where="--policy", fix="Write lru, or arc from vLLM 0.12 on.")
        extra["eviction_policy"] = wanted.policy
    config: dict[str, Any] = {"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}
    if wanted.disk_bytes:
        if release < vllm_keys.OURS_SINCE:
            message = f"vLLM {said(release)} has no disk tier with a cap that this writes (its fs tier never deletes)"
            fix = f"Take vLLM {said(vllm_keys.OURS_SINCE)} or later, or leave the disk out."
            raise ConfigError(message, where="--disk", fix=fix)
        if release[:2] != vllm_keys.OURS_RUN_ON:
            notes.append(f"The disk tier was run on vLLM {said(vllm_keys.OURS_RUN_ON)}, not on {said(release)}.")
        notes.append("The disk tier must be installed in vLLM's own environment (make kvtier-wheel).")
        config["kv_load_failure_policy"] = "recompute"
        extra["spec_name"] = "TieringOffloadingSpec"
        tier = {"type": vllm_keys.OURS, "module_path": vllm_keys.OURS_MODULE, "root_dir": wanted.folder}
        extra["secondary_tiers"] = [{**tier, "cap_gb": _neat(wanted.disk_bytes / 1e9)}]
    config["kv_connector_extra_config"] = extra
    return Written(_serve(config, wanted), "shell", tuple(notes))


def _blocks(wanted: Wanted) -> int:
    """Blocks that fill the memory; each worker holds its share of every block."""
    if not wanted.token_bytes:
        message = f"vLLM {said(wanted.release)} counts its memory in blocks, whose size the model tells"
        raise ConfigError(message, where="--model", fix="Give --model config.json.")
    blocks = wanted.memory_bytes // ((wanted.chunk_tokens or wanted.block_tokens) * wanted.token_bytes)
    if not blocks:
        raise ConfigError(f"{size(wanted.memory_bytes)} hold no block", where="--memory", fix="Give more.")
    return blocks


def _serve(config: Mapping[str, Any], wanted: Wanted) -> str:
    parallel = f" --tensor-parallel-size {wanted.workers}" if wanted.workers > 1 else ""
    told = json.dumps(config).replace("'", "'\\''")
    return f"vllm serve \"$MODEL\" --block-size {wanted.block_tokens}{parallel} \\\n  --kv-transfer-config '{told}'\n"


def _lmcache(wanted: Wanted) -> Written:
    chunk = wanted.chunk_tokens or -(-_CHUNK // wanted.block_tokens) * wanted.block_tokens
    policy = wanted.policy.upper()
    if wanted.disk_bytes and wanted.release >= lmcache_keys.EVICTION_SINCE:
        _known(policy, [name for name, key in lmcache_keys.SERVER_POLICIES.items() if key.read_in(wanted.release)])
        adapter = {
            "type": "fs_native",
            "base_path": wanted.folder,
            "max_capacity_gb": _neat(wanted.disk_bytes / _GIB),
            "eviction": {"eviction_policy": policy, "trigger_watermark": 0.9, "eviction_ratio": 0.1},
        }
        told = json.dumps(adapter).replace("'", "'\\''")
        text = (
            f"lmcache server --l1-size-gb {_neat(wanted.memory_bytes / _GIB)} --eviction-policy {policy} "
            f"--chunk-size {chunk} \\\n  --l2-adapter '{told}'\n"
        )
        forgets = "After a restart, files of the last run are not counted against the cap: empty the folder first."
        return Written(text, "shell", (_beside("LMCacheMPConnector", wanted), forgets))
    _known(policy, lmcache_keys.POLICIES)
    settings: dict[str, Any] = {
        "chunk_size": chunk,
        "local_cpu": True,
        "max_local_cpu_size": _neat(wanted.memory_bytes / wanted.workers / _GIB),
        "cache_policy": policy,
    }
    notes = [_beside("LMCacheConnectorV1", wanted) + " and LMCACHE_CONFIG_FILE naming this file"]
    if wanted.disk_bytes:
        settings["local_disk"] = f"file://{wanted.folder}"
        settings["max_local_disk_size"] = _neat(wanted.disk_bytes / wanted.workers / _GIB)
        notes.append("After a restart, files of the last run are not counted against the cap: empty the folder first.")
    if wanted.workers > 1:
        notes.append(f"Sizes are of each of {wanted.workers} workers.")
    return Written(yaml.safe_dump(settings, sort_keys=False), "yaml", tuple(notes))


def _known(policy: str, policies: Any) -> None:
    if policy not in policies:
        message = f"LMCache of that release has no policy {policy!r} there"
        raise ConfigError(message, where="--policy", fix=f"One of {', '.join(policies)}.")


def _beside(connector: str, wanted: Wanted) -> str:
    config = json.dumps({"kv_connector": connector, "kv_role": "kv_both"})
    return f"Start vLLM with --block-size {wanted.block_tokens} --kv-transfer-config '{config}'"


def _kvbm(wanted: Wanted) -> Written:
    if wanted.policy != "lru" or wanted.chunk_tokens:
        flag = "--chunk" if wanted.chunk_tokens else "--policy"
        raise ConfigError("KVBM leaves no choice of that", where=flag, fix="Leave it out.")
    if wanted.disk_bytes and wanted.disk_bytes < wanted.memory_bytes:
        message = "KVBM's disk repeats the memory above it, and is smaller"
        raise ConfigError(message, where="--disk", fix=f"Give {size(wanted.memory_bytes)} or more, or leave it out.")
    lines = [f"{PREFIX}CPU_CACHE_GB={_neat(wanted.memory_bytes / 1e9)}"]
    if wanted.disk_bytes:
        lines += [f"{PREFIX}DISK_CACHE_GB={_neat(wanted.disk_bytes / 1e9)}", f"{PREFIX}DISK_CACHE_DIR={wanted.folder}"]
    config = {
        "kv_connector": "DynamoConnector",
        "kv_role": "kv_both",
        "kv_connector_module_path": "kvbm.vllm_integration.connector",
    }
    notes = (f"Start vLLM with --kv-transfer-config '{json.dumps(config)}'",)
    return Written("\n".join(lines) + "\n", "env", notes)


def _neat(amount: float) -> float | int:
    """Three decimals at most, rounded down so that nothing grows past what was asked for."""
    held = int(amount * 1000) / 1000
    return int(held) if held == int(held) else held
