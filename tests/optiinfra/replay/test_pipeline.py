"""The whole policy in virtual time: what it does about a burst, slack, an outage, a lost zone, a rule that is off."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ConfigError
from contracts.events import FleetEvent, MetricsSnapshot, Sli
from optiinfra.replay.account import Deed, PipelineResult
from optiinfra.replay.counterfactual import counterfactuals
from optiinfra.replay.options import Outage
from optiinfra.replay.pipeline import SPOT_NOTICE, Surroundings, replay_pipeline
from optiinfra.replay.prices import Prices
from optiinfra.replay.spot import RecordedZone
from tests.optiinfra.replay.loads import CAPACITY_RPS, options, played, steady, steps

BURST = steps((24, 300), (40, 900))
SLACK = steps((4, 1500))
SCRAPE_S = 5


def done(result: PipelineResult, kind: str) -> list[Deed]:
    return [deed for deed in result.deeds if deed.kind == kind and deed.began_s is not None]


def test_a_burst_is_answered_with_capacity_and_the_effect_is_verified() -> None:
    result, _ = played(BURST, scrape_s=SCRAPE_S, initial_replicas=8)
    ups = done(result, "scale_up")
    assert {deed.end_state for deed in ups} == {"verified"}
    assert 300 <= ups[0].decided_s < 420
    # It is seen to answer at the first scrape after its start-up.
    assert ups[0].ended_s is not None
    assert 60 <= ups[0].ended_s - ups[0].decided_s <= 60 + 120
    assert result.timeline[-1].serving > 8
    assert result.timeline[-1].serving == 8 + sum(deed.replicas for deed in ups)
    assert result.dead_letters == 0


def test_slack_is_given_back_step_by_step_and_the_effect_is_verified() -> None:
    result, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10)
    downs = done(result, "scale_down")
    assert [deed.replicas for deed in downs][:2] == [2, 1], "a fifth at a time"
    assert {deed.end_state for deed in downs} == {"verified"}
    assert all(b.decided_s - a.decided_s >= 300 for a, b in pairwise(downs)), "and rests between"
    assert result.cost.replica_s < 10 * len(SLACK)
    assert result.cost.attainment_ratio == 1.0


def test_what_is_billed_is_what_was_there() -> None:
    """Adds are billed from their order on, removals until they are drained and on trial no longer."""
    result, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10, timeline_s=1)
    there = [(0, 10), *((point.at_s, point.billed) for point in result.timeline)]
    billed = sum(many * (next_s - at_s) for (at_s, many), (next_s, _) in pairwise(there))
    assert result.cost.replica_s == billed < 10 * len(SLACK)
    assert result.cost.usd == pytest.approx(result.cost.replica_s / 3600 * Prices().on_demand_usd_per_h)


@pytest.mark.parametrize("entry", ["workload", "replica"])
def test_in_an_outage_of_all_scrapes_no_capacity_is_taken(entry: str) -> None:
    outage = Outage(begin_s=100, end_s=1000)
    result, heard = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10, outages=(outage,), entry=entry)
    during = [point for point in result.timeline if outage.begin_s <= point.at_s <= outage.end_s]
    assert {point.serving for point in during} == {10}
    assert all(deed.decided_s > outage.end_s for deed in done(result, "scale_down"))
    assert done(result, "scale_down"), "and afterwards it goes on"
    silent = [each for each in heard if isinstance(each, Sli) and each.instance_id is None and not each.instances_up]
    assert len(silent) > 100


def test_what_is_under_way_when_an_outage_begins_is_not_verified_on_old_evidence() -> None:
    first = done(played(BURST, scrape_s=SCRAPE_S, initial_replicas=8)[0], "scale_up")[0]
    outage = Outage(begin_s=int(first.decided_s) + 20, end_s=len(BURST))
    result, _ = played(BURST, scrape_s=SCRAPE_S, initial_replicas=8, outages=(outage,))
    (deed,) = result.deeds
    assert (deed.end_state, deed.expect_met) == ("held_unverified", None)
    assert result.held == 1
    assert result.timeline[-1].serving == 8 + deed.replicas, "capacity stays"


def test_a_rule_that_is_off_changes_the_story() -> None:
    result, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10)
    without, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10, rules_off={"scale-down-on-slack"})
    assert result.actions == {"verified": len(result.deeds)}
    assert without.actions == {}
    assert without.cost.replica_s == 10 * len(SLACK)


def test_each_rule_is_told_what_it_was_worth() -> None:
    told = options(scrape_s=SCRAPE_S, initial_replicas=10)
    baseline = replay_pipeline(SLACK, told)
    rules = {each.rule: each for each in counterfactuals(SLACK, told, baseline)}
    assert set(rules) == {"scale-up-on-burn", "scale-up-on-queue", "scale-down-on-slack"}
    saved = 10 * len(SLACK) - baseline.cost.replica_s
    assert rules["scale-down-on-slack"].replica_s == saved > 0
    assert rules["scale-down-on-slack"].usd == pytest.approx(saved / 3600 * Prices().on_demand_usd_per_h)
    assert rules["scale-down-on-slack"].actions == -len(baseline.deeds)
    assert (rules["scale-up-on-burn"].replica_s, rules["scale-up-on-burn"].fired) == (0, 0)


def test_a_rule_that_is_not_there_cannot_be_switched_off() -> None:
    with pytest.raises(ConfigError, match="no rule 'scale-sideways'"):
        played(SLACK, rules_off={"scale-sideways"})


def test_rules_that_scrapes_are_too_far_apart_for_are_named() -> None:
    assert played(SLACK, scrape_s=SCRAPE_S)[0].resting == {}
    resting = played(SLACK, scrape_s=15)[0].resting
    assert list(resting) == ["scale-up-on-burn"]
    assert "10 s" in resting["scale-up-on-burn"]


def test_decisions_are_dated_at_their_scrape_however_far_apart_scrapes_are() -> None:
    """Rules hold time back to a little after the newest tick: here ticks are as far apart as scrapes."""
    result, _ = played(SLACK, scrape_s=15, initial_replicas=10)
    assert result.deeds
    assert {deed.decided_s % 15 for deed in result.deeds} <= {0}
    assert {deed.end_state for deed in result.deeds} == {"verified"}


def test_more_ticks_change_when_things_are_seen_and_not_what_is_done() -> None:
    rare, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10)
    often, _ = played(SLACK, scrape_s=SCRAPE_S, initial_replicas=10, tick_s=1)
    told = [[(deed.rule, deed.replicas, deed.end_state) for deed in each.deeds] for each in (rare, often)]
    assert told[0] == told[1]
    assert often.handled["optiinfra.ticks.v1"] == len(SLACK)


def test_a_lost_zone_takes_its_replicas_and_the_policy_puts_others_in_their_place() -> None:
    arrivals = steps((30, 1800))
    zone = Surroundings(zones={"a": RecordedZone(300, (1, 1, 0, 0, 0, 0))})
    result, heard = played(arrivals, zone, scrape_s=SCRAPE_S, initial_replicas=10, spot_ratio=0.5)
    assert result.spot_losses == ((600, 5),)
    assert result.cost.interrupted > 0
    assert result.cost.attainment_ratio < 1.0
    (notice,) = [each for each in heard if isinstance(each, FleetEvent)]
    assert notice.name == SPOT_NOTICE
    assert notice.at_ms == options().begin_ms + 480_000
    before, after = (next(p for p in result.timeline if p.at_s == at_s) for at_s in (540, 600))
    assert (before.billed, before.spot, after.billed, after.spot) == (10, 5, 5, 0)
    assert all(deed.decided_s >= 600 for deed in done(result, "scale_up"))
    assert result.timeline[-1].serving > 5
    assert result.cost.spot_s == 5 * 600
    prices = Prices()
    held = (result.cost.replica_s - result.cost.spot_s) * prices.on_demand_usd_per_h
    assert result.cost.usd == pytest.approx((held + result.cost.spot_s * prices.spot_usd_per_h) / 3600)


def test_going_through_bytes_changes_nothing() -> None:
    one, heard = played(BURST, scrape_s=SCRAPE_S, initial_replicas=8)
    other, coded = played(BURST, scrape_s=SCRAPE_S, initial_replicas=8, coded=True)
    assert other.to_json() == one.to_json()
    assert coded == heard


def test_pages_of_replicas_go_through_every_stage() -> None:
    result, heard = played(steady(8, 300), scrape_s=SCRAPE_S, entry="replica")
    assert sum(isinstance(each, MetricsSnapshot) for each in heard) == 4 * 60
    assert result.handled["optiinfra.windows.v1"] > 0


def test_static_capacity_is_what_the_busiest_minutes_need() -> None:
    arrivals = np.full(6000, 8, dtype=np.int64)
    arrivals[:60] = 20  # one minute of a hundred
    static = played(arrivals)[0].static_p99
    assert static.replicas == 3, "the 99th percentile lies between 8 and 20, near 8"
    assert static.cost.replica_s == 3 * 6000
    assert 60 * (20 - 3 * CAPACITY_RPS) < static.cost.late < 180 * 20


@pytest.mark.parametrize(
    "arrivals",
    [np.zeros(0, np.int64), np.zeros((2, 2), np.int64), np.array([1, -1]), np.array([0.5])],
    ids=["none", "a table", "negative", "fractions"],
)
def test_arrivals_that_are_no_counts_are_refused(arrivals: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="counts of requests"):
        replay_pipeline(arrivals, options())


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    replay_pipeline(steady(4, 600), options(), progress=lambda done, of: told.append((done, of)))
    assert told == sorted(told)
    assert told[-1] == (600, 600)
    assert len(told) >= 20


_PROGRAM = """
import sys
from optiinfra.replay.spot import RecordedZone
from optiinfra.replay.pipeline import Surroundings
from tests.optiinfra.replay.loads import played, steps
around = Surroundings(zones={'a': RecordedZone(300, (1, 1, 0, 1))})
for entry in ("workload", "replica"):
    arrivals = steps((24, 60), (40, 200), (4, 500))
    result, heard = played(arrivals, around, scrape_s=5, spot_ratio=0.4, initial_replicas=8, entry=entry)
    assert result.deeds and result.spot_losses
    sys.stdout.write(result.to_json() + "".join(message.model_dump_json() for message in heard))
"""


def test_two_processes_with_other_hash_seeds_give_the_same_bytes() -> None:
    root = Path(__file__).parents[3]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "77")
    ]
    assert len(outputs[0]) > 100_000
    assert outputs[0] == outputs[1]
