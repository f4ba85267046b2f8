"""Checks LMCache: the settings of its engine inside vLLM, and the flags of its own server with adapters for disks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kvtier.configs import lmcache_keys as keys
from kvtier.configs.keys import check_names
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Machine, Severity, Tier, Version, nearest, number

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_PREFIX = "LMCACHE_"
_GB = 2**30
"""LMCache's GB."""
Checked = tuple[list[Finding], list[Tier]]


def from_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Settings among LMCACHE_… variables. Others of that name, such as log levels, are LMCache's own business, unless
    they are a slip of the pen."""
    found: dict[str, str] = {}
    for name, value in env.items():
        key = name.removeprefix(_PREFIX).lower()
        if name.startswith(_PREFIX) and (key in keys.ENGINE or key in keys.DEPRECATED or _slip(key)):
            found[key] = value
    return found


def _slip(key: str) -> bool:
    return bool(nearest(key, [each for each in keys.ENGINE if abs(len(each) - len(key)) <= 2])) and key.count("_") > 0


def check_engine(settings: Mapping[str, Any], server: Server, where: str, machine: Machine) -> Checked:
    """Settings of one engine. Its sizes are of each worker."""
    release = machine.version("lmcache", server.versions)
    own = {key: value for key, value in settings.items() if key not in keys.DEPRECATED}
    found = check_names(own, keys.ENGINE, release, where, "LMCache")
    for old in settings.keys() & keys.DEPRECATED.keys():
        message = f"{old!r} is an old name."
        found.append(Finding("deprecated-key", _WARNING, where, message, f"Write {keys.DEPRECATED[old]!r}."))
    policy = settings.get("cache_policy", "LRU")
    if str(policy).upper() not in keys.POLICIES:
        fix = f"One of {', '.join(keys.POLICIES)}."
        found.append(Finding("wrong-value", _ERROR, where, f"No cache_policy {policy!r}.", fix))
    found += _chunk(settings.get("chunk_size"), server, where, machine, "chunk_size")
    tiers = _engine_memory(settings, server, where, found)
    if settings.get("gds_path"):
        message = "The GDS backend never deletes: its folder grows until the disk is full."
        fix = "Put a quota on the folder, or take local_disk with max_local_disk_size."
        found.append(Finding("no-cap", _WARNING, where, message, fix))
        tiers.append(Tier(where, "disk", None, str(settings["gds_path"]), server.volume(str(settings["gds_path"]))))
    return found, tiers + _engine_disk(settings, server, where, found)


def _engine_memory(settings: Mapping[str, Any], server: Server, where: str, found: list[Finding]) -> list[Tier]:
    given = settings.get("max_local_cpu_size", 5.0)
    gb = number(given)
    if gb is None or gb < 0:
        found.append(Finding("wrong-value", _ERROR, where, f"max_local_cpu_size {given!r} is no GB.", "Write 64."))
        return []
    return [Tier(where, "memory", int(gb * _GB) * server.workers)]


def _engine_disk(settings: Mapping[str, Any], server: Server, where: str, found: list[Finding]) -> list[Tier]:
    folders = [part.strip().removeprefix("file://") for part in str(settings.get("local_disk") or "").split(",")]
    folders = [folder for folder in folders if folder]
    given = settings.get("max_local_disk_size", 0.0)
    gb = number(given)
    if not folders:
        if gb:
            fix = "Add local_disk: file:///…"
            found.append(Finding("no-effect", _WARNING, where, "max_local_disk_size without local_disk.", fix))
        return []
    if not gb or gb < 0:
        message = f"local_disk keeps nothing: max_local_disk_size is {given!r}."
        found.append(Finding("cap-zero", _ERROR, where, message, "Give it, in GB for each worker."))
        return []
    message = "After a restart the files of the last run are neither found nor counted against max_local_disk_size."
    found.append(Finding("cap-forgets", _NOTE, where, message, "Empty the folder before each start."))
    share = int(gb * _GB) * server.workers // len(folders)
    return [Tier(where, "disk", share, folder, server.volume(folder)) for folder in folders]


def check_server(server: Server, machine: Machine) -> Checked:
    """`lmcache server`: memory for all workers of its machine, and adapters for what lies below."""
    release, where = machine.version("lmcache", server.versions), server.where
    about = [flag for flag in server.flags if flag in keys.SERVER or flag.startswith(("l1-", "l2-", "eviction-"))]
    found = check_names(
        about, keys.SERVER, release, where, "lmcache server", unknown=_ERROR, refused="It does not start."
    )
    tiers: list[Tier] = []
    gb = number(server.flag("l1-size-gb"))
    managed = "l1-manager" in server.flags
    if gb is not None and gb > 0:
        medium = "disk" if "gds-l1-path" in server.flags else "memory"
        folder = server.flag("gds-l1-path") or ""
        tiers.append(Tier(where, medium, int(gb * _GB), folder, server.volume(folder)))
    elif not managed:
        message = f"--l1-size-gb {server.flag('l1-size-gb')!r} is no size."
        found.append(Finding("missing-key", _ERROR, where, message, "Give it, in GB for all workers."))
    policy = server.flag("eviction-policy")
    if policy is None and not managed:
        found.append(Finding("missing-key", _ERROR, where, "--eviction-policy is not there.", "Write LRU."))
    elif policy is not None:
        found += _policy(policy, release, where)
        if policy == "noop":
            message = "Nothing is ever evicted from memory: once it is full, nothing new is kept."
            found.append(Finding("never-evicts", _WARNING, where, message, "Write --eviction-policy LRU."))
    found += _chunk(server.flag("chunk-size"), server, where, machine, "--chunk-size")
    for at, text in enumerate(server.flags.get("l2-adapter", ())):
        place = f"{where}: --l2-adapter {at + 1}"
        try:
            adapter = json.loads(text)
        except ValueError as error:
            found.append(Finding("unreadable", _ERROR, place, f"It is no JSON: {error}.", "Mind the quotes."))
            continue
        if isinstance(adapter, Mapping) and adapter.get("type"):
            tiers += _adapter(adapter, place, release, server, found)
        else:
            found.append(Finding("missing-key", _ERROR, place, "It has no type.", 'Write {"type": "fs_native", …}.'))
    return found, tiers


def _policy(policy: str, release: Version, where: str) -> list[Finding]:
    refused = "It does not start."
    return check_names([policy], keys.SERVER_POLICIES, release, where, "LMCache", unknown=_ERROR, refused=refused)


def _chunk(value: object, server: Server, where: str, machine: Machine, name: str) -> list[Finding]:
    """vLLM's side refuses chunks that are no multiple of its blocks."""
    block = machine.block_tokens or server.count("block-size", 0)
    chunk = number(value)
    if value is None or not block or (chunk is not None and chunk > 0 and chunk % block == 0):
        return []
    message = f"{name} {value} is no multiple of the GPU's block of {block} tokens."
    return [Finding("block-size", _ERROR, where, message, f"Write {int(-(-(chunk or 1) // block)) * block}.")]


