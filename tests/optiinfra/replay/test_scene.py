"""The simulated fleet: its queue against single requests, its bill, and replicas that come and go."""

from __future__ import annotations

import gzip
import json
from collections import deque
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from optiinfra.replay.bill import cost_of
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.prices import Prices
from optiinfra.replay.replicas import Phase
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import NEVER_S, RecordedZone, SteadyZone, Zone, read_zone, read_zones
from tests.optiinfra.replay.loads import options


def scene(arrived: list[int], initial: int = 2, zone: Zone | None = None, **changes: Any) -> Scene:
    told: PipelineOptions = options(**changes)
    cloud = cloud_of(told, {"a": zone or SteadyZone()}, None, None)
    return Scene(arrived, told, cloud, initial)


def one_by_one(arrived: list[int], ready: list[int], capacity: int) -> list[int]:
    """How many whole seconds each request waited that began service within the trace: one after the other."""
    queue: deque[int] = deque()
    waits = []
    for second, (came, many) in enumerate(zip(arrived, ready, strict=True)):
        queue.extend([second] * came)
        for _ in range(min(len(queue), many * capacity)):
            waits.append(second - queue.popleft())
    return waits


@given(
    arrived=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    initial=st.integers(1, 3),
    orders=st.dictionaries(st.integers(0, 59), st.integers(1, 2), max_size=3),
    cuts=st.sets(st.integers(1, 59), max_size=6),
)
def test_the_fluid_serves_whom_a_queue_of_single_requests_serves(
    arrived: list[int], initial: int, orders: dict[int, int], cuts: set[int]
) -> None:
    """A capacity in whole requests leaves no fractions: then both must agree exactly, wherever the time is cut."""
    end = len(arrived)
    fleet = scene(arrived, initial, startup_s=7)
    for stop in sorted({*cuts, *orders, end}):
        if stop <= end:
            fleet.advance(stop)
        for _ in range(orders.get(stop, 0) if stop < end else 0):
            fleet.add()
    ready = [initial + sum(n for at, n in orders.items() if at < end and second >= at + 7) for second in range(end)]
    waits = one_by_one(arrived, ready, 4)
    edges = fleet.options.ttft_edges_s
    expected = [sum(wait + 0.3 <= edge for wait in waits) for edge in edges]
    assert list(accumulate(fleet.buckets))[:-1] == expected
    assert fleet.served == len(waits)
    assert fleet.ttft_sum_s == pytest.approx(sum(waits) + 0.3 * len(waits))
    # Late are those who waited two seconds, and those who wait in vain when the trace ends and came before its last.
    unserved = sum(max(0, n) for n in _left_over(arrived, waits)[: end - 1])
    assert fleet.late(0, end) == sum(wait >= 2 for wait in waits) + unserved


def _left_over(arrived: list[int], waits: list[int]) -> list[int]:
    """How many of each second's arrivals were never served: the last ones, since the first come first."""
    served, left = len(waits), []
    for came in arrived:
        took = min(came, served)
        served -= took
        left.append(came - took)
    return left


def test_a_replica_is_billed_from_its_order_until_it_is_removed() -> None:
    fleet = scene([0] * 200, 1, startup_s=60, drain_s=30)
    fleet.advance(10)
    name = fleet.add().name
    fleet.advance(69)
    assert fleet.names(Phase.STARTING) == (name,)
    fleet.advance(70)
    assert fleet.names(Phase.SERVING) == ("chat-0", name)
    fleet.drain(name)
    fleet.advance(99)
    assert not fleet.drained(fleet.replica(name))
    fleet.advance(100)
    assert fleet.drained(fleet.replica(name))
    fleet.advance(120)
    fleet.remove(name)
    fleet.advance(200)
    assert cost_of(fleet).replica_s == 200 + 110
    assert cost_of(fleet).usd == pytest.approx(310 / 3600 * Prices().on_demand_usd_per_h)


def test_only_the_scored_span_is_billed_and_judged() -> None:
    fleet = scene([100] * 10 + [0] * 90, 1, scored_from_s=50)
    fleet.advance(100)
    cost = cost_of(fleet)
    assert (cost.replica_s, cost.requests, cost.late, cost.attainment_ratio) == (50, 0, 0.0, 1.0)


def test_a_retiring_replica_goes_as_soon_as_it_is_empty_and_at_once_if_it_never_served() -> None:
    fleet = scene([0] * 100, 2, startup_s=60, drain_s=30)
    starting = fleet.add().name
    fleet.retire(starting)
    assert fleet.replica(starting).phase is Phase.GONE
    fleet.retire("chat-1")
    fleet.advance(29)
    assert fleet.names(Phase.DRAINING) == ("chat-1",)
    fleet.advance(30)
    assert fleet.replica("chat-1").phase is Phase.GONE
    fleet.advance(100)
    assert cost_of(fleet).replica_s == 100 + 30


def test_a_lost_zone_takes_all_spot_replicas_and_what_they_had_in_service() -> None:
    fleet = scene(
        [8] * 40, 4, RecordedZone(10, (1, 1, 0, 1)), spot_ratio=0.5, spot_notice_s=5, service_s=5, startup_s=60
    )
    assert sum(each.spot for each in fleet.present) == 2
    fleet.advance(20)
    assert [each.spot for each in fleet.present] == [False, False]
    assert fleet.losses == [(20, 2)]
    assert fleet.interrupted == pytest.approx(8 * 5 / 2)
    fleet.advance(25)
    fleet.add()
    fleet.add()
    assert not any(each.spot for each in fleet.present), "there is no spot capacity to be had"
    fleet.advance(30)
    fleet.add()
    assert sum(each.spot for each in fleet.present) == 1, "and once there is, the share is made up"


def test_a_recorded_zone_knows_its_losses() -> None:
    zone = RecordedZone(195, (0, 1, 1, 0, 1, 0))
    assert [zone.available(s) for s in (0, 194, 195, 584, 585, 10_000)] == [False, False, True, True, False, False]
    assert [zone.next_loss_s(s) for s in (0, 584, 585, 975)] == [585, 585, 975, NEVER_S]
    assert [zone.lost_at(s) for s in (584, 585, 586, 975)] == [False, True, False, True]


@pytest.mark.parametrize("packed", [True, False])
def test_a_zone_is_read_from_a_file(tmp_path: Path, packed: bool) -> None:
    raw = json.dumps({"metadata": {"gap_seconds": 195, "more": 1}, "data": [1, 0, 1]}).encode()
    path = tmp_path / ("zone.json.gz" if packed else "zone.json")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert read_zone(path).next_loss_s(0) == 195


def test_a_folder_holds_a_zone_in_each_file(tmp_path: Path) -> None:
    for name, data in (("b_1.json", "[1]"), ("a.json", "[1, 0]"), ("README.md", "no zone")):
        (tmp_path / name).write_text(f'{{"metadata": {{"gap_seconds": 195}}, "data": {data}}}')
    zones = read_zones(tmp_path)
    assert list(zones) == ["a", "b_1"]
    assert zones["a"].next_loss_s(0) == 195


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("zone.json", b"{}", "no record"),
        ("zone.json", b"\xff", "no record"),
        ("zone.json.gz", b"{}", "cannot be read|no record"),
        ("zone.json", None, "cannot be read"),
        ("zone.json", b'{"metadata": {"gap_seconds": 0}, "data": [1]}', "no record"),
    ],
)
def test_a_file_that_is_no_zone_is_refused(tmp_path: Path, name: str, raw: bytes | None, words: str) -> None:
    path = tmp_path / name
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(ConfigError, match=words):
        read_zone(path)
