"""Shorthand of these tests: a vLLM server with one good configuration, and what a lint says of it."""

from __future__ import annotations

import json
from typing import Any

from kvtier.configs.lint import lint
from kvtier.configs.terms import Finding, Machine

GIB = 2**30


def transfer(*tiers: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A sound --kv-transfer-config with 64 GiB of memory, these tiers below it, and these keys besides."""
    inner: dict[str, Any] = {"cpu_bytes_to_use": 64 * GIB, **extra}
    if tiers:
        inner |= {"spec_name": "TieringOffloadingSpec", "secondary_tiers": list(tiers)}
    return {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {key: value for key, value in inner.items() if value is not None},
    }


def ours(**keys: Any) -> dict[str, Any]:
    """A sound disk tier of ours."""
    tier = {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": "/mnt/kv", "cap_gb": 500, **keys}
    return {key: value for key, value in tier.items() if value is not None}


def serve(config: dict[str, Any], flags: str = "") -> str:
    """The shell text that starts it."""
    return f"vllm serve m {flags} --kv-transfer-config '{json.dumps(config)}'"


def lmcache_server(adapter: dict[str, Any] | None = None, flags: str = "--l1-size-gb 64 --eviction-policy LRU") -> str:
    """The shell text that starts LMCache's own server."""
    return f"lmcache server {flags}" + ("" if adapter is None else f" --l2-adapter '{json.dumps(adapter)}'")


def found(text: str, machine: Machine | None = None, **versions: str) -> list[Finding]:
    """What a lint of one file says; a machine, or versions."""
    return lint([("file", text)], machine or Machine(versions=versions))


def codes(text: str, machine: Machine | None = None, **versions: str) -> list[str]:
    """Only the codes, each with its severity."""
    return [f"{each.severity} {each.code}" for each in found(text, machine, **versions)]
