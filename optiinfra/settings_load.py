"""Merging flags, environment and file into settings: who won is remembered, and all mistakes are told at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from contracts.errors import ConfigError
from contracts.laws.attainment import check_threshold
from contracts.objectives import VLLM_EDGES, Latency, Objectives
from optiinfra.settings import DEFAULT_FILE, ENV_PREFIX, Settings
from optiinfra.settings_checks import Place, acting, addresses

FLAGS: dict[Place, str] = {("twin", "seed"): "--seed", ("health_port",): "--port"}
"""Flags whose name is not simply that of their setting."""


_LISTS = tuple(f"{ENV_PREFIX}{name}".lower() for name in ("TARGETS", "RULES"))

OTHERS: dict[Place, str] = {("review", "api_key"): "OPENAI_API_KEY", ("review", "base_url"): "OPENAI_BASE_URL"}
"""Variables that a setting is also read from, since whoever has such a key has set them already."""


@dataclass(frozen=True)
class Loaded:
    """Settings and, by dotted name, where each value that is not a default came from."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None

    def origin(self, name: str) -> str:
        """`flag --speed`, `env OPTIINFRA_KAFKA`, `optiinfra.yaml:3` or `default`."""
        return self.origins.get(name, "default")


def load(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read and check everything. Raises ConfigError with one line for each mistake, each with its place and fix."""
    # What is set to nothing is not set: `OPTIINFRA_STATE=` must not mean the directory one happens to stand in.
    env = {name: text for name, text in (os.environ if environ is None else environ).items() if text}
    file = _config_file(env)
    errors: list[str] = []
    sources: list[tuple[str, dict[str, Any]]] = []
    lines: dict[Place, int] = {}
    if file is not None:
        tree, lines, problems = read_yaml(file)
        errors += problems
        sources.append(("file", tree))
    sources.append(("env", _from_environment(env)))
    sources.append(("flag", {k: v for k, v in (flags or {}).items() if v not in (None, (), [])}))
    merged: dict[str, Any] = {}
    origins: dict[Place, str] = {}
    for kind, tree in sources:
        _merge(merged, tree)
        for place in _leaves(tree):
            origins[place] = _name_origin(kind, place, file, lines, env)
    _inherit(merged, "objectives", "workloads")
    _inherit(merged, "limits", "workload_limits")
    settings: Settings | None = None
    try:
        settings = Settings.from_blob(merged)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            errors.append(_explain(one["type"], tuple(map(str, one["loc"])), one["msg"], origins, file, lines))
    errors += _thresholds(merged, origins)
    if settings is not None:
        errors += [*addresses(settings, origins), *acting(settings, origins)]
    if errors or settings is None:
        raise ConfigError("\n".join(sorted(set(errors), key=_line_of)))
    return Loaded(settings, {".".join(place): origin for place, origin in origins.items()}, file)


def _config_file(env: Mapping[str, str]) -> Path | None:
    named = env.get(f"{ENV_PREFIX}CONFIG")
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    if not Path(named).is_file():
        raise ConfigError(f"no file {named!r}", where=f"{ENV_PREFIX}CONFIG", fix="Name an existing file, or unset it.")
    return Path(named)


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """What `OPTIINFRA_*` says. Variables that are no setting are left alone: Kubernetes injects such names itself.
    Files are written as paths with commas between them, or as a JSON list."""
    lowered = {name.lower(): text for name, text in env.items()}
    for place, other in OTHERS.items():
        if other in env:
            lowered.setdefault(_variable(place).lower(), env[other])
    for name in _LISTS:
        paths = lowered.get(name, "").strip()
        if paths and not paths.startswith("["):
            lowered[name] = json.dumps([path.strip() for path in paths.split(",") if path.strip()])
    try:
        source = EnvSettingsSource(Settings)
        source.env_vars = lowered
        found = dict(source())
    except SettingsError as error:
        raise ConfigError(f"{error}", where="environment", fix="Lists and objects are written as JSON.") from error
    return {k: v for k, v in found.items() if k in Settings.model_fields}


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Place, int], list[str]]:
    """A YAML file as a tree, the line of every key, and what is wrong with its form."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Make it a readable text file.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"not YAML: {problem}", where=where, fix="Mind indents and colons.") from error
    if root is None:
        return {}, {}, []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("a mapping of settings is expected", where=f"{path}:1", fix="See optiinfra config check.")
    lines: dict[Place, int] = {}
    problems: list[str] = []
    _walk(root, (), lines, problems, path)
    return tree, lines, problems


def _walk(node: yaml.MappingNode, base: Place, lines: dict[Place, int], problems: list[str], path: Path) -> None:
    for key, value in node.value:
        place = (*base, str(key.value))
        line = key.start_mark.line + 1
        if place in lines:
            problems.append(f"{path}:{line}: key '{key.value}' again, first on line {lines[place]}. Keep one.")
        lines[place] = line
        if isinstance(value, yaml.MappingNode):
            _walk(value, place, lines, problems, path)


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = _copy(value)


def _copy(value: object) -> object:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _leaves(tree: Mapping[str, Any], base: Place = ()) -> Iterator[Place]:
    for key, value in tree.items():
        place = (*base, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, place)
        else:
            yield place


def _variable(place: Place) -> str:
    return ENV_PREFIX + "__".join(place).upper()


def _name_origin(kind: str, place: Place, file: Path | None, lines: Mapping[Place, int], env: Mapping[str, str]) -> str:
    if kind == "file":
        return f"{file}:{lines[place]}" if place in lines else str(file)
    if kind == "env":
        own = _variable(place)
        return f"env {OTHERS[place]}" if place in OTHERS and own not in env else f"env {own}"
    return f"flag {FLAGS.get(place) or '--' + '-'.join(place).replace('_', '-')}"


def _inherit(merged: dict[str, Any], of_all: str, by_name: str) -> None:
    """For a workload holds what is set for all, save for what it says itself."""
    common, named = merged.get(of_all), merged.get(by_name)
    if isinstance(common, dict) and isinstance(named, dict):
        for name, own in named.items():
            if own is None or isinstance(own, dict):
                named[name] = {**common, **(own or {})}


def _explain(
    kind: str, place: Place, message: str, origins: Mapping[Place, str], file: Path | None, lines: Mapping[Place, int]
) -> str:
    where = _where(place, origins, file, lines)
    if kind != "extra_forbidden":
        return f"{where}: {'.'.join(place)}: {message}."
    known = _fields_at(place[:-1])
    close = get_close_matches(place[-1], known, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'?" if close else f"Known here: {', '.join(known)}."
    return f"{where}: unknown key '{place[-1]}'. {hint}"


def _where(place: Place, origins: Mapping[Place, str], file: Path | None, lines: Mapping[Place, int]) -> str:
    for length in range(len(place), 0, -1):
        part = place[:length]
        if part in origins:
            return origins[part]
        if part in lines:
            return f"{file}:{lines[part]}"
    return "settings"


def _fields_at(place: Place) -> list[str]:
    """The keys that may stand at a place, found by walking the models."""
    model: type[BaseModel] = Settings
    for part in place:
        field = model.model_fields.get(part)
        if field is None:  # a name in a dictionary (a workload): the model below it is known already
            continue
        inner = field.annotation
        args = get_args(inner)
        candidate = args[1] if get_origin(inner) is dict else inner
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            model = candidate
    return list(model.model_fields)


def _thresholds(merged: Mapping[str, Any], origins: Mapping[Place, str]) -> list[str]:
    """Thresholds that are not bucket edges of vLLM, each with the nearest edge."""
    places: list[tuple[Place, object]] = [(("objectives",), merged.get("objectives"))]
    named = merged.get("workloads")
    if isinstance(named, dict):
        places += [(("workloads", str(name)), own) for name, own in named.items()]
    errors: list[str] = []
    for place, own in places:
        if not isinstance(own, dict):
            continue
        for family in Latency:
            field = f"{family.value}_s"
            origin = origins.get((*place, field))
            if origin is None or field not in own or field not in Objectives.model_fields:
                continue
            try:
                check_threshold(VLLM_EDGES[family], float(own[field]), f"{origin}: {'.'.join((*place, field))}")
            except ConfigError as error:
                errors.append(str(error))
            except (TypeError, ValueError):
                continue  # not a number: the model has said so already
    return errors


def _line_of(error: str) -> tuple[str, int]:
    head, _, rest = error.partition(":")
    number = rest.partition(":")[0]
    return (head, int(number) if number.isdigit() else 0)
