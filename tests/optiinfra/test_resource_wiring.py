"""Stage `resource` is told the context windows that settings name; of a simulated fleet it is told its flag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from contracts.clock import ClockAnchor
from optiinfra.orders import ChildOrders
from optiinfra.settings import Settings
from optiinfra.wiring.stages import resource_settings

FLAGS = {"max_num_seqs": 256, "max_num_batched_tokens": 8192}


def windows(**settings: object) -> Mapping[str, int]:
    blob = Settings.from_blob(settings).model_dump(mode="json")
    anchor = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0)
    return resource_settings(ChildOrders(settings=blob, anchor=anchor, state_dir=Path(), parent_pid=1)).context_tokens


def test_of_your_own_servers_only_windows_that_are_named_are_known() -> None:
    engines = {"chat": FLAGS | {"max_model_len": 8192}, "code": FLAGS}
    assert windows(targets=("a.json",), engines=engines) == {"chat": 8192}


def test_of_a_simulated_fleet_they_are_known_unless_something_else_is_said() -> None:
    assert windows() == {"chat": 16_384, "code": 16_384}
    assert windows(engines={"chat": FLAGS | {"max_model_len": 8192}})["chat"] == 8192
