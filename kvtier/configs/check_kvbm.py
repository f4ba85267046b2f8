"""Checks KVBM, the block manager of NVIDIA Dynamo: its DYN_KVBM_… variables.

Names were read from the released packages 0.7.0, 0.8.0, 1.0.0, 1.3.1 and 1.6.1, and from Dynamo's environment_names.rs;
what they mean from its KVBM guide and its source. A GB is 10^9 bytes there.
"""

from __future__ import annotations

from kvtier.configs.keys import Table, check_names, table
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Machine, Severity, Tier, number, size

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
PREFIX = "DYN_KVBM_"
_BACKENDS = PREFIX + "NIXL_BACKEND_"
_GB = 10**9
_TMP = "/tmp"  # noqa: S108 - where KVBM puts its file unless told otherwise

VARIABLES: Table = table(
    v="CPU_CACHE_GB CPU_CACHE_OVERRIDE_NUM_BLOCKS DISK_CACHE_GB DISK_CACHE_OVERRIDE_NUM_BLOCKS DISK_CACHE_DIR "
    "DISABLE_DISK_OFFLOAD_FILTER DISK_ZEROFILL_FALLBACK ENABLE_NUMA LEADER_WORKER_INIT_TIMEOUT_SECS LEADER_ZMQ_HOST "
    "LEADER_ZMQ_PUB_PORT LEADER_ZMQ_ACK_PORT METRICS METRICS_PORT KV_EVENTS_ENABLE_CONSOLIDATOR",
    v0_8="CACHE_STATS_MAX_REQUESTS CACHE_STATS_LOG_INTERVAL_SECS DISK_DISABLE_O_DIRECT TRTLLM_ZMQ_PORT",
    v1_0="ENABLE_RECORD HOST_OFFLOAD_PREFIX_MIN_PRIORITY",
    v1_3="DISABLE_WRITE_COMBINED DISK_ALLOCATOR_TYPE MAX_CONCURRENT_TRANSFERS MAX_TRANSFER_BATCH_SIZE NCCL_MAX_CTAS "
    "NCCL_MLA_MODE KV_EVENTS_CONSOLIDATOR_MODE OBJECT_ENABLED OBJECT_BUCKET OBJECT_ENDPOINT OBJECT_REGION "
    "OBJECT_ACCESS_KEY OBJECT_SECRET_KEY OBJECT_NUM_BLOCKS TRANSFER_BATCH_SIZE",
)
"""Without their prefix."""


def check_kvbm(server: Server, machine: Machine) -> tuple[list[Finding], list[Tier]]:
    """The variables of one worker with KVBM."""
    release, where = machine.version("kvbm", server.versions), server.where
    env = {
        name.removeprefix(PREFIX): value
        for name, value in server.env.items()
        if name.startswith(PREFIX) and not name.startswith(_BACKENDS)
    }
    found = check_names(env, VARIABLES, release, where, "KVBM")
    memory, disk = (_amount(env, name, where, found) for name in ("CPU_CACHE", "DISK_CACHE"))
    if memory == disk == 0 and server.whole:
        fix = f"Set {PREFIX}CPU_CACHE_GB, and {PREFIX}DISK_CACHE_GB for a disk below it."
        found.append(Finding("missing-key", _ERROR, where, "KVBM does not start without a tier.", fix))
    if memory == 0 and disk != 0:
        message = "A disk without memory above it is experimental, and spares the disk no writes."
        found.append(Finding("no-memory", _WARNING, where, message, f"Set {PREFIX}CPU_CACHE_GB."))
    tiers: list[Tier] = []
    if memory != 0:
        tiers.append(Tier(where, "memory", memory))
    if disk != 0:
        folder = env.get("DISK_CACHE_DIR", _TMP).rstrip("/") or "/"
        if "DISK_CACHE_DIR" not in env:
            message = f"The disk tier lies in {_TMP}, which may be memory, or small."
            found.append(Finding("default-folder", _WARNING, where, message, f"Set {PREFIX}DISK_CACHE_DIR."))
        tiers.append(Tier(where, "disk", disk, folder, server.volume(folder)))
    if memory and disk and disk < memory:
        message = f"The disk ({size(disk)}) is smaller than the memory above it ({size(memory)}), which it repeats."
        found.append(Finding("tier-too-small", _WARNING, where, message, "Give the disk more, or leave it out."))
    return found, tiers


def _amount(env: dict[str, str], name: str, where: str, found: list[Finding]) -> int | None:
    """Bytes; None where only a count of blocks is given, 0 where the tier is not there."""
    blocks, text = number(env.get(name + "_OVERRIDE_NUM_BLOCKS")), env.get(name + "_GB")
    gb = number(text)
    if text is not None and (gb is None or gb < 0):
        message = f"{PREFIX}{name}_GB {text!r} is no number, and taken for 0."
        found.append(Finding("wrong-value", _ERROR, where, message, "Write the GB alone, as 100."))
    if blocks:
        if gb:
            message = f"{PREFIX}{name}_OVERRIDE_NUM_BLOCKS goes before {PREFIX}{name}_GB."
            found.append(Finding("two-sizes", _WARNING, where, message, "Leave one of them out."))
        return None
    return int(gb * _GB) if gb and gb > 0 else 0