def _adapter(
    adapter: Mapping[str, Any], where: str, release: Version, server: Server, found: list[Finding]
) -> list[Tier]:
    kind, eviction = str(adapter["type"]), adapter.get("eviction")
    cap, folder = number(adapter.get("max_capacity_gb")) or 0.0, str(adapter.get("base_path") or "")
    if kind in keys.ADAPTERS:
        known = (*keys.OF_EVERY_ADAPTER, *keys.ADAPTERS[kind])
        for key in adapter.keys() - set(known) - {"max_capacity_gb"}:
            fix = nearest(key, known) or "Take it out."
            found.append(Finding("unknown-key", _WARNING, where, f"{kind} knows no {key!r}. It is not read.", fix))
        if not folder:
            found.append(Finding("missing-key", _ERROR, where, "base_path is not there.", "Name a folder."))
    if isinstance(eviction, Mapping):
        found += _eviction(eviction, release, where)
    evicts = (
        isinstance(eviction, Mapping) and eviction.get("eviction_policy") != "noop" and release >= keys.EVICTION_SINCE
    )
    found += _cap(kind, cap, evicts, release, where)
    held = int(cap * _GB) if cap and evicts and kind != "fs" else None
    return [Tier(where, "disk", held, folder, server.volume(folder))] if folder else []


def _cap(kind: str, cap: float, evicts: bool, release: Version, where: str) -> list[Finding]:
    """Whether what is written there is bounded."""
    block = '"eviction": {"eviction_policy": "LRU", "trigger_watermark": 0.8, "eviction_ratio": 0.2}'
    if kind in keys.ALWAYS_BOUNDED:
        return []
    if kind == "fs" and (cap or evicts):
        message = "The adapter fs has no capacity and deletes nothing, whatever is written there."
        return [
            Finding("cap-not-enforced", _ERROR, where, message, "Take fs_native with max_capacity_gb and eviction.")
        ]
    if cap and not evicts:
        message = f"max_capacity_gb {cap:g} is only counted: without eviction nothing is deleted (LMCache#4725)."
        fix = f"Add {block}." if release >= keys.EVICTION_SINCE else "Take LMCache 0.4.3 or later, which can evict."
        return [Finding("cap-not-enforced", _ERROR, where, message, fix)]
    if evicts and not cap:
        message = "Eviction does not begin: there is no capacity to compare with."
        return [Finding("cap-not-enforced", _ERROR, where, message, "Add max_capacity_gb.")]
    if kind in keys.ADAPTERS and not cap:
        message = f"{kind} has no cap: its folder grows until the disk is full."
        return [Finding("no-cap", _WARNING, where, message, f"Take fs_native with max_capacity_gb and {block}.")]
    if kind in keys.ADAPTERS:
        message = "After a restart the files of the last run are served, but not counted against max_capacity_gb."
        return [Finding("cap-forgets", _NOTE, where, message, "Empty the folder before each start.")]
    return []


def _eviction(eviction: Mapping[str, Any], release: Version, where: str) -> list[Finding]:
    found = _policy(str(eviction.get("eviction_policy")), release, where)
    for name in ("trigger_watermark", "eviction_ratio"):
        value = number(eviction.get(name, 0.5))
        if value is None or not 0 < value <= 1:
            fix = "Write a ratio above 0, up to 1."
            found.append(Finding("wrong-value", _ERROR, where, f"{name} {eviction[name]!r} is no ratio.", fix))
    for key in eviction.keys() - set(keys.EVICTION_KEYS):
        fix = nearest(key, keys.EVICTION_KEYS) or "Take it out."
        found.append(Finding("unknown-key", _WARNING, where, f"eviction knows no {key!r}. It is not read.", fix))
    return found
