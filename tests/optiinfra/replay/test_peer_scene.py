"""A scaler that drives the scene of the whole policy: the same as in its own race, and on spot capacity as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.twin.fluid import Fluid, Span, replay
from contracts.scaling import LoadSeen
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.options import Outage, PipelineOptions
from optiinfra.replay.peer_scene import PeerResult, beside, facts_of, replay_peer
from optiinfra.replay.peers import hpa, kpa, reactive
from optiinfra.replay.policy import Course, Policy
from optiinfra.replay.spot import RecordedZone, SteadyZone, Zone
from optiinfra.replay.strategy import FixedShare
from optiinfra.replay.whole import Asked, run
from tests.optiinfra.replay.loads import options
from tests.optiinfra.replay.traffic import Recorder, counts, race

ARRIVED = counts(5400)


class Keeps:
    """Always asks for the same number."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.looks: list[LoadSeen] = []

    def decide(self, seen: LoadSeen) -> int:
        self.looks.append(seen)
        return self.wanted


def peer(policy: Policy, told: PipelineOptions, zones: dict[str, Zone] | None = None) -> tuple[PeerResult, Recorder]:
    facts = facts_of(told, policy.decide_s)
    recorder = Recorder(policy.build(Course(facts, ARRIVED), policy.grid[0]))
    cloud = cloud_of(told, zones or {}, None, None)
    result = replay_peer(ARRIVED, told, cloud, policy.name, recorder, decide_s=policy.decide_s, initial=9)
    return result, recorder


@pytest.mark.parametrize("policy", [hpa.POLICY, kpa.POLICY, reactive.POLICY], ids=lambda each: each.name)
@pytest.mark.parametrize("blind", [(), (Span(2000, 3000),)], ids=["seen", "blind"])
def test_it_decides_and_serves_as_in_the_race_of_scalers(policy: Policy, blind: tuple[Span, ...]) -> None:
    told = options(service_s=12, outages=tuple(Outage(begin_s=span.begin_s, end_s=span.end_s) for span in blind))
    here, recorder = peer(policy, told)
    facts = facts_of(told, policy.decide_s)
    there = Recorder(policy.build(Course(facts, ARRIVED), policy.grid[0]))
    outcome = replay(Fluid(ARRIVED, Span(0, len(ARRIVED)), 9, blind=blind), facts, there)
    assert recorder.answers == there.answers
    assert here.cost.attainment_ratio == pytest.approx(outcome.attainment_ratio, abs=1e-9)
    # The race bills the drain of a replica that never served, and that of one removed near the end in full.
    assert here.cost.replica_s == pytest.approx(outcome.billed_s, rel=0.03)
    assert [each.removed_blind for each in here.outages] == ([outcome.removed_blind] if blind else [])


def test_doomed_replicas_serve_to_the_end_and_are_not_counted() -> None:
    told = options(spot_notice_s=60)
    cloud = cloud_of(told, {"a": RecordedZone(300, (1, 0, 0)), "b": SteadyZone()}, FixedShare(1.0, replaces=True), None)
    keeps = Keeps(8)
    result = replay_peer(ARRIVED[:900], told, cloud, "keeps", keeps, decide_s=15, initial=8)
    (notice,) = result.notices
    assert (notice.at_s, notice.loss_s, notice.zone, notice.doomed, notice.replaced) == (240, 300, "a", 4, 4)
    assert result.spot_losses == ((300, 4),)
    assert {look.ready + look.starting for look in keeps.looks} == {8}
    assert [look.starting for look in keeps.looks if look.now_s in (225, 240, 285, 300)] == [0, 4, 4, 0]
    assert result.cost.replica_s == 8 * 900 + 4 * 60, "both are billed between notice and loss"
    assert result.cost.spot_s == result.cost.replica_s


def test_a_notice_that_nobody_heeds_is_learnt_from_the_loss() -> None:
    told = options(spot_notice_s=60)
    cloud = cloud_of(told, {"a": RecordedZone(300, (1, 0, 0)), "b": SteadyZone()}, FixedShare(1.0), None)
    keeps = Keeps(8)
    result = replay_peer(ARRIVED[:900], told, cloud, "keeps", keeps, decide_s=15, initial=8)
    assert [each.replaced for each in result.notices] == [0]
    there = {look.now_s: (look.ready, look.starting) for look in keeps.looks}
    assert [there[at_s] for at_s in (285, 300, 315, 360)] == [(8, 0), (4, 0), (4, 4), (8, 0)]


def test_of_replicas_given_up_those_that_still_start_go_first_and_are_billed_no_more() -> None:
    class Falls(Keeps):
        def decide(self, seen: LoadSeen) -> int:
            return 6 if seen.now_s < 30 else 1

    told = options()
    result = replay_peer(ARRIVED[:300], told, cloud_of(told, {}, None, None), "falls", Falls(0), decide_s=15, initial=4)
    assert result.cost.replica_s == 2 * 30 + 3 * (30 + 30) + 300
    assert result.savings["whole"].usd == pytest.approx(
        sum(part.usd for name, part in result.savings.items() if name != "whole")
    )


def test_a_peer_stands_beside_the_whole_policy_on_the_same_days_zones_and_prices(tmp_path: Path) -> None:
    for name, seen in (("east", "[1, 1, 1, 0, 1, 1]"), ("west", "[1, 1, 1, 1, 1, 1]")):
        (tmp_path / f"{name}.json").write_text(f'{{"metadata": {{"gap_seconds": 900}}, "data": {seen}}}')
    small, asked = race(5400), Asked(spot=tmp_path)
    whole = run(small, asked, 60.0)
    told = beside(small, asked, 60.0, hpa.POLICY, {"target_ratio": 0.6, "metric": "rate"})
    assert told.spot_strategy == whole.result.spot_strategy
    assert told.cost.requests == whole.result.cost.requests
    assert told.cost.spot_s > 0
    assert [each.loss_s for each in told.notices] == [each.loss_s for each in whole.result.notices] == [2700]
    assert {each.zone for each in told.notices} == {"east"}
    assert told.savings.keys() == whole.result.savings.keys()
    assert any("1 losses announced" in line for line in whole.lines())
