"""`optiinfra config`: what the settings are, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from optiinfra.commands.common import JsonOption, PortOption, StateOption, loaded, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Settings: flag, then OPTIINFRA_* variable, then optiinfra.yaml.")

_ADDRESSES = ("kafka", "clickhouse", "redis", "alerts.webhook", "review.base_url")
"""Settings that can hold a password."""

_SECRETS = ("alerts.secret", "review.api_key")


@app.callback()
def _group() -> None:
    """Settings: flag, then OPTIINFRA_* variable, then optiinfra.yaml, then default."""


@app.command()
def check(state: StateOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Check all settings, and print each with its origin. Passwords are masked; every mistake is told at once.

    Example: `OPTIINFRA_KAFKA=broker:9092 optiinfra config check`
    """
    found = loaded(state=state, health_port=port)
    rows = [
        (name, _shown(name, value), found.origin(name))
        for name, value in _leaves(found.settings.model_dump(mode="json"))
    ]
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    print_table(("setting", "value", "from"), rows)


def _shown(name: str, value: object) -> object:
    from optiinfra.settings import masked

    if name in _SECRETS:
        return None if value is None else "***"
    gateway = name.startswith("gateways.") and name.endswith(".url")
    return masked(value) if gateway or name in _ADDRESSES else value


def _leaves(tree: Mapping[str, Any], base: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{base}{key}.")
        else:
            yield f"{base}{key}", value
