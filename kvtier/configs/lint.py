"""Finds what is wrong in the settings of KV tiers: each server for itself, and all of them on one machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvtier.configs.check_kvbm import PREFIX, check_kvbm
from kvtier.configs.check_lmcache import check_engine, check_server, from_environment
from kvtier.configs.check_vllm import check_vllm
from kvtier.configs.reading import read
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Machine, Severity, Tier, size
from kvtier.configs.vllm_offload import too_small

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True)
class _Opened:
    """A tier with the server that opens it, `times` over."""

    tier: Tier
    server: Server
    times: int


def lint(files: Iterable[tuple[str, str]], machine: Machine) -> list[Finding]:
    """Findings of all (name, text) together, the worst first."""
    found: list[Finding] = []
    opened: list[_Opened] = []
    for name, text in files:
        servers, unread = read(text, name)
        found += unread
        for server in servers:
            more, tiers = _one(server, machine)
            times = machine.replicas or server.replicas
            found += more
            opened += [_Opened(tier, server, times) for tier in tiers]
    found += _memory(opened, machine) + _sizes(opened, machine) + _disks(opened, machine)
    return sorted(dict.fromkeys(found), key=lambda each: _RANK[each.severity])


def _one(server: Server, machine: Machine) -> tuple[list[Finding], list[Tier]]:
    found: list[Finding] = []
    tiers: list[Tier] = []
    checks = []
    of_dynamo = "DynamoConnector" in (server.flag("kv-transfer-config") or "")
    if server.program == "lmcache" or {"l1-size-gb", "l2-adapter"} & server.flags.keys():
        checks.append(check_server(server, machine))
    elif server.transfer is not None or server.flags:
        checks.append(check_vllm(server, machine))
    if server.settings is not None:
        checks.append(check_engine(server.settings, server, server.where, machine))
    if told := from_environment(server.env):
        checks.append(check_engine(told, server, server.where, machine))
    if not of_dynamo and any(name.startswith(PREFIX) for name in server.env):
        checks.append(check_kvbm(server, machine))
    for more, its in checks:
        found, tiers = found + more, tiers + its
    return found, tiers


def _memory(opened: Sequence[_Opened], machine: Machine) -> list[Finding]:
    """Memory of all servers against the host's, and of each against its container's limit."""
    found: list[Finding] = []
    held = [each for each in opened if each.tier.medium == "memory" and each.tier.byte_count]
    total = sum((each.tier.byte_count or 0) * each.times for each in held)
    if machine.host_bytes is not None and total > machine.host_bytes:
        parts = " + ".join(_part(each) for each in held)
        of = f" ({parts})" if parts != size(total) else ""
        message = f"Memory tiers take {size(total)}{of}, the host has {size(machine.host_bytes)}."
        where = held[0].tier.where
        found.append(Finding("host-memory", _ERROR, where, message, "Give each less, or run fewer on one host."))
    pods: dict[str, list[_Opened]] = defaultdict(list)
    for each in held:
        pods[each.server.where].append(each)
    for where, its in pods.items():
        limit, taken = its[0].server.memory_bytes, sum(each.tier.byte_count or 0 for each in its)
        if limit is not None and taken > limit:
            message = f"Memory tiers take {size(taken)}, the container's limit is {size(limit)}: it is killed."
            found.append(Finding("host-memory", _ERROR, where, message, "Raise resources.limits.memory, or take less."))
    return found


def _part(each: _Opened) -> str:
    return f"{each.times} × {size(each.tier.byte_count or 0)}" if each.times > 1 else size(each.tier.byte_count or 0)


def _sizes(opened: Sequence[_Opened], machine: Machine) -> list[Finding]:
    """Memory tiers that hold less than one request, or than the GPUs above them."""
    found: list[Finding] = []
    for each in opened:
        tier = each.tier
        if tier.medium != "memory" or not tier.of_kv or tier.byte_count is None:
            continue
        tokens = each.server.count("max-model-len", 0) or machine.request_tokens
        request = machine.kv_bytes(tokens) if machine.kv_bytes and tokens else 0
        if tier.byte_count < request:
            found.append(too_small(tier, request, f"one request of {tokens:,} tokens"))
        elif machine.gpu_kv_bytes is not None and tier.byte_count <= machine.gpu_kv_bytes:
            found.append(too_small(tier, machine.gpu_kv_bytes, "or as much as the KV cache on the GPUs above it"))
    return found


def _disks(opened: Sequence[_Opened], machine: Machine) -> list[Finding]:
    """Folders that two servers use, and caps above what is free."""
    found: list[Finding] = []
    places: dict[str, list[_Opened]] = defaultdict(list)
    for each in opened:
        if each.tier.medium == "disk" and each.tier.folder:
            places[each.tier.volume or each.tier.folder].append(each)
    for place, its in places.items():
        shared = [each for each in its if each.server.shared(each.tier.folder)]
        if len(its) > 1 or shared:
            found.append(_shared(place, its))
        free = machine.disk_free(place)
        caps = [each.tier.byte_count or 0 for each in its]
        if free is not None and sum(caps) > free:
            message = f"The cap is {size(sum(caps))}, {its[0].tier.folder} has {size(free)} free."
            fix = "Give less, or empty the disk; give --disk-free if the folder already holds these blocks."
            found.append(Finding("disk-space", _ERROR, its[0].tier.where, message, fix))
    return found


def _shared(place: str, its: Sequence[_Opened]) -> Finding:
    users = its[0].times if len(its) == 1 else len(its)
    alone = any(each.tier.alone for each in its)
    capped = any(each.tier.byte_count is not None for each in its)
    message = f"{users} servers share {place}. " + (
        "The second one's tier stays closed." if alone else "Each counts and deletes for itself alone."
    )
    if not alone and not capped:
        message = f"{users} servers share {place}: they serve each other's blocks, if their hash seeds are the same."
        fix = "Set the same PYTHONHASHSEED on all of them, or give each a folder."
        return Finding("shared-folder", Severity.NOTE, its[0].tier.where, message, fix)
    severity = _ERROR if alone else _WARNING
    return Finding("shared-folder", severity, its[0].tier.where, message, "Give each server a folder of its own.")
