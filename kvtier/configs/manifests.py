"""Reads Kubernetes manifests: every container with its command, environment, replicas, memory limit and volumes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from contracts.errors import ConfigError
from kvtier.configs.commands import Command, command, commands
from kvtier.configs.servers import Server
from kvtier.configs.terms import quantity

_SHELLS = {"sh", "bash", "/bin/sh", "/bin/bash"}


def servers_of(document: Mapping[str, Any], where: str) -> list[Server]:
    """The servers of one document: its containers, wherever a custom resource hides them."""
    name = f"{document.get('kind')}/{_dict(document.get('metadata')).get('name', '')}"
    found: list[Server] = []
    for pod, replicas in _pods(document, 1):
        for container in pod["containers"]:
            if isinstance(container, dict):
                found += _container(container, pod, replicas, f"{where}: {name}", name)
    return found


def _pods(node: Any, replicas: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Every pod template below a node, with the replicas told nearest above it."""
    if isinstance(node, dict):
        told = node.get("replicas")
        replicas = told if isinstance(told, int) and told > 0 else replicas
        if isinstance(node.get("containers"), list):
            yield node, replicas
            return
        for each in node.values():
            yield from _pods(each, replicas)
    elif isinstance(node, list):
        for each in node:
            yield from _pods(each, replicas)


def _container(container: dict[str, Any], pod: dict[str, Any], replicas: int, where: str, owner: str) -> list[Server]:
    where = f"{where}: {container.get('name', 'container')}"
    words = [str(word) for key in ("command", "args") for word in _list(container.get(key))]
    env = {
        str(each["name"]): str(each["value"])
        for each in _list(container.get("env"))
        if isinstance(each, dict) and each.get("name") and each.get("value") is not None
    }
    image = str(container.get("image") or "")
    limit = _dict(_dict(container.get("resources")).get("limits")).get("memory")
    if words and words[0] in _SHELLS and len(words) > 2 and words[1].startswith("-"):
        read = commands(words[2])
    else:
        read = [command(words)]
        if not read[0].program and "vllm-openai" in image:  # the image's own entry point
            read = [Command("vllm", read[0].flags)]
    volumes = _volumes(container, pod, owner)
    tag = re.search(r"\b(ai-dynamo|lmcache|vllm)[\w./-]*:v?(\d+\.\d+(?:\.\d+)?)", image)
    tags = {tag[1].replace("ai-dynamo", "kvbm"): tag[2]} if tag else {}
    return [
        Server(
            where,
            program=each.program,
            flags=each.flags,
            env={**env, **each.env},
            replicas=replicas,
            memory_bytes=None if limit is None else _limit(str(limit), where),
            versions=tags,
            volumes=volumes,
            whole=not container.get("envFrom"),
        )
        for each in read or [Command()]
    ]


def _limit(text: str, where: str) -> int:
    try:
        return quantity(text, where)
    except ConfigError as error:
        raise ValueError(f"{error.message}: resources.limits.memory") from None


def _volumes(container: dict[str, Any], pod: dict[str, Any], owner: str) -> dict[str, str]:
    """What lies behind each mounted folder. Claims and folders of the host can be one for many pods."""
    sources = {str(each.get("name")): _source(each) for each in _list(pod.get("volumes")) if isinstance(each, dict)}
    found: dict[str, str] = {}
    for mount in _list(container.get("volumeMounts")):
        if isinstance(mount, dict):
            source = sources.get(str(mount.get("name"))) or f"private of {owner} {mount.get('name')}"
            found[str(mount.get("mountPath"))] = source + (f"/{mount['subPath']}" if mount.get("subPath") else "")
    return found


def _source(volume: dict[str, Any]) -> str:
    if claim := _dict(volume.get("persistentVolumeClaim")).get("claimName"):
        return f"claim {claim}"
    if path := _dict(volume.get("hostPath")).get("path"):
        return f"host {path}"
    return ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
