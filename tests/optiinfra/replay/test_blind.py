"""The account of an outage: capacity before, in and after it, and who was served in time."""

from __future__ import annotations

import pytest

from optiinfra.replay.blind import blinded, together
from optiinfra.replay.lateness import late_each, pooled
from optiinfra.replay.options import Outage
from tests.optiinfra.replay.loads import played, steps
from tests.optiinfra.replay.test_scene import scene

OUTAGE = Outage(begin_s=100, end_s=200)


def test_capacity_before_in_and_after_an_outage_is_told() -> None:
    fleet = scene([4] * 4000, 5, startup_s=20)
    fleet.advance(50)
    fleet.retire("chat-4")
    fleet.advance(120)
    fleet.retire("chat-3")
    fleet.retire("chat-2")
    fleet.advance(150)
    fleet.add()
    fleet.advance(4000)
    (told,) = blinded(fleet, [OUTAGE])
    assert (told.serving_before, told.serving_least, told.serving_after) == (4, 2, 3)
    assert (told.removed_blind, told.lost) == (2, 0)
    assert (told.attainment_ratio, told.attainment_hour_after_ratio) == (1.0, 1.0)


def test_attainment_is_of_those_that_came_in_it_and_of_the_hour_after() -> None:
    arrived = [0] * 100 + [8] * 100 + [0] * 3800
    fleet = scene(arrived, 1)
    fleet.advance(len(arrived))
    (told,) = blinded(fleet, [OUTAGE])
    late = late_each(fleet.total, fleet.queue, 100, 200, 2).sum()
    assert told.attainment_ratio == pytest.approx(1 - late / 800)
    assert late > 700
    assert told.attainment_hour_after_ratio is None, "nobody came"
    assert pooled(fleet.total, fleet.queue, [(0, 100), (100, 200)], 2) == told.attainment_ratio
    assert pooled(fleet.total, fleet.queue, [(0, 100)], 2) is None


def test_several_outages_are_taken_together_by_their_requests() -> None:
    fleet = scene([4] * 200 + [12] * 200 + [0] * 100, 2)
    fleet.advance(500)
    told = blinded(fleet, [Outage(begin_s=0, end_s=200), Outage(begin_s=200, end_s=400)])
    during, _ = together(told)
    assert told[0].attainment_ratio == 1.0
    assert told[1].attainment_ratio is not None
    assert during == pytest.approx((800 + 2400 * told[1].attainment_ratio) / 3200)
    assert together([]) == (None, None)


def test_an_outage_after_the_trace_is_left_out_and_one_beyond_its_end_is_cut() -> None:
    fleet = scene([4] * 150, 1)
    fleet.advance(150)
    assert [each.end_s for each in blinded(fleet, [OUTAGE, Outage(begin_s=150, end_s=160)])] == [150]


def test_the_whole_policy_gives_up_nothing_in_an_outage() -> None:
    outage = Outage(begin_s=100, end_s=1000)
    result, _ = played(steps((4, 1500)), scrape_s=5, initial_replicas=10, outages=(outage,))
    (told,) = result.outages
    assert (told.serving_before, told.serving_least, told.serving_after, told.removed_blind) == (10, 10, 10, 0)
    assert (told.attainment_ratio, told.attainment_hour_after_ratio) == (1.0, 1.0)
