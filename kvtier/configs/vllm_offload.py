"""Checks kv_connector_extra_config of vLLM's own connectors: memory, disk tiers, block sizes and policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvtier.configs import vllm_keys as vllm
from kvtier.configs.keys import check_names
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Machine, Severity, Tier, Version, nearest, number, said, size

Checked = tuple[list[Finding], list[Tier]]
_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SMALLEST = 2**20
"""Fewer bytes than that were meant as gigabytes."""


def check_offloading(
    extra: Mapping[str, Any], server: Server, where: str, release: Version, machine: Machine
) -> Checked:
    """OffloadingConnector, with the memory tier and the secondary tiers that it opens."""
    found: list[Finding] = []
    if "spec_module_path" not in extra:  # a spec of somebody else may read more
        found += check_names(extra, vllm.OFFLOADING, release, where, "vLLM")
    found += _spec(extra, where, release) + _policy(extra, where, release)
    found += _block(extra, where, server, machine)
    count, wrong = _memory(extra, server, where, release, machine)
    tiers = [Tier(where, "memory", count)]
    found += wrong
    for at, tier in enumerate(_tiers(extra)):
        place = f"{where}: secondary_tiers[{at}]"
        if not isinstance(tier, Mapping):
            found.append(Finding("wrong-value", _ERROR, place, "A tier is an object.", 'Write {"type": …}.'))
            continue
        more, its = _tier(tier, place, release, server)
        found, tiers = found + more, tiers + its
    return found, tiers


def check_simple(extra: Mapping[str, Any], server: Server, where: str, release: Version) -> Checked:
    """SimpleCPUOffloadConnector: memory, and a bounded file where its backend is disk."""
    found = check_names(extra, vllm.SIMPLE, release, where, "vLLM")
    per_rank = number(extra.get("cpu_bytes_to_use_per_rank"))
    total = per_rank * server.workers if per_rank else number(extra.get("cpu_bytes_to_use", 8 * 2**30))
    tiers = [Tier(where, "memory", None if total is None else int(total))]
    backend, folder = extra.get("kv_offload_backend", "cpu"), extra.get("disk_path")
    if backend == "disk" and not folder:
        found.append(_missing("disk_path", where, "Name a folder on a local disk."))
    elif backend == "disk":
        cap = number(extra.get("disk_capacity_bytes", 100 * 2**30))
        tiers.append(Tier(where, "disk", int(cap or 0), str(folder), server.volume(str(folder))))
    elif backend != "cpu":
        found.append(Finding("wrong-value", _ERROR, where, f"No backend {backend!r}.", "Write cpu or disk."))
    elif folder:
        fix = 'Add "kv_offload_backend": "disk".'
        found.append(Finding("no-effect", _WARNING, where, "disk_path is not read without its backend.", fix))
    return found, tiers


def keeps_over_restarts(extra: Mapping[str, Any]) -> bool:
    """Whether a tier outlives the process, so that its blocks must be found again."""
    lasting = {"fs", vllm.FS_OLD, "obj", vllm.OURS}
    return any(isinstance(tier, Mapping) and str(tier.get("type")) in lasting for tier in _tiers(extra))


def _tiers(extra: Mapping[str, Any]) -> Sequence[Any]:
    tiers = extra.get("secondary_tiers")
    return tiers if isinstance(tiers, list) else []


def _missing(key: str, where: str, fix: str) -> Finding:
    return Finding("missing-key", _ERROR, where, f"{key} is not there, and must be.", fix)


def _spec(extra: Mapping[str, Any], where: str, release: Version) -> list[Finding]:
    spec = extra.get("spec_name", "CPUOffloadingSpec")
    found: list[Finding] = []
    if "spec_module_path" not in extra:
        found += check_names(
            [str(spec)], vllm.SPECS, release, where, "vLLM", unknown=_ERROR, refused="It does not start."
        )
    if "secondary_tiers" in extra and not isinstance(extra["secondary_tiers"], list):
        fix = 'Write [{"type": …}].'
        found.append(Finding("wrong-value", _ERROR, where, "secondary_tiers is a list.", fix))
    if _tiers(extra) and spec == "CPUOffloadingSpec":
        fix = 'Add "spec_name": "TieringOffloadingSpec".'
        found.append(Finding("tiers-ignored", _ERROR, where, f"{spec} does not open secondary tiers.", fix))
    return found


def _policy(extra: Mapping[str, Any], where: str, release: Version) -> list[Finding]:
    policy = extra.get("eviction_policy", "lru")
    if "cache_policy_module_path" in extra or policy in ("lru", "arc") or release < (0, 12):
        return []
    fix = nearest(str(policy), ("lru", "arc")) or "Write lru or arc."
    return [Finding("wrong-value", _ERROR, where, f"No eviction_policy {policy!r}.", fix)]


def _block(extra: Mapping[str, Any], where: str, server: Server, machine: Machine) -> list[Finding]:
    if "block_size" not in extra:
        return []
    if "blocks_per_chunk" in extra:
        fix = "Leave one of them out."
        return [Finding("block-size", _ERROR, where, "block_size and blocks_per_chunk exclude each other.", fix)]
    told = machine.block_tokens or server.count("block-size", 0)
    block, chunk = told or vllm.DEFAULT_BLOCK_TOKENS, number(extra["block_size"])
    if chunk is not None and chunk >= 1 and chunk % block == 0:
        return []
    message = f"block_size {extra['block_size']} is no multiple of the GPU's block of {block} tokens."
    severity = _ERROR if told or chunk is None else _WARNING
    return [Finding("block-size", severity, where, message, f"Write {int(-(-(chunk or 1) // block)) * block}.")]


def _memory(
    extra: Mapping[str, Any], server: Server, where: str, release: Version, machine: Machine
) -> tuple[int | None, list[Finding]]:
    """Bytes of the memory tier of one replica, and what is wrong with how they are given."""
    flag = server.flag("kv-offloading-size")
    if flag is not None and release >= vllm.NATIVE_STARTS:
        found: list[Finding] = []
        if "cpu_bytes_to_use" in extra:
            message = f"--kv-offloading-size {flag} goes before cpu_bytes_to_use {extra['cpu_bytes_to_use']}."
            found.append(Finding("two-sizes", _WARNING, where, message, "Leave one of them out."))
        gib = number(flag)
        return None if gib is None else int(gib * 2**30), found
    if release < vllm.OFFLOADING["cpu_bytes_to_use"].since:
        blocks = number(extra.get("num_cpu_blocks"))
        if not blocks:
            return None, [_missing("num_cpu_blocks", where, "Give blocks per worker.")]
        block = number(extra.get("block_size")) or machine.block_tokens or vllm.DEFAULT_BLOCK_TOKENS
        return (int(blocks) * machine.kv_bytes(int(block)) if machine.kv_bytes else None), []
    if "cpu_bytes_to_use" not in extra:
        return None, [_missing("cpu_bytes_to_use", where, "Give bytes, over all workers.")]
    count = number(extra["cpu_bytes_to_use"])
    if count is None or count < _SMALLEST:
        message = f"cpu_bytes_to_use is a number of bytes, not {extra['cpu_bytes_to_use']!r}."
        return None, [Finding("wrong-value", _ERROR, where, message, "64 GiB are 68719476736.")]
    return int(count), []


def _tier(tier: Mapping[str, Any], where: str, release: Version, server: Server) -> Checked:
    kind = tier.get("type")
    if not kind or not isinstance(kind, str):
        return [_missing("type", where, f"One of {', '.join(vllm.TIERS)}, or a class with its module_path.")], []
    if kind == vllm.OURS:
        return _ours(tier, where, release, server)
    if kind in vllm.TIERS:
        found = check_names([kind], vllm.TIERS, release, where, "vLLM")
        return (found + _fs(tier, where, release), _disk(tier, where, server, None)) if kind == "fs" else (found, [])
    if "module_path" not in tier:
        refused = "It does not start."
        known = {**vllm.TIERS, vllm.OURS: vllm.TIERS["fs"]}
        return check_names([kind], known, release, where, "vLLM", unknown=_ERROR, refused=refused), []
    return _outside(where, release), []


def _outside(where: str, release: Version) -> list[Finding]:
    if release >= vllm.TIER_OF_ITS_OWN:
        return []
    message = f"A tier's module_path came with vLLM {said(vllm.TIER_OF_ITS_OWN)}; this is {said(release)}."
    return [Finding("not-in-version", _ERROR, where, message, "Take a later vLLM, or the tier 'fs'.")]


def _fs(tier: Mapping[str, Any], where: str, release: Version) -> list[Finding]:
    found = check_names(
        tier, vllm.FS, release, where, "the fs tier", unknown=_ERROR, refused="Its constructor refuses it."
    )
    if not tier.get("root_dir"):
        found.append(_missing("root_dir", where, "Name a folder on a local disk."))
    message = "The fs tier never deletes: its folder grows until the disk is full (vllm#54779)."
    later = "" if release >= vllm.OURS_SINCE else f"vLLM {said(vllm.OURS_SINCE)} or later with "
    fix = f"Take {later}type {vllm.OURS}, which has a cap, or put a quota on the folder and empty it yourself."
    return [*found, Finding("no-cap", _WARNING, where, message, fix)]


def _ours(tier: Mapping[str, Any], where: str, release: Version, server: Server) -> Checked:
    found: list[Finding] = []
    if release < vllm.OURS_SINCE:
        message = f"{vllm.OURS} needs vLLM {said(vllm.OURS_SINCE)} or later; this is {said(release)}."
        found.append(Finding("not-in-version", _ERROR, where, message, "Take a later vLLM, or the tier 'fs'."))
    elif release[:2] != vllm.OURS_RUN_ON:
        message = f"{vllm.OURS} was run on vLLM {said(vllm.OURS_RUN_ON)}, not on {said(release)}."
        found.append(Finding("not-run", _NOTE, where, message, "Try it on one replica first."))
    found += check_names(tier, vllm.OURS_KEYS, release, where, "the tier", unknown=_ERROR, refused="It refuses it.")
    if tier.get("module_path") != vllm.OURS_MODULE:
        found.append(_missing("module_path", where, f'Write "module_path": "{vllm.OURS_MODULE}".'))
    cap = number(tier.get("cap_gb"))
    if not tier.get("root_dir"):
        found.append(_missing("root_dir", where, "Name a folder on a local disk."))
    if cap is None or cap <= 0:
        found.append(_missing("cap_gb", where, "Give a number above 0, in units of 10^9 bytes."))
        return found, []
    return found, _disk(tier, where, server, int(cap * 1e9), alone=True)


def _disk(tier: Mapping[str, Any], where: str, server: Server, cap: int | None, *, alone: bool = False) -> list[Tier]:
    folder = str(tier.get("root_dir") or "")
    return [Tier(where, "disk", cap, folder, server.volume(folder), alone=alone)] if folder else []


def too_small(tier: Tier, least: int, what: str) -> Finding:
    """A memory tier below what it must hold to be of use."""
    message = f"{size(tier.byte_count or 0)} of memory are less than {what}, {size(least)}: no use."
    return Finding("tier-too-small", _WARNING, tier.where, message, "Give more, or leave the tier out.")
