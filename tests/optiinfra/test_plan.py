"""The plan: which processes run for which settings, and who waits for whom."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.clock import ClockAnchor
from contracts.errors import ConfigError, Unavailable
from contracts.events import Sli
from contracts.laws.histogram import Histogram
from contracts.objectives import Objectives
from optiinfra.orders import ChildOrders
from optiinfra.plan import STAGES, Plan, make_plan
from optiinfra.redis_child import RedisKind, RedisPlan
from optiinfra.settings import Settings, TwinSettings, TwinWorkloadSettings
from optiinfra.statedir import StateDir
from optiinfra.supervisor import start_order
from optiinfra.wiring import endpoint, entry_of, make_stages, settings_of, twin_workloads
from tests.streams.test_slis import part

ANCHOR = ClockAnchor(wall_anchor_ms=1, event_anchor_ms=2, speed=3)
NO_REDIS = RedisPlan(RedisKind.NONE)


def plan(place: Path, redis: RedisPlan = NO_REDIS, **settings: object) -> Plan:
    return make_plan(Settings.from_blob(settings), StateDir(place), ANCHOR, redis, targets=5)


def names(made: Plan) -> list[str]:
    return [spec.name for spec in made.specs]


def test_without_settings_everything_is_embedded_and_says_so(tmp_path: Path) -> None:
    made = plan(tmp_path, RedisPlan(RedisKind.SYSTEM, binary=Path("/usr/bin/redis-server")))
    assert {"broker", "redis", "twin", *STAGES, "scraper", "ticker"} <= set(names(made))
    assert (made.broker, made.fleet) == ("embedded, in memory", "simulated (twin)")


def test_real_parts_are_not_started_and_are_named_without_passwords(tmp_path: Path) -> None:
    made = plan(
        tmp_path,
        RedisPlan(RedisKind.EXTERNAL, url="redis://:hush@cache:6379"),
        kafka="k:9092",
        clickhouse="http://me:hush@ch:8123",
        targets=("a.json",),
    )
    # No executor: nothing here can scale servers of one's own.
    assert set(names(made)) == {"store", "sink", *STAGES, "reviewer", "alerts", "scraper", "ticker"}
    assert made.endpoints["bootstrap"] == "k:9092"
    assert made.endpoints["redis_url"] == "redis://:hush@cache:6379"
    assert int(made.endpoints["store_port"]) > 0
    told = f"{made.broker} {made.store} {made.redis} {made.fleet}"
    assert told == "Apache Kafka at k:9092 ClickHouse at http://***@ch:8123 Redis at cache:6379 5 targets"


def test_where_gateways_are_named_they_are_acted_on_without_a_simulated_fleet(tmp_path: Path) -> None:
    redis = RedisPlan(RedisKind.EXTERNAL, url="redis://cache:6379")
    made = plan(
        tmp_path, redis, targets=("a.json",), gateways={"chat": {"url": "http://router:9000"}}, mode="autonomous"
    )
    executor = next(spec for spec in made.specs if spec.name == "executor")
    assert executor.depends_on == ("broker",)
    assert "twin" not in names(made)
    assert made.acting.startswith("acts: autonomous on the gateways of chat; for replicas it recommends only")
    assert "executor" not in names(
        plan(tmp_path, targets=("a.json",), gateways={"chat": {"url": "http://router:9000"}})
    )


def test_data_flows_only_after_those_who_read_it_stand(tmp_path: Path) -> None:
    order = start_order(plan(tmp_path).specs)
    for stage in STAGES:
        assert order.index("broker") < order.index(stage) < order.index("scraper")
    assert order.index("twin") < order.index("scraper")


def test_all_who_use_the_embedded_broker_fall_with_it_and_nobody_else(tmp_path: Path) -> None:
    falling = {spec.name for spec in plan(tmp_path).specs if spec.falls_with == ("broker",)}
    assert falling - {"sink"} == {*STAGES, "reviewer", "alerts", "scraper", "ticker"}


def test_orders_carry_settings_clock_and_addresses(tmp_path: Path) -> None:
    made = plan(tmp_path, workloads={"chat": Objectives(ttft_s=0.25)})
    spec = next(spec for spec in made.specs if spec.name == "slis")
    orders = ChildOrders.model_validate_json(spec.orders({"bootstrap": "b:1"}))
    assert (orders.anchor, orders.parent_pid, orders.state_dir) == (ANCHOR, os.getpid(), tmp_path)
    assert endpoint(orders, "bootstrap") == "b:1"
    assert settings_of(orders).workloads == {"chat": Objectives(ttft_s=0.25)}
    assert "hush" not in " ".join(spec.argv)
    with pytest.raises(Unavailable):
        endpoint(orders, "store_url")


def test_secrets_do_not_stand_in_argument_lists(tmp_path: Path) -> None:
    redis = RedisPlan(RedisKind.EXTERNAL, url="redis://:hush@r")
    made = plan(tmp_path, redis, clickhouse="http://me:hush@ch:8123")
    assert "hush" not in json.dumps([spec.argv for spec in made.specs])


def test_orders_that_cannot_be_read_are_refused_without_being_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        ChildOrders.model_validate_json('{"settings": {"redis": "redis://:hush@r"}, "parent_pid": "redis://:hush@r"}')
    assert "hush" not in str(caught.value)


def test_every_planned_process_of_ours_has_an_entry(tmp_path: Path) -> None:
    for name in [*names(plan(tmp_path, kafka="k:9092")), "broker"]:
        assert callable(entry_of(name))
    with pytest.raises(ConfigError, match="no process is called"):
        entry_of("stranger")


def test_stages_get_the_objectives_of_the_settings() -> None:
    orders = ChildOrders(
        settings={"workloads": {"chat": {"ttft_s": 0.25}}},
        anchor=ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=1),
        state_dir=Path("state"),
        parent_pid=1,
        endpoints={},
    )
    made = make_stages(orders)
    assert tuple(made) == STAGES
    window = part("chat-0").model_copy(
        update={"histograms": {"ttft_s": Histogram(le=(0.25, 0.5), counts=(1, 3, 4))}, "workload": "chat"}
    )
    _, (sli, *_) = made["slis"].step(None, [window])
    assert isinstance(sli, Sli)
    assert sli.attainment["ttft"].good == 1


def test_twin_settings_change_known_workloads_and_add_new_ones() -> None:
    wanted = {"chat": TwinWorkloadSettings(replicas=7), "batch": TwinWorkloadSettings(requests_per_s=0.5)}
    specs = {spec.name: spec for spec in twin_workloads(Settings(twin=TwinSettings(day_s=600, workloads=wanted)))}
    default = {spec.name: spec for spec in twin_workloads(Settings())}
    assert set(specs) == {*default, "batch"}
    assert specs["chat"].replicas == 7
    assert specs["chat"].load.requests_per_s == default["chat"].load.requests_per_s
    assert specs["batch"].load.requests_per_s == 0.5
    assert {spec.load.day_s for spec in specs.values()} == {600}
