"""Engine settings are tried in life, on the twin, by the real stages, rules, arbiter and executor: a better one is kept
and given to all, a canary that is worse is taken back, and a fleet that has no reason to try anything is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.twin.orders import Told
from connectors.twin.spec import EngineSpec
from contracts.events import Action, Alert, DeadLetter, EndState, Finding, Outcome, StepKind
from contracts.objectives import Objectives
from tests.optiinfra.life import Life, Shape

pytestmark = pytest.mark.timeout(120)

SHAPE = Shape(max_num_seqs=16, requests_per_s=4.8, objectives=Objectives(ttft_s=10.0, itl_s=0.1))
"""A batch of 16 is full at the peak, with waiting requests, while nine tenths of the KV cache are free."""
PEAK, CALM = 1.0, 0.45


def flags(life: Life) -> dict[str, float]:
    return {name: each["max_num_seqs"] for name, each in life.actuation.observe("chat").settings.items()}


def stages(life: Life) -> list[float]:
    found = [each.values["trial_stage"] for each in life.told(Finding) if each.kind == "tuning"]
    return [stage for n, stage in enumerate(found) if n == 0 or found[n - 1] != stage]


def tried(life: Life) -> Outcome:
    """A peak, and then a calm in which the canary is set."""
    life.goes_on(540, PEAK)
    assert not life.told(Action), "while the batches are full, no replica is taken out"
    life.goes_on(180, CALM)
    (outcome,) = life.told(Outcome)
    assert (outcome.action.rule, outcome.end_state) == ("try-engine-setting", EndState.VERIFIED)
    return outcome


def test_a_larger_batch_that_serves_more_is_tried_on_one_replica_kept_and_given_to_the_rest() -> None:
    with Life(SHAPE) as life:
        (canary,) = tried(life).action.spec.by_replica
        assert flags(life) == {name: 32 if name == canary else 16 for name in ("chat-0", "chat-1", "chat-2")}
        life.goes_on(480, 1.08)
        assert len(life.told(Action)) == 1, "nor while the canary is compared with them"
        life.goes_on(360, CALM)
        _, rolled = life.told(Outcome)
        assert (rolled.action.rule, rolled.end_state) == ("roll-out-engine-setting", EndState.VERIFIED)
        assert set(rolled.action.spec.by_replica) == {"chat-0", "chat-1", "chat-2"} - {canary}
        assert set(flags(life).values()) == {32}
        assert stages(life) == [0, 1, 0, 2, 0]
        kept = next(each for each in life.told(Finding) if each.values.get("trial_stage") == 2)
        assert kept.values["goodput_gain_ratio"] > 0.05
        assert "no worse than the rest" in kept.words
        assert not life.told(Alert)
        assert not life.told(DeadLetter)


def test_a_canary_that_is_slower_than_the_rest_is_taken_back_and_its_setting_is_not_tried_again() -> None:
    with Life(SHAPE) as life:
        (canary,) = tried(life).action.spec.by_replica
        machine = life.fleet.replica(canary)
        slow = EngineSpec.of("llama2-70b/a100-80gb/tp4", max_num_seqs=16)
        machine.workload = replace(machine.workload, engine=slow)
        life.fleet.reset(canary, 0.0)
        life.goes_on(600, 0.8)
        _, back = life.told(Outcome)
        assert (back.action.rule, back.end_state) == ("take-back-engine-setting", EndState.VERIFIED)
        assert (set(back.action.spec.by_replica), back.action.spec.settings["max_num_seqs"]) == ({canary}, 16)
        assert set(flags(life).values()) == {16}
        assert stages(life) == [0, 1, 0, 3, 0]
        last = [each for each in life.told(Finding) if each.kind == "tuning"][-1]
        assert last.values["trials_broken"] == 1


def test_a_replica_that_can_do_less_gets_fewer_requests_until_all_are_loaded_alike() -> None:
    with Life(Shape(max_num_seqs=64, requests_per_s=5.5)) as life:
        names = ("chat-0", "chat-1", "chat-2")
        life.actuation.apply("chat", StepKind.WEIGH, "", "by hand", 1, Told(by_replica=dict.fromkeys(names, 1 / 3)))
        machine = life.fleet.replica("chat-2")
        machine.workload = replace(machine.workload, engine=EngineSpec.of("llama2-70b/a100-80gb/tp4"))
        life.fleet.reset("chat-2", 0.0)
        life.goes_on(420)
        first, *_ = life.told(Outcome)
        assert (first.action.rule, first.end_state) == ("rebalance", EndState.VERIFIED)
        shares = life.actuation.observe("chat").shares
        assert shares["chat-2"] == pytest.approx(0.25), "no share moves by more than a quarter of itself at once"
        found = [each for each in life.told(Finding) if each.kind == "balance"]
        assert max(each.values["imbalance_ratio"] for each in found) > 0.4
        assert found[-1].values["imbalance_ratio"] < 0.2
        assert "capacities learnt" in found[-1].words
