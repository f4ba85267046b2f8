"""Checks what vLLM is started with: --kv-transfer-config, its connector, and the flags about offloading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kvtier.configs import vllm_keys as vllm
from kvtier.configs.check_kvbm import check_kvbm
from kvtier.configs.check_lmcache import check_engine
from kvtier.configs.keys import check_names
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Machine, Severity, Tier, Version, number, said
from kvtier.configs.vllm_offload import Checked, check_offloading, check_simple, keeps_over_restarts

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_ROLES = ("kv_producer", "kv_consumer", "kv_both")
_IN_LMCACHE = "lmcache."


def check_vllm(server: Server, machine: Machine) -> Checked:
    """Everything of one vLLM server."""
    release = machine.version("vllm", server.versions)
    found, tiers = _flags(server, release)
    config: Any = server.transfer
    if (text := server.flag("kv-transfer-config")) is not None:
        try:
            config = json.loads(text)
        except ValueError as error:
            config, fix = None, "Mind the quotes: '{\"kv_connector\": …}'."
            said_ = f"--kv-transfer-config is no JSON: {error}."
            found.append(Finding("unreadable", _ERROR, server.where, said_, fix))
    if isinstance(config, Mapping):
        more, its = _transfer(config, server, server.where, release, machine)
        return found + more, tiers + its
    if config is not None:
        message = "--kv-transfer-config is no JSON object."
        found.append(Finding("unreadable", _ERROR, server.where, message, 'Write {"kv_connector": …}.'))
    elif server.flag("kv-offloading-size") is not None and server.flag("kv-offloading-backend") != "lmcache":
        more, its = check_offloading({}, server, server.where, release, machine)
        return found + (more if release >= vllm.NATIVE_STARTS else []), tiers + its
    return found, tiers


def _flags(server: Server, release: Version) -> Checked:
    where, found, tiers = server.where, [], []
    ours = [flag for flag in server.flags if flag.startswith("kv-")]
    found += check_names(ours, vllm.FLAGS, release, where, "vLLM", unknown=_ERROR, refused="It does not start.")
    if "swap-space" in server.flags:
        if release >= vllm.SWAP_GONE:
            message = f"--swap-space is gone since vLLM {said(vllm.SWAP_GONE)}."
            found.append(Finding("not-in-version", _ERROR, where, message, "Give --kv-offloading-size instead."))
        else:
            message = "--swap-space does nothing since vLLM's V1 engine."
            found.append(Finding("deprecated-key", _WARNING, where, message, "Offload with OffloadingConnector."))
    gib, backend = server.flag("kv-offloading-size"), server.flag("kv-offloading-backend")
    if backend is not None and gib is None:
        fix = "Add --kv-offloading-size, in GiB."
        found.append(Finding("no-effect", _WARNING, where, "A backend without a size offloads nothing.", fix))
    elif gib is not None and not (number(gib) or 0) > 0:
        found.append(Finding("wrong-value", _ERROR, where, f"--kv-offloading-size {gib!r} is no GiB.", "Write 64."))
    elif gib is not None and backend == "lmcache" and release >= vllm.LMCACHE_SIZE_READ_UNTIL:
        message = "--kv-offloading-size is not read with the backend lmcache: its server has its own size."
        found.append(Finding("size-ignored", _WARNING, where, message, "Give `lmcache server --l1-size-gb`."))
    elif gib is not None and backend == "lmcache":
        tiers.append(Tier(where, "memory", int((number(gib) or 0) * 2**30)))
    elif gib is not None and (0, 12) <= release < vllm.NATIVE_STARTS:
        message = f"--kv-offloading-size does not start before vLLM {said(vllm.NATIVE_STARTS)}."
        fix = "Give --kv-transfer-config with OffloadingConnector and num_cpu_blocks."
        found.append(Finding("not-in-version", _ERROR, where, message, fix))
    weights = number(server.flag("cpu-offload-gb"))
    if weights:
        tiers.append(Tier(where, "memory", int(weights * 2**30) * server.workers, of_kv=False))
    return found, tiers


def _transfer(config: Mapping[str, Any], server: Server, where: str, release: Version, machine: Machine) -> Checked:
    strict = release >= vllm.STRICT
    found = check_names(
        config,
        vllm.TRANSFER,
        release,
        where,
        "vLLM",
        unknown=_ERROR if strict else _WARNING,
        refused="It does not start." if strict else "It is not read.",
    )
    connector, role = config.get("kv_connector"), config.get("kv_role")
    if not connector:
        found.append(Finding("missing-key", _ERROR, where, "kv_connector is not there.", "Name a connector."))
        return found, []
    if role not in _ROLES:
        fix = f"One of {', '.join(_ROLES)}."
        found.append(Finding("missing-key", _ERROR, where, f"kv_role {role!r} does not start.", fix))
    if "kv_connector_module_path" not in config:
        refused = "It does not start."
        found += check_names([str(connector)], vllm.CONNECTORS, release, where, "vLLM", unknown=_ERROR, refused=refused)
    extra = config.get("kv_connector_extra_config", {})
    if not isinstance(extra, Mapping):
        fix = "Write {…}."
        found.append(Finding("wrong-value", _ERROR, where, "kv_connector_extra_config is an object.", fix))
        return found, []
    more, tiers = _connector(str(connector), extra, server, where, release, machine)
    return found + more + _load_failures(config, extra, where, release) + _seed(extra, server, where, release), tiers


def _connector(
    connector: str, extra: Mapping[str, Any], server: Server, where: str, release: Version, machine: Machine
) -> Checked:
    if connector == "OffloadingConnector":
        return check_offloading(extra, server, where, release, machine)
    if connector == "SimpleCPUOffloadConnector":
        return check_simple(extra, server, where, release)
    if connector == "DynamoConnector":
        return check_kvbm(server, machine)
    if connector == "LMCacheConnectorV1":
        told = {key[len(_IN_LMCACHE) :]: value for key, value in extra.items() if key.startswith(_IN_LMCACHE)}
        return check_engine(told, server, where, machine) if told else ([], [])
    if connector == "MultiConnector":
        found: list[Finding] = []
        tiers: list[Tier] = []
        children = extra.get("connectors")
        for at, child in enumerate(children if isinstance(children, list) else ()):
            if isinstance(child, Mapping):
                more, its = _transfer(child, server, f"{where}: connectors[{at}]", release, machine)
                found, tiers = found + more, tiers + its
        return found, tiers
    return [], []


def _load_failures(config: Mapping[str, Any], extra: Mapping[str, Any], where: str, release: Version) -> list[Finding]:
    policy = config.get("kv_load_failure_policy", "fail" if release >= vllm.FAILS_BY_DEFAULT else "recompute")
    if policy not in ("fail", "recompute"):
        fix = "Write recompute."
        return [Finding("wrong-value", _ERROR, where, f"No kv_load_failure_policy {policy!r}.", fix)]
    if policy == "recompute" or not extra.get("secondary_tiers"):
        return []
    fix = 'Add "kv_load_failure_policy": "recompute".'
    return [Finding("load-failure", _WARNING, where, "A block that cannot be loaded fails its request.", fix)]


def _seed(extra: Mapping[str, Any], server: Server, where: str, release: Version) -> list[Finding]:
    """Blocks on a disk are found again only where the hashes of a new process are those of the old one."""
    if not keeps_over_restarts(extra) or "PYTHONHASHSEED" in server.env:
        return []
    quick = (server.flag("prefix-caching-hash-algo") or "").startswith("xxhash")
    if release >= vllm.FIXED_SEED and not quick:
        return []
    why = "xxhash seeds each process anew" if release >= vllm.FIXED_SEED else f"vLLM {said(release)} seeds hashes anew"
    severity = _WARNING if server.whole else _NOTE
    message = f"{why}: no block on the disk is found after a restart, or by another replica."
    return [Finding("hash-seed", severity, where, message, "Set PYTHONHASHSEED=0 in its environment.")]
