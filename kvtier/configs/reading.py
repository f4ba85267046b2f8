"""Reads a file in whatever form it has: shell text, arguments, JSON, an LMCache yaml, an env file or a manifest."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from kvtier.configs.commands import commands
from kvtier.configs.manifests import servers_of
from kvtier.configs.servers import Server
from kvtier.configs.terms import Finding, Severity

_ASSIGNMENT = re.compile(r"(?:export\s+)?[A-Za-z_]\w*=")
_KEY = re.compile(r"[A-Za-z][\w.-]*")
_LMCACHE_ENV, _KVBM_ENV = "LMCACHE_", "DYN_KVBM_"


def read(text: str, where: str) -> tuple[list[Server], list[Finding]]:
    """The servers of a file, and one finding where it cannot be read or says nothing of KV tiers."""
    try:
        servers = _servers(text, where)
    except (ValueError, yaml.YAMLError) as error:
        fix = "Give shell text, JSON, an env file, an LMCache yaml or a Kubernetes manifest."
        said = " ".join(str(error).split())
        return [], [Finding("unreadable", Severity.ERROR, where, f"It cannot be read: {said}.", fix)]
    if not any(map(_speaks, servers)):
        fix = "Name the file with --kv-transfer-config, --l2-adapter, LMCACHE_… or DYN_KVBM_…."
        return [], [Finding("no-settings", Severity.NOTE, where, "It says nothing of KV tiers.", fix)]
    return [server for server in servers if _speaks(server)], []


def _servers(text: str, where: str) -> list[Server]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not lines:
        return []
    if lines[0].startswith("{"):
        return _documents([json.loads(text)], where)
    if all(map(_assignment_alone, lines)):
        return [Server(where, env=_assigned(lines))]
    documents = _yaml(text)
    if documents is not None:
        return _documents(documents, where)
    read = [Server(where, program=each.program, flags=each.flags, env=each.env) for each in commands(text)]
    if not read:
        list(yaml.safe_load_all(text))
        raise ValueError("it is none of the forms known")
    return read


def _assignment_alone(line: str) -> bool:
    """Whether a line gives one variable its value, and starts nothing with it."""
    if not _ASSIGNMENT.match(line):
        return False
    try:
        words = shlex.split(line.removeprefix("export"))
    except ValueError:
        return True
    return not any(word.startswith("-") or _ASSIGNMENT.match(word) for word in words[1:])


def _yaml(text: str) -> list[dict[str, Any]] | None:
    """The documents of a yaml file whose keys are words; None for what is shell text, or neither."""
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError:
        if re.search(r"^(apiVersion|kind):", text, re.MULTILINE):
            raise
        return None
    sound = all(isinstance(each, dict) and all(_KEY.fullmatch(str(key)) for key in each) for each in documents)
    return [{str(key): value for key, value in each.items()} for each in documents] if documents and sound else None


def _documents(documents: list[dict[str, Any]], where: str) -> list[Server]:
    found: list[Server] = []
    for document in documents:
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            found += _documents([each for each in document["items"] if isinstance(each, dict)], where)
        elif document.get("kind") == "ConfigMap":
            found += _config_map(document, where)
        elif "kind" in document and "apiVersion" in document:
            found += servers_of(document, where)
        elif "kv_connector" in document:
            found.append(Server(where, "vllm", transfer=document, whole=False))
        elif any(key.replace("_", "-") in ("kv-transfer-config", "kv-offloading-size") for key in document):
            found.append(Server(where, "vllm", flags=_as_flags(document), whole=False))
        else:
            found.append(Server(where, settings=document, whole=False))
    return found


def _config_map(document: Mapping[str, Any], where: str) -> list[Server]:
    """Files of a ConfigMap that hold settings, and its variables."""
    metadata, held = document.get("metadata"), document.get("data")
    where = f"{where}: ConfigMap/{metadata.get('name', '') if isinstance(metadata, dict) else ''}"
    data = {str(key): str(value) for key, value in held.items()} if isinstance(held, dict) else {}
    env = {key: value for key, value in data.items() if key.startswith((_LMCACHE_ENV, _KVBM_ENV))}
    found = [Server(where, env=env, whole=False)] if env else []
    for key, text in data.items():
        if key not in env and key.endswith((".yaml", ".yml", ".json", ".env", ".sh")):
            found += [server for server in _servers(text, f"{where}/{key}") if _speaks(server)]
    return found


def _as_flags(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """vLLM's own --config file has the names of flags for keys."""
    return {
        str(key).replace("_", "-"): (json.dumps(value) if isinstance(value, dict | list) else str(value),)
        for key, value in document.items()
    }


def _assigned(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.removeprefix("export").strip().partition("=")
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = value[1:-1] if quoted else value
    return found


def _speaks(server: Server) -> bool:
    """Whether there is anything of KV tiers in it."""
    names = ("kv-transfer-config", "kv-offloading-", "l1-size-gb", "l2-adapter", "swap-space")
    return bool(
        server.transfer
        or server.settings
        or server.program == "lmcache"
        or any(flag.startswith(names) for flag in server.flags)
        or any(name.startswith((_LMCACHE_ENV, _KVBM_ENV)) for name in server.env)
    )
