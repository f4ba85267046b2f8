"""Finds the store that `--trace own` and `--trace store:URL` speak of: one that runs, or what a stopped `up` left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from connectors.traces.shape import Load
from contracts.errors import ConfigError
from contracts.ports import Scalar
from optiinfra.replay.own import past
from optiinfra.settings_load import load as settings_load
from optiinfra.statedir import StateDir
from streams.store.client import HttpStore
from streams.store.engine import Engine
from streams.store.queries import resolve
from streams.store.target import Embedded, Target, parse_dsn

OWN, AT = "own", "store:"


def is_own(trace: str) -> bool:
    """Whether a trace is named that OptiInfra itself recorded."""
    return trace == OWN or trace.startswith(AT)


def own(trace: str, workload: str | None, seed: int, state: Path | None) -> Load:
    """The past of a workload. `own`: from the store of the `up` that runs in the state directory, else from the store
    that lies there, else from the ClickHouse server of the settings; `store:URL`: from the store child at that address.

    Raises ConfigError where there is none or it knows nothing, Unavailable where it does not answer, Conflict where
    somebody else has it open.
    """
    if trace.startswith(AT):
        return asyncio.run(_asked(trace.removeprefix(AT), workload, seed))
    settings = settings_load({} if state is None else {"state": state}).settings
    directory = StateDir(settings.state)
    run = directory.run_info()
    if run is not None and run.store_url:
        return asyncio.run(_asked(run.store_url, workload, seed))
    target: Target = parse_dsn(settings.clickhouse) if settings.clickhouse else Embedded(directory.path / "store")
    if isinstance(target, Embedded) and not target.path.is_dir():
        raise ConfigError(
            "no store",
            where=str(directory.path),
            fix="Name the state directory of an `optiinfra up` with --state, or write --trace store:URL.",
        )
    return asyncio.run(_opened(target, workload, seed))


async def _asked(url: str, workload: str | None, seed: int) -> Load:
    async with HttpStore(url) as store:
        return await past(store, workload, seed)


async def _opened(target: Target, workload: str | None, seed: int) -> Load:
    store = _Opened(target)
    try:
        return await past(store, workload, seed)
    finally:
        store.engine.close()


class _Opened:
    """A store that nobody serves, opened here for as long as it is asked."""

    def __init__(self, target: Target) -> None:
        self.engine = Engine(target)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        return self.engine.query(*resolve(name, params))
