"""What stages `sizing` and `steering` may never say, whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import BaseModel

from agents.performance.stages import stages
from contracts.events import Finding, Message
from tests.agents.performance import sizing_desk, steering_desk
from tests.agents.performance.steering_desk import NAMES
from tests.agents.watched import SIZING, STEERING
from tests.agents.watching_desk import tick

SEEDS = st.integers(min_value=0, max_value=2**32)
few = effort(max_examples=12, deadline=None)


def sized(seed: int) -> list[Finding]:
    return [each for each in SIZING.step(None, sizing_desk.random_log(seed))[1] if isinstance(each, Finding)]


@given(seed=SEEDS)
@few
def test_replicas_are_told_of_in_order_and_no_oftener_than_a_finding_speaks_for(seed: int) -> None:
    times = [each.at_ms // 15_000 for each in sized(seed)]
    assert times == sorted(set(times))


@given(seed=SEEDS)
@few
def test_nothing_is_short_and_spare_at_once_and_nothing_spare_on_old_evidence(seed: int) -> None:
    for each in sized(seed):
        wanted, ordered = each.value("replicas_wanted"), each.value("replicas_ordered")
        short, spare = each.value("replicas_short"), each.value("replicas_spare")
        if ordered is None:
            assert (wanted, short, spare) == (None, None, None)
            continue
        assert not (short and spare)
        assert (spare or 0) < max(1, ordered)
        if each.freshness_s > sizing_desk.SETTINGS.max_age_s:
            assert spare is None
        if wanted is None:  # until it is known what a replica bears
            continue
        assert short == max(0, wanted - ordered)
        assert spare in (None, max(0, ordered - wanted))
        assert wanted >= ordered or each.freshness_s <= sizing_desk.SETTINGS.max_age_s


@given(seed=SEEDS)
@few
def test_only_replicas_that_answer_are_asked_for_settings_that_are_possible(seed: int) -> None:
    for each in STEERING.step(None, steering_desk.random_log(seed))[1]:
        assert isinstance(each, Finding)
        assert set(each.by_replica) <= set(NAMES)
        if each.kind == "balance":
            assert abs(sum(each.by_replica.values()) - 1) < 1e-9
            continue
        stage = each.value("trial_stage")
        assert bool(stage) == bool(each.by_replica)
        assert (each.value("seqs_wanted") is None) == (not stage)
        if stage == 1:
            assert len(each.by_replica) == 1


def steady_log(rps: float) -> list[Message]:
    """Four replicas that serve so much, ten minutes long."""
    log: list[Message] = []
    for at_s in range(0, 600, 15):
        closed = [sizing_desk.window(at_s, rps, good=round(60 * rps), total=round(60 * rps))] if at_s % 60 == 0 else []
        log += [*closed, sizing_desk.latest(at_s, rps), tick(at_s)]
    return log


def test_what_was_worked_out_for_one_state_is_never_told_of_another() -> None:
    """Two pasts of one workload take turns at one stage, and each hears what a stage that remembers nothing says."""
    kept: list[BaseModel | None] = [None, None]
    anew: list[BaseModel | None] = [None, None]
    capacities: set[float] = set()
    for both in zip(steady_log(8.0), steady_log(20.0), strict=True):
        for past, message in enumerate(both):
            (new,) = stages(sizing_desk.SETTINGS)
            kept[past], said = SIZING.step(kept[past], [message])
            anew[past], told = new.step(anew[past], [message])
            assert said == told
            capacities |= {each.values.get("capacity_rps", 0.0) for each in told if isinstance(each, Finding)}
    assert len(capacities) == 3  # none as yet, and another one of each
