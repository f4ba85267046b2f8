"""What settings cannot mean though each of them is well formed: addresses that no client can use, acting on nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.errors import ConfigError
from contracts.events import Mode
from optiinfra.settings import Settings

Place = tuple[str, ...]
"""Where a setting stands: its keys from the top."""


def addresses(settings: Settings, origins: Mapping[Place, str]) -> list[str]:
    """Addresses that their clients could not use; what was written is not repeated, since it can hold a password."""
    from optiinfra.redis_child import find_redis
    from streams.store.target import parse_dsn

    checks: tuple[tuple[str, str | None, Callable[[str], object]], ...] = (
        ("clickhouse", settings.clickhouse, parse_dsn),
        ("redis", settings.redis, find_redis),
    )
    errors: list[str] = []
    for name, address, check in checks:
        try:
            if address is not None:
                check(address)
        except ConfigError as error:
            # A cause is a ValueError of urllib, and quotes what it could not read.
            problem = error.message if error.__cause__ is None else error.message.partition(":")[0]
            errors.append(f"{origins.get((name,), 'settings')}: {name}: {problem}. {error.fix}")
    return errors


def acting(settings: Settings, origins: Mapping[Place, str]) -> list[str]:
    """What cannot be done as it is set: acting on servers that nothing here can scale."""
    errors: list[str] = []
    if settings.targets and settings.mode not in (None, Mode.ADVISORY) and not settings.gateways:
        where = origins.get(("mode",), "settings")
        errors.append(
            f"{where}: mode: {settings.mode} cannot be had with targets of your own: no controller for them is built "
            "in yet. Leave mode out; what the rules find is recommended. Or name the gateways before them (gateways)."
        )
    errors += _gateways(settings, origins)
    if settings.alerts.webhook is not None and settings.alerts.secret is None:
        where = origins.get(("alerts", "webhook"), "settings")
        errors.append(f"{where}: alerts.webhook: a webhook without a secret cannot be trusted. Set alerts.secret.")
    return errors


def _gateways(settings: Settings, origins: Mapping[Place, str]) -> list[str]:
    """Gateways that nobody could ask. What was written is not repeated, since it can hold a password."""
    from connectors.gateway.client import check_url

    errors: list[str] = []
    workloads = _workloads(settings)
    for name, gateway in settings.gateways.items():
        where, what = origins.get(("gateways", name, "url"), "settings"), f"gateways.{name}.url"
        try:
            check_url(gateway.url)
        except ConfigError as error:
            errors.append(f"{where}: {what}: {error.message}. {error.fix}")
        if not settings.targets:
            errors.append(
                f"{where}: {what}: the simulated fleet has a gateway of its own. Leave it out, or set targets."
            )
        elif workloads and name not in workloads:
            names = ", ".join(sorted(workloads)[:10])
            errors.append(
                f"{where}: gateways.{name}: no target has the workload {name!r}, so nothing would be done there. "
                f"Name the gateway as its targets name their workload: {names}."
            )
    return errors


def _workloads(settings: Settings) -> set[str]:
    """Those of all targets; none where they cannot be read, which is told when they are scraped."""
    from connectors.vllm.targets import load_targets

    try:
        return {target.workload for target in load_targets(settings.targets)}
    except ConfigError:
        return set()
