"""Which servers to ask: a list in YAML or JSON, or Prometheus `file_sd` files; every fault is named with its place.

A list of our own:   targets: [{url: "http://10.0.0.7:8000", workload: chat, instance: chat-0}]
A file_sd file:      [{targets: ["10.0.0.7:8000"], labels: {workload: chat}}]

`workload` is required, `instance` defaults to the address. file_sd labels `__scheme__` and `__metrics_path__` mean what
they mean to Prometheus; other labels are kept with the target.
Format: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from connectors.vllm.core.schedule import shard_of
from contracts.errors import ConfigError

__all__ = ["Target", "load_targets", "parse_targets", "shard_of"]

MAX_NAME_CHARS = 200
_STATIC_KEYS = ("url", "workload", "instance")
_GROUP_KEYS = ("targets", "labels")
_SHAPES_FIX = (
    "Write `targets: [{url, workload, instance?}]`, or a file_sd list of `{targets: [host:port], labels: {workload}}`."
)


@dataclass(frozen=True, slots=True)
class Target:
    """One server to ask. `instance_id` is unique over all targets; `labels` are further labels of file_sd.

    The query of `url` may hold a secret, so messages and logs say `shown` instead.
    """

    url: str = field(repr=False)
    workload: str
    instance_id: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def shown(self) -> str:
        """The URL without its query: scheme, host, port and path."""
        return self.url.partition("?")[0]


@dataclass(slots=True)
class _Found:
    """Targets and faults of the files read so far, each with its place."""

    targets: list[tuple[Target, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def load_targets(paths: Iterable[str | Path]) -> list[Target]:
    """Read all files. Raises ConfigError with every fault, one a line; two equal entries count as one."""
    found = _Found()
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found.faults.append(f"{path}: cannot be read: {reason}")
            continue
        _parse(text, str(path), found)
    return _checked(found)


def parse_targets(text: str, where: str) -> list[Target]:
    """Read the text of one file. Raises ConfigError with every fault."""
    found = _Found()
    _parse(text, where, found)
    return _checked(found)


def _checked(found: _Found) -> list[Target]:
    targets: dict[str, tuple[Target, str]] = {}
    for target, place in found.targets:
        first, first_place = targets.setdefault(target.instance_id, (target, place))
        if (first.url, first.workload) != (target.url, target.workload):
            found.faults.append(
                f"{place}: instance {target.instance_id!r} is {target.shown} of {target.workload!r} here and"
                f" {first.shown}{' with another query' if first.shown == target.shown != first.url else ''}"
                f" of {first.workload!r} at {first_place}: give them different `instance` names"
            )
    if found.faults:
        raise ConfigError("\n".join(found.faults), fix="Nothing was loaded: correct these places.")
    return [target for target, _ in targets.values()]


def _parse(text: str, file: str, found: _Found) -> None:
    try:
        value, lines = _read(text, file)
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        found.faults.append(
            f"{file}{_place_of(error)}: not {'JSON' if file.endswith('.json') else 'YAML'}: {_problem(error)}"
        )
        return

    def place(*path: str | int) -> str:
        for length in range(len(path), -1, -1):
            if path[:length] in lines:
                return f"{file}:{lines[path[:length]]}"
        return file + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)

    faults = found.faults
    if isinstance(value, list):
        for i, group in enumerate(value):
            _group(group, (i,), place, found)
    elif isinstance(value, dict) and isinstance(value.get("targets"), list):
        faults.extend(_unknown(value, ("targets",), place()))
        for i, item in enumerate(value["targets"]):
            _static(item, ("targets", i), place, found)
    else:
        faults.append(f"{place()}: no list of targets. {_SHAPES_FIX}")


def _static(item: Any, path: tuple[str | int, ...], place: Any, found: _Found) -> None:
    if not isinstance(item, dict):
        found.faults.append(f"{place(*path)}: a target is a mapping with url and workload, not {_short(item)}")
        return
    found.faults.extend(_unknown(item, _STATIC_KEYS, place(*path)))
    _add(item.get("url"), item, {}, place(*path), found)


def _group(group: Any, path: tuple[str | int, ...], place: Any, found: _Found) -> None:
    labels = group.get("labels", {}) if isinstance(group, dict) else None
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list) or not isinstance(labels, dict):
        found.faults.append(f"{place(*path)}: a group is `{{targets: [host:port], labels: {{workload: …}}}}`")
        return
    found.faults.extend(_unknown(group, _GROUP_KEYS, place(*path)))
    if wrong := [str(k) for k, v in labels.items() if not isinstance(v, str) or not isinstance(k, str)]:
        found.faults.append(
            f"{place(*path, 'labels')}: labels are text, put quotes round the value of {', '.join(wrong)}"
        )
        return
    if "workload" not in labels and (close := get_close_matches("workload", labels, 1)):
        found.faults.append(f"{place(*path, 'labels')}: unknown label {close[0]!r}. Did you mean 'workload'?")
        return
    scheme, metrics_path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
    kept = {k: v for k, v in labels.items() if not k.startswith("__") and k not in ("workload", "instance")}
    for i, address in enumerate(group["targets"]):
        where = place(*path, "targets", i)
        if not isinstance(address, str) or not address or set(address) & set("/?#"):
            found.faults.append(
                f"{where}: {_short(address)} is not `host:port`;"
                f" scheme and path go into __scheme__ and __metrics_path__"
            )
            continue
        _add(f"{scheme}://{address}{metrics_path}", labels, kept, where, found)


def _add(url: Any, names: Mapping[str, Any], labels: Mapping[str, str], place: str, found: _Found) -> None:
    """Check one target; every fault of it is kept."""
    before = len(found.faults)
    workload, instance = names.get("workload"), names.get("instance")
    if workload is None:
        found.faults.append(f"{place}: no workload: SLIs are kept by workload, so every target names one")
    for key, name in (("workload", workload), ("instance", instance)):
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS):
            found.faults.append(f"{place}: {key} is text of 1 to {MAX_NAME_CHARS} characters, not {_short(name)}")
    if not isinstance(url, str):
        found.faults.append(f"{place}: no url: write for example url: http://10.0.0.7:8000")
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        reason = "" if "@" in url else f": {error}"  # it may repeat a password
        found.faults.append(f"{place}: {_short(url)} is no URL{reason}")
        return
    if parts.scheme not in ("http", "https"):
        hint = f" Did you mean http://{_without_query(url)}?" if "://" not in url and "@" not in url else ""
        found.faults.append(f"{place}: {_short(url)} does not begin with http:// or https://.{hint}")
    elif parts.username is not None or parts.password is not None:
        found.faults.append(f"{place}: the URL of {host} holds credentials, which would end up in messages and logs")
    elif not host:
        found.faults.append(f"{place}: {_short(url)} names no host")
    if len(found.faults) > before:
        return
    address = f"[{host}]" if host and ":" in host else f"{host}"
    address += f":{port}" if port is not None else ""
    path = parts.path if parts.path not in ("", "/") else "/metrics"
    full = f"{parts.scheme}://{address}{path}" + (f"?{parts.query}" if parts.query else "")
    found.targets.append((Target(full, str(workload), str(instance or address), dict(labels)), place))


def _unknown(value: Mapping[Any, Any], known: Sequence[str], place: str) -> Iterator[str]:
    for key in value:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            yield f"{place}: unknown key {_short(key)}. " + (
                f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            )


_Lines = dict[tuple[str | int, ...], int]


def _read(text: str, file: str) -> tuple[Any, _Lines]:
    """The value, and the line of each of its parts (YAML only: JSON has places instead, as `[0].targets[1]`)."""
    if file.endswith(".json"):
        return json.loads(text), {}
    lines: _Lines = {}
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _number(node, (), lines)
    return yaml.safe_load(text), lines


def _number(node: yaml.Node, path: tuple[str | int, ...], lines: _Lines) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            _number(child, (*path, i), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            _number(child, (*path, str(key.value)), lines)


def _place_of(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f":{error.lineno}"
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return str(error.problem if isinstance(error, yaml.MarkedYAMLError) else error)[:200]


def _short(value: object) -> str:
    """What stands in a file, for a message: short, printable, and nothing of a URL that may be a secret."""
    if isinstance(value, str):
        value = ascii(_without_query(value)) if "@" not in value else "what has an @ (credentials are not shown)"
    elif not isinstance(value, int | float | None):
        value = f"a {type(value).__name__}"
    shown = str(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]
