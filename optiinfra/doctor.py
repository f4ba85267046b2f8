"""The doctor: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from contracts.errors import OptiInfraError
from optiinfra import doctor_acting
from optiinfra.finding import Finding, Grade
from optiinfra.settings import Settings, masked
from optiinfra.statedir import StateDir

LEAST_FREE_BYTES = 1_000_000_000
CONNECT_WITHIN_S = 3.0


def examine(settings: Settings) -> list[Finding]:
    """Look at everything. Slow only where a network does not answer."""
    return [finding for look in _LOOKS for finding in look(settings)]


def _python(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("python", Grade.OK if good else Grade.BROKEN, version, "" if good else "Use Python 3.11 or 3.12.")


def _kafka(settings: Settings) -> Iterator[Finding]:
    from streams.brokers import admin, embedded

    if settings.kafka:
        answers = admin.reachable(settings.kafka, timeout_s=CONNECT_WITHIN_S)
        fix = "" if answers else "Start it, correct OPTIINFRA_KAFKA, or unset it to use the embedded broker."
        detail = f"{settings.kafka} {'answers' if answers else 'does not answer'}"
        yield Finding("kafka", Grade.OK if answers else Grade.BROKEN, detail, fix)
    else:
        try:
            yield Finding("kafka", Grade.OK, f"embedded, in memory ({Path(embedded.find_library()).name})")
        except OptiInfraError as error:
            yield Finding("kafka", Grade.BROKEN, error.message, error.fix)
    tools = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if tools:
        fix = "apt install openjdk-17-jre-headless maven, or set OPTIINFRA_KAFKA."
        yield Finding("make kafka", Grade.MISSING, f"needs {' and '.join(tools)}", fix)
    else:
        yield Finding("make kafka", Grade.OK, "java and mvn are here")


def _redis(settings: Settings) -> Iterator[Finding]:
    from optiinfra.redis_child import RedisKind, find_redis

    try:
        plan = find_redis(settings.redis)
    except OptiInfraError as error:
        yield Finding("redis", Grade.BROKEN, error.message, error.fix)
        return
    if plan.kind is RedisKind.EXTERNAL:
        found = _connects("redis", plan.url, 6379)
        yield found
        if found.grade is Grade.OK:
            yield from doctor_acting.external_redis(plan.url)
    else:
        nothing = plan.kind is RedisKind.NONE
        fix = "apt install redis-server, or pip install 'optiinfra[redis]'." if nothing else ""
        yield Finding("redis", Grade.MISSING if nothing else Grade.OK, plan.describe(), fix)


def _store(settings: Settings) -> Iterator[Finding]:
    from optiinfra.plan import chdb_installed

    if settings.clickhouse:
        yield _connects("store", settings.clickhouse, 8123)
    elif chdb_installed():
        yield Finding("store", Grade.OK, "embedded (chDB)")
    else:
        yield Finding(
            "store",
            Grade.MISSING,
            "no store: SLIs are shown and not kept",
            "pip install 'optiinfra[store]', or set OPTIINFRA_CLICKHOUSE.",
        )


def _connects(name: str, url: str, default_port: int) -> Finding:
    shown, fix = masked(url), "Start it, or correct the address."
    try:
        parts = urlsplit(url)
        place = (parts.hostname or "localhost", parts.port or default_port)
    except ValueError:  # its words quote the address
        return Finding(name, Grade.BROKEN, f"{shown} is not an address", fix)
    try:
        with socket.create_connection(place, timeout=CONNECT_WITHIN_S):
            return Finding(name, Grade.OK, f"{shown} answers")
    except (OSError, ValueError) as error:  # a host name that cannot be encoded is a ValueError
        return Finding(
            name,
            Grade.BROKEN,
            f"{shown}: {(isinstance(error, OSError) and error.strerror) or type(error).__name__}",
            fix,
        )


def _port(settings: Settings) -> Iterator[Finding]:
    running = StateDir(settings.state).run_info()
    if running is not None and running.health_url.endswith(f":{settings.health_port}"):
        yield Finding("health port", Grade.OK, f"{settings.health_port}, held by the running optiinfra")
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", settings.health_port))
    except OSError as error:
        fix = f"Use --port {settings.health_port + 1}, or end what listens there."
        yield Finding("health port", Grade.BROKEN, f"{settings.health_port}: {error.strerror}", fix)
    else:
        yield Finding("health port", Grade.OK, f"{settings.health_port} is free")


def _state(settings: Settings) -> Iterator[Finding]:
    state = StateDir(settings.state)
    place = next(parent for parent in (state.path, *state.path.parents) if parent.exists())
    try:
        free = shutil.disk_usage(place).free
        if place == state.path:
            state.sub("logs")
        writable = _writable(place)
    except OptiInfraError as error:
        yield Finding("state directory", Grade.BROKEN, str(error), error.fix)
        return
    detail = f"{state.path}, {free / 1e9:.1f} GB free"
    if not writable:
        yield Finding("state directory", Grade.BROKEN, f"{place} is not writable", "Choose another with --state DIR.")
    elif free < LEAST_FREE_BYTES:
        yield Finding("state directory", Grade.BROKEN, detail, "Free some space, or use --state DIR elsewhere.")
    else:
        yield Finding("state directory", Grade.OK, detail)


def _writable(place: Path) -> bool:
    import os

    return os.access(place, os.W_OK | os.X_OK)


def _targets(settings: Settings) -> Iterator[Finding]:
    from optiinfra.wiring import count_targets

    for path in settings.targets:
        try:
            count = count_targets((path,))
        except OptiInfraError as error:
            yield Finding(f"targets {path}", Grade.BROKEN, str(error), error.fix)
        else:
            yield Finding(f"targets {path}", Grade.OK, f"{count} servers")
    if not settings.targets:
        yield Finding("targets", Grade.OK, "none given: a simulated fleet")


_LOOKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _kafka,
    _redis,
    _store,
    _port,
    _state,
    _targets,
    doctor_acting.rules,
    doctor_acting.reviewer,
)
