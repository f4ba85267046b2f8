"""In hindsight: whether a replica was needed, told by serving the load of its life once more without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optiinfra.replay.account import Deed, turns_per_day
from optiinfra.replay.hindsight import Past, down_needed, false_positives, judged, past_of, up_needed
from optiinfra.replay.lateness import late_each, queue_of
from optiinfra.replay.replicas import Replica
from optiinfra.replay.scene import Scene
from tests.optiinfra.replay.loads import options, played, steps
from tests.optiinfra.replay.test_scene import scene

CALM, BUSY = [6] * 300, [10] * 300
"""Two replicas of 4 requests a second serve the first in time; the second takes three."""


def ran(arrived: list[int], orders: dict[int, int], initial: int = 2) -> tuple[Scene, list[list[Replica]]]:
    """A scene with replicas added or retired (below 0, the youngest) at these seconds; those of each order."""
    fleet = scene(arrived, initial, startup_s=60)
    touched = []
    for at_s, change in sorted(orders.items()):
        fleet.advance(at_s)
        if change > 0:
            touched.append([fleet.add() for _ in range(change)])
            continue
        names = fleet.last_to_stay()[change:]
        touched.append([fleet.replica(name) for name in names])
        for name in names:
            fleet.retire(name)
    fleet.advance(len(arrived))
    return fleet, touched


def test_a_replica_without_which_requests_had_been_late_was_needed() -> None:
    fleet, (added, _) = ran(CALM + BUSY + CALM, {200: 1, 700: -1})
    assert fleet.late(0, 900) == 0
    assert up_needed(added, past_of(fleet)) is True


def test_a_replica_that_nobody_waited_without_was_not_needed() -> None:
    fleet, (added, removed) = ran(CALM * 3, {10: 1, 800: -1})
    assert added == removed
    assert up_needed(added, past_of(fleet)) is False


def test_the_life_of_a_replica_ends_when_it_is_next_taken_away() -> None:
    """The same load comes, but too late for the first order to have been the right one."""
    fleet, (first, _, second) = ran(CALM + BUSY + CALM, {10: 1, 200: -1, 240: 1})
    assert up_needed(first, past_of(fleet)) is False
    assert up_needed(second, past_of(fleet)) is True


def test_one_that_was_called_off_before_it_served_was_not_needed() -> None:
    fleet = scene(BUSY, 2, startup_s=60)
    added = fleet.add()
    fleet.advance(40)
    fleet.retire(added.name)
    fleet.advance(300)
    assert added.ready_s is None
    assert up_needed([added], past_of(fleet)) is False


def test_what_still_serves_at_the_end_of_the_trace_is_not_judged_unless_it_was_needed() -> None:
    fleet, (added,) = ran(CALM * 3, {10: 1})
    assert up_needed(added, past_of(fleet)) is None
    fleet, (added,) = ran(CALM + BUSY, {200: 1})
    assert up_needed(added, past_of(fleet)) is True


def test_of_two_replicas_of_an_order_one_that_was_needed_is_enough() -> None:
    fleet, (added, _) = ran(CALM + BUSY + CALM, {200: 2, 700: -2})
    past = past_of(fleet)
    assert up_needed(added, past) is True
    assert up_needed(added[1:], past) is False, "with the other there, this one was not"


def test_a_scale_down_that_made_requests_late_and_had_to_be_taken_back_was_wrong() -> None:
    fleet, (removed, _) = ran(CALM + BUSY + CALM + CALM * 3, {250: -1, 400: 1}, initial=3)
    past = past_of(fleet)
    assert fleet.late(0, 1800) > 1
    assert down_needed(removed, [400.0], past) is False
    assert down_needed(removed, [], past) is True, "nobody added any"
    assert down_needed(removed, [250.0 + 60 + 601], past) is True, "not within a start-up and ten minutes"


def test_a_scale_down_was_right_where_what_was_added_after_it_was_not_for_lateness() -> None:
    fleet, (removed, _) = ran(CALM * 6, {250: -1, 400: 1}, initial=3)
    assert down_needed(removed, [400.0], past_of(fleet)) is True


def test_a_scale_down_just_before_the_end_is_not_judged() -> None:
    fleet, (removed,) = ran(CALM, {250: -1}, initial=3)
    assert down_needed(removed, [], past_of(fleet)) is None


@given(
    arrived=st.lists(st.integers(0, 20), min_size=1, max_size=80),
    initial=st.integers(1, 4),
    orders=st.dictionaries(st.integers(0, 79), st.integers(1, 3), max_size=3),
)
def test_serving_it_once_more_with_the_same_replicas_changes_nothing(
    arrived: list[int], initial: int, orders: dict[int, int]
) -> None:
    fleet, _ = ran(arrived, {at_s: many for at_s, many in orders.items() if at_s < len(arrived)}, initial)
    past = past_of(fleet)
    capacity = (past.serving * past.capacity_rps).astype(np.float64)
    assert queue_of(past.arrived, capacity, 0.0) == pytest.approx(past.queue, abs=1e-6)
    assert past.later(0, len(arrived), np.zeros(len(arrived) + 2, dtype=np.int64)) == pytest.approx(0.0, abs=1e-6)
    late = late_each(past.total, past.queue, 0, max(0, len(arrived) - 1), past.late_after_s)
    assert late.sum() == pytest.approx(fleet.late(0, len(arrived)))


@given(
    arrived=st.lists(st.integers(0, 20), min_size=5, max_size=80),
    waiting=st.floats(0, 30),
    capacity=st.integers(1, 12),
)
def test_the_queue_is_that_of_going_second_by_second(arrived: list[int], waiting: float, capacity: int) -> None:
    found, left = [waiting], waiting
    for came in arrived:
        left = max(0.0, left + came - capacity)
        found.append(left)
    told = queue_of(np.array(arrived, dtype=np.int64), np.full(len(arrived), float(capacity)), waiting)
    assert told == pytest.approx(found, abs=1e-9)


def deed(**changes: object) -> Deed:
    told = {"action_id": "1", "rule": "r", "kind": "scale_up", "replicas": 1, "decided_s": 0.0, "began_s": 0.0}
    return Deed.model_validate(told | changes)


def test_false_positives_are_those_undone_or_not_needed_of_all_that_did_something() -> None:
    deeds = [
        deed(needed=True, end_state="verified"),
        deed(needed=False, end_state="verified"),
        deed(needed=True, end_state="undone"),
        deed(needed=False, end_state="undone"),
        deed(needed=None),
        deed(began_s=None, end_state="refused"),
    ]
    assert false_positives(deeds) == (3, 3 / 5)
    assert false_positives([]) == (0, 0.0)


def test_what_did_nothing_is_not_judged() -> None:
    fleet, _ = ran(CALM, {})
    (told,) = judged([deed(began_s=None)], past_of(fleet), lambda action_id, steps: ())
    assert told.needed is None


@pytest.mark.parametrize("kind", ["tune", "route"])
def test_what_changed_no_number_of_replicas_is_not_judged(kind: str) -> None:
    fleet, _ = ran(CALM, {})
    (told,) = judged([deed(kind=kind)], past_of(fleet), lambda action_id, steps: ())
    assert told.needed is None


@pytest.mark.parametrize(("between", "turns"), [("tune", 1), ("route", 1), ("scale_up", 1), ("scale_down", 1)])
def test_settings_and_shares_are_no_turns(between: str, turns: int) -> None:
    kinds = ("scale_up", between, "scale_down")
    deeds = [deed(kind=kind, decided_s=60.0 * n) for n, kind in enumerate(kinds)]
    assert turns_per_day(deeds, 0, 86_400) == turns


def test_every_action_of_the_whole_policy_is_judged_by_its_own_replicas() -> None:
    """A burst that needs what is added for it, then quiet in which nothing is needed that was not before."""
    result, _ = played(steps((24, 300), (40, 900), (24, 300)), scrape_s=5, initial_replicas=8)
    ups = [each for each in result.deeds if each.kind == "scale_up" and each.began_s is not None]
    assert ups[0].needed is True
    assert result.false_positives == sum(each.needed is False for each in result.deeds)
    idle, _ = played(steps((4, 1500)), scrape_s=5, initial_replicas=10)
    assert {each.needed for each in idle.deeds} <= {True, None}
    assert idle.false_positives == 0
    assert isinstance(past_of(scene([1], 1)), Past)
    assert options().startup_s == 60
