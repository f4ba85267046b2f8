"""What the built-in pack promises in a replay, whatever its numbers: bursts are met, slack goes, no step is blind."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optiinfra.replay.account import Deed, PipelineResult
from optiinfra.replay.options import Outage
from tests.optiinfra.replay.loads import BUILT_IN, CAPACITY_RPS, played, steps

SCRAPE_S = 5


def under_the_pack(arrivals: NDArray[np.int64], **changes: Any) -> PipelineResult:
    values: dict[str, Any] = {"rules": BUILT_IN, "scrape_s": SCRAPE_S, "initial_replicas": 8} | changes
    return played(arrivals, **values)[0]


def done(result: PipelineResult, kind: str) -> list[Deed]:
    return [deed for deed in result.deeds if deed.kind == kind and deed.began_s is not None]


def test_a_burst_is_answered_with_capacity_that_is_seen_to_serve_and_users_wait_no_more() -> None:
    result = under_the_pack(steps((24, 600), (40, 900)))
    ups = [deed for deed in done(result, "scale_up") if deed.decided_s >= 600]
    assert ups
    assert ups[0].decided_s < 600 + 60, "within a minute"
    assert ups[0].end_state == "verified"
    last = result.timeline[-1]
    assert last.serving * CAPACITY_RPS >= 40
    assert (last.waiting, last.late_ratio) == (0, 0)


def test_slack_is_given_back_and_users_notice_nothing() -> None:
    result = under_the_pack(steps((4, 2400)), initial_replicas=10)
    downs = done(result, "scale_down")
    assert {deed.end_state for deed in downs} == {"verified"}
    assert result.timeline[-1].serving < 10
    assert result.timeline[-1].serving >= 1
    assert result.cost.attainment_ratio == 1.0


def test_in_an_outage_of_all_scrapes_no_capacity_is_taken() -> None:
    outage = Outage(begin_s=300, end_s=1200)
    blind, seen = (under_the_pack(steps((24, 300), (4, 1500)), outages=each) for each in ((outage,), ()))
    assert any(outage.begin_s + 30 < deed.decided_s < outage.end_s for deed in done(seen, "scale_down"))
    assert not any(outage.begin_s + 30 < deed.decided_s < outage.end_s for deed in done(blind, "scale_down"))
    assert blind.outages[0].removed_blind == 0
    assert done(blind, "scale_down"), "and afterwards it goes on"


def test_on_a_calm_day_no_step_down_hurts_once_replicas_were_full_and_the_fleet_goes_with_the_load() -> None:
    """What a replica bears is not known before it was full; until then a step down may prove to be wrong. One that is
    still on trial when the forecast turns, or when a queue shows, is taken back before users notice."""
    hours = np.arange(9 * 3600) / 3600
    load = np.where(hours < 0.5, 40, 20 - 8 * np.cos(2 * np.pi * (hours - 1) / 8))
    result = under_the_pack(np.random.default_rng(3).poisson(load), scrape_s=15, initial_replicas=6)
    learnt = [deed for deed in result.deeds if deed.decided_s >= 3600]
    undone = [deed.reasons for deed in learnt if deed.end_state != "verified"]
    assert set(undone) <= {("preempted",), ("guard_broken",)}
    assert len(undone) <= 0.1 * len(learnt)
    kinds = [deed.kind for deed in learnt if deed.began_s is not None]
    assert {"scale_up", "scale_down"} == set(kinds)
    assert sum(was != now for was, now in pairwise(kinds)) < 16, "48 turns a day"
    noon, night = (next(point for point in result.timeline if point.at_s == hour * 3600) for hour in (5, 9))
    assert noon.serving > night.serving
    assert max(point.late_ratio for point in result.timeline if point.at_s > 3600) < 0.02
