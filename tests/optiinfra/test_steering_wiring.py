"""Stage `steering` is told what settings say of engines and promises; of a simulated fleet it is told its flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.performance.core.steering_state import Declared, SteeringSettings
from agents.performance.core.trials import Setting
from contracts.clock import ClockAnchor
from contracts.errors import ConfigError
from optiinfra.orders import ChildOrders
from optiinfra.settings import Settings
from optiinfra.settings_load import load
from optiinfra.wiring.stages import steering_settings

FLAGS = {"max_num_seqs": 256, "max_num_batched_tokens": 8192}


def told(**settings: object) -> SteeringSettings:
    blob = Settings.from_blob(settings).model_dump(mode="json")
    anchor = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0)
    return steering_settings(ChildOrders(settings=blob, anchor=anchor, state_dir=Path(), parent_pid=1))


def test_of_your_own_servers_only_those_that_are_named_are_known() -> None:
    assert told(targets=("a.json",)).engines == {}
    own = told(targets=("a.json",), engines={"chat": FLAGS | {"tensor_parallel": 2}, "code": FLAGS})
    assert own.engines == {"chat": Setting(256, 8192, 2), "code": Setting(256, 8192, 1)}


def test_a_simulated_fleet_is_known_unless_something_else_is_said_of_it() -> None:
    assert told().engines == {"chat": Setting(64, 512, 4), "code": Setting(64, 512, 4)}
    assert told(engines={"chat": FLAGS}).engines["chat"] == Setting(256, 8192, 1)


def test_what_workloads_promise_is_told() -> None:
    own = told(objectives={"ttft_s": 1.0}, workloads={"chat": {"ttft_s": 2.5}})
    assert (own.objectives_of("chat").ttft_s, own.objectives_of("code").ttft_s) == (2.5, 1.0)


def test_tiers_that_are_there_and_tiers_that_are_declared_are_told() -> None:
    declared = {"kv_offloading_size": 64, "kv_disk_gb": 500}
    own = told(
        targets=("a.json",),
        engines={"chat": FLAGS | {"kv_offloading_size": 32}},
        tiers={"chat": declared, "code": declared | {"warm_s": 60, "watch_s": 300}},
    )
    assert own.engines == {"chat": Setting(256, 8192, 1, 32, 0)}
    assert own.tiers == {"chat": Declared((64, 500), 900, 1800), "code": Declared((64, 500), 60, 300)}


def test_a_disk_without_host_memory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "optiinfra.yaml"
    file.write_text("tiers:\n  chat: {kv_offloading_size: 0, kv_disk_gb: 500}\n")
    with pytest.raises(ConfigError, match="a disk tier is loaded through host memory"):
        load(environ={"OPTIINFRA_CONFIG": str(file)})


def test_engines_that_cannot_be_are_refused_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "optiinfra.yaml"
    file.write_text("engines:\n  chat: {max_num_seqs: 0, max_num_batched_token: 512}\n")
    with pytest.raises(ConfigError) as refused:
        load(environ={"OPTIINFRA_CONFIG": str(file)})
    for part in ("engines.chat.max_num_seqs", "Did you mean 'max_num_batched_tokens'?"):
        assert part in str(refused.value)
